//! The processor's time-stamp counter.

/// The time-stamp counter, which on current processors counts at a constant rate near the nominal clock. `None`
/// where there is none that a program may read.
#[inline]
pub fn cycles() -> Option<u64> {
    #[cfg(target_arch = "x86_64")]
    {
        // SAFETY: every x86-64 processor has the instruction, it touches no memory, and Linux allows it to programs.
        Some(unsafe { core::arch::x86_64::_rdtsc() })
    }
    #[cfg(not(target_arch = "x86_64"))]
    None
}
