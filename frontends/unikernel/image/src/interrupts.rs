//! Interrupts: every device, and a slow timer, wake the machine by one and the same (Intel SDM volume 3, chapter 11, and the
//! 82093AA's data sheet for the I/O APIC).

use crate::sys::{apic_read, apic_write, pic_silence};

/// The interrupt of devices and timer.
pub const VECTOR: usize = 0x20;
const SPURIOUS_VECTOR: u32 = 0xff;
/// Nanoseconds, with the gigahertz bus of QEMU and KVM, between wake-ups of an idle machine.
const TIMER_PERIOD: u32 = 10_000_000;

/// A register of an interrupt controller.
#[derive(Clone, Copy)]
pub enum Apic {
    /// The processor's own: end of interrupt.
    End,
    /// Spurious interrupts, and whether it is on at all.
    Spurious,
    /// What the timer raises.
    Timer,
    /// From where it counts down.
    TimerCount,
    /// How fast.
    TimerDivider,
    /// Chooses a register of the first or the second I/O APIC.
    Select(Which),
    /// The chosen register.
    Content(Which),
}

/// One of the I/O APICs.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Which {
    /// Its pins from 16 on are PCI's (level-triggered).
    First,
    /// A microvm has it; all of virtio-mmio's are there (edge-triggered).
    Second,
}

impl Apic {
    /// Where it is.
    pub const fn address(self) -> usize {
        match self {
            Self::End => 0xfee0_00b0,
            Self::Spurious => 0xfee0_00f0,
            Self::Timer => 0xfee0_0320,
            Self::TimerCount => 0xfee0_0380,
            Self::TimerDivider => 0xfee0_03e0,
            Self::Select(Which::First) => 0xfec0_0000,
            Self::Content(Which::First) => 0xfec0_0010,
            Self::Select(Which::Second) => 0xfec1_0000,
            Self::Content(Which::Second) => 0xfec1_0010,
        }
    }
}

/// Routes every device and the timer to [`VECTOR`].
pub fn start() {
    pic_silence();
    apic_write(Apic::Spurious, 0x100 | SPURIOUS_VECTOR);
    apic_write(Apic::TimerDivider, 0b1011);
    apic_write(Apic::Timer, 1 << 17 | VECTOR as u32);
    apic_write(Apic::TimerCount, TIMER_PERIOD);
    for (which, first_pin, trigger) in [(Which::First, 16, 1 << 15), (Which::Second, 0, 0)] {
        apic_write(Apic::Select(which), 1);
        let version = apic_read(Apic::Content(which));
        if version == 0 || version == u32::MAX {
            continue;
        }
        for pin in first_pin..=(version >> 16 & 0xff) {
            let entry = pin.saturating_mul(2).saturating_add(0x10);
            apic_write(Apic::Select(which), entry | 1);
            apic_write(Apic::Content(which), 0);
            apic_write(Apic::Select(which), entry);
            apic_write(Apic::Content(which), trigger | VECTOR as u32);
        }
    }
}

/// Lets the next interrupt come.
pub fn end() {
    apic_write(Apic::End, 0);
}
