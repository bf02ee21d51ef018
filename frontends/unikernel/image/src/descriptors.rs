//! The processor's tables: what segments, interrupts and the stack for exceptions look like (Intel SDM volume 3,
//! chapters 3, 6 and 8).

/// Selector of the code segment.
const CODE: u64 = 0x08;
/// Selector of the task state.
pub const TASK: u16 = 0x18;
/// Bytes of a task state without an I/O map.
const TASK_LEN: u16 = 104;

/// A global descriptor table: nothing, code, data, and the task state in two.
pub type Segments = [u64; 5];
/// A 64-bit task state segment, in words.
pub type Task = [u32; 26];
/// An entry of the interrupt descriptor table.
pub type Gate = [u64; 2];

/// The segments; `task` is the address of the task state.
pub const fn segments(task: u64) -> Segments {
    let low = TASK_LEN.saturating_sub(1) as u64 | (task & 0xff_ffff) << 16 | 0x89 << 40 | (task >> 24 & 0xff) << 56;
    [0, 0x00af_9b00_0000_ffff, 0x00cf_9300_0000_ffff, low, task >> 32]
}

/// A task state whose only content is the end of the first interrupt stack.
pub const fn task(stack: u64) -> Task {
    let mut task = [0; 26];
    [task[9], task[10], task[25]] = [stack as u32, (stack >> 32) as u32, (TASK_LEN as u32) << 16];
    task
}

/// An interrupt gate to `handler`, which runs with interrupts off and on interrupt stack `stack` (0: on the present one).
pub const fn gate(handler: u64, stack: u64) -> Gate {
    let low = handler & 0xffff | CODE << 16 | stack << 32 | 0x8e << 40;
    [low | (handler >> 16 & 0xffff) << 48, handler >> 32]
}

/// What LGDT and LIDT take: the table's limit and address.
pub const fn pointer(len: usize, address: u64) -> [u8; 10] {
    let [l0, l1] = (len.saturating_sub(1) as u16).to_le_bytes();
    let [a0, a1, a2, a3, a4, a5, a6, a7] = address.to_le_bytes();
    [l0, l1, a0, a1, a2, a3, a4, a5, a6, a7]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The manual's pictures, field by field.
    #[test]
    fn addresses_are_in_their_places() {
        assert_eq!(usize::from(TASK), 8 * 3, "the fourth entry");
        let address = 0x0123_4567_89ab_cdef;
        let [low, high] = gate(address, 1);
        assert_eq!((low, high), (0x89ab_8e01_0008_cdef, 0x0123_4567));
        let [.., low, high] = segments(address);
        assert_eq!((low, high), (0x8900_89ab_cdef_0067, 0x0123_4567));
        let task = task(address);
        assert_eq!((task[9], task[10], task[25] >> 16), (0x89ab_cdef, 0x0123_4567, 104));
        assert_eq!(pointer(40, address), [39, 0, 0xef, 0xcd, 0xab, 0x89, 0x67, 0x45, 0x23, 0x01]);
    }
}
