//! The machine, and every line of unsafe code of the image.
//!
//! One processor, no threads; interrupts are taken only inside [`wait_for_interrupt`]. So whatever runs, runs alone.

use crate::nic::Memory;
use core::{
    cell::UnsafeCell,
    mem::MaybeUninit,
    sync::atomic::{AtomicBool, Ordering},
};
use virtio_drivers::{Error, Hal, device::net::VirtIONetRaw, transport::Transport};
use zerocopy::FromZeros;

#[cfg(not(unix))]
pub use machine::*;

/// Entries of each ring.
pub const RING: usize = 64;
/// Length of the virtio header in front of a frame (virtio 1.x section 5.1.6).
pub const HEADER_LEN: usize = 12;

/// Static memory that starts as zeros and is handed out once.
pub struct Zeroed<T>(UnsafeCell<MaybeUninit<T>>, AtomicBool);

// SAFETY: the content is reachable only through `take`, which hands it out once.
unsafe impl<T: Send> Sync for Zeroed<T> {}

impl<T: FromZeros> Zeroed<T> {
    /// All zeros; takes no room in the image.
    #[allow(clippy::new_without_default, reason = "for statics only")]
    pub const fn new() -> Self {
        Self(UnsafeCell::new(MaybeUninit::zeroed()), AtomicBool::new(false))
    }

    /// The memory, the first time.
    #[allow(clippy::mut_from_ref, reason = "handed out once")]
    pub fn take(&'static self) -> Option<&'static mut T> {
        if self.1.swap(true, Ordering::Relaxed) {
            return None;
        }
        // SAFETY: zeros are a `T` (`FromZeros`), and the flag lets only one caller get here.
        Some(unsafe { (*self.0.get()).assume_init_mut() })
    }
}

/// The device broke the rules of virtio; it cannot be used any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broken {
    /// It returned a receive buffer that it does not have.
    Receive(u16),
    /// It returned a transmit buffer that it does not have.
    Transmit(u16),
}

/// A buffer in the hands of the device, and which part of it the device was shown.
struct Lent {
    memory: &'static mut Memory,
    start: usize,
    end: usize,
}

/// The receive and the transmit ring of a virtio-net device, with the buffers that are in them.
///
/// What the device says is checked: it can lose its own frames, but it can neither touch our memory through us nor
/// stop us.
pub struct Rings<H: Hal, T: Transport> {
    net: VirtIONetRaw<H, T, RING>,
    receiving: [Option<Lent>; RING],
    sending: [Option<Lent>; RING],
}

impl<H: Hal, T: Transport> Rings<H, T> {
    /// Takes the device over.
    pub fn new(transport: T) -> Result<Self, Error> {
        Ok(Self {
            net: VirtIONetRaw::new(transport)?,
            receiving: [const { None }; RING],
            sending: [const { None }; RING],
        })
    }

    /// The device's MAC address.
    pub fn mac(&self) -> [u8; 6] {
        self.net.mac_address()
    }

    /// Tells the device that its interrupt was seen.
    pub fn ack_interrupt(&mut self) {
        self.net.ack_interrupt();
    }

    /// Whether a received frame waits.
    pub fn has_received(&self) -> bool {
        self.net.poll_receive().is_some()
    }

    /// Whether the receive ring has room.
    pub fn wants_buffer(&self) -> bool {
        self.receiving.iter().any(Option::is_none)
    }

    /// Lends the device a buffer to receive into: virtio header and frame from `start` on. Gives it back if the
    /// device does not take it.
    pub fn receive_into(&mut self, memory: &'static mut Memory, start: usize) -> Result<(), &'static mut Memory> {
        let end = memory.len();
        let Some(room) = memory.get_mut(start..) else { return Err(memory) };
        // SAFETY: the buffer lies in `receiving` until the device gives it back; nobody reads or writes it there.
        let token = unsafe { self.net.receive_begin(room) };
        match token.map(|token| self.receiving.get_mut(usize::from(token))) {
            Ok(Some(slot)) => {
                *slot = Some(Lent { memory, start, end });
                Ok(())
            }
            // The driver's tokens are below the ring's size.
            Ok(None) => Ok(()),
            Err(_) => Err(memory),
        }
    }

    /// The next received buffer with the length of its frame, which stands behind the header. `None` for a length
    /// that the buffer cannot hold.
    pub fn received(&mut self) -> Result<Option<(&'static mut Memory, Option<usize>)>, Broken> {
        let Some(token) = self.net.poll_receive() else { return Ok(None) };
        let lent = self.receiving.get_mut(usize::from(token)).and_then(Option::take);
        let Lent { memory, start, end } = lent.ok_or(Broken::Receive(token))?;
        let room = memory.get_mut(start..end).unwrap_or_default();
        let fits = room.len().saturating_sub(HEADER_LEN);
        // SAFETY: this is the slice that `receive_begin` got with this token.
        let result = unsafe { self.net.receive_complete(token, room) };
        let len = result.ok().map(|(_, len)| len).filter(|len| *len <= fits);
        Ok(Some((memory, len)))
    }

    /// Sends the frame of `len` bytes that stands behind a virtio header to be written at `start`. Gives the buffer
    /// back if the ring is full or the place is not in the buffer.
    pub fn transmit(
        &mut self,
        memory: &'static mut Memory,
        start: usize,
        len: usize,
    ) -> Result<(), &'static mut Memory> {
        let end = start.saturating_add(HEADER_LEN).saturating_add(len);
        let Some(bytes) = memory.get_mut(start..end) else { return Err(memory) };
        // No checksum to fill in, no super-segment.
        bytes.iter_mut().take(HEADER_LEN).for_each(|byte| *byte = 0);
        // SAFETY: the buffer lies in `sending` until the device gives it back; nobody reads or writes it there.
        let token = unsafe { self.net.transmit_begin(bytes) };
        match token.map(|token| self.sending.get_mut(usize::from(token))) {
            Ok(Some(slot)) => {
                *slot = Some(Lent { memory, start, end });
                Ok(())
            }
            Ok(None) => Ok(()),
            Err(_) => Err(memory),
        }
    }

    /// The next buffer whose frame was sent.
    pub fn sent(&mut self) -> Result<Option<&'static mut Memory>, Broken> {
        let Some(token) = self.net.poll_transmit() else { return Ok(None) };
        let lent = self.sending.get_mut(usize::from(token)).and_then(Option::take);
        let Lent { memory, start, end } = lent.ok_or(Broken::Transmit(token))?;
        let bytes = memory.get(start..end).unwrap_or_default();
        // SAFETY: this is the slice that `transmit_begin` got with this token.
        let _ = unsafe { self.net.transmit_complete(token, bytes) };
        Ok(Some(memory))
    }
}

/// What exists only on the bare machine.
#[cfg(not(unix))]
mod machine {
    use super::Zeroed;
    use crate::{
        descriptors::{self, Gate, Segments, Task},
        interrupts::{self, Apic},
    };
    use core::{
        arch::{asm, global_asm, x86_64},
        cell::UnsafeCell,
        ptr::{NonNull, addr_of, addr_of_mut, read_volatile, write_volatile},
        sync::atomic::{AtomicUsize, Ordering},
    };
    use virtio_drivers::{
        BufferDirection, Hal, PAGE_SIZE, PhysAddr,
        transport::{
            mmio::{MmioTransport, VirtIOHeader},
            pci::bus::{ConfigurationAccess, DeviceFunction},
        },
    };

    global_asm!(include_str!("boot.s"), options(att_syntax));

    /// Length of the longest command line.
    const COMMAND_LINE: usize = 2048;
    /// Pages for the rings.
    const DMA_PAGES: usize = 8;
    /// Magic number of `hvm_start_info`.
    const PVH_MAGIC: u32 = 0x336e_c578;
    /// Interrupt vector of devices and timer.
    const MMIO: usize = 0xfeb0_0000;
    const MMIO_WINDOW: usize = 0x200;
    /// Windows of virtio-mmio.
    pub const MMIO_WINDOWS: usize = 24;
    unsafe extern "C" {
        static boot_exceptions: u8;
        static boot_interrupt: u8;
        static boot_spurious: u8;
        static mut boot_pd: [u64; 2048];
        static _fault_stack_top: u8;
    }

    /// Called by the start-up code on the boot stack.
    #[unsafe(no_mangle)]
    extern "C" fn unikernel_main(start_info: usize) -> ! {
        enable_avx();
        let line = command_line(start_info);
        install_descriptors();
        unmap_low_memory();
        interrupts::start();
        crate::app::run(line)
    }

    /// Called by the exception stubs with what the processor pushed.
    #[unsafe(no_mangle)]
    extern "C" fn unikernel_exception(vector: u64, frame: *const u64) -> ! {
        let with_code = matches!(vector, 8 | 10..=14 | 17 | 21 | 29 | 30);
        // SAFETY: the processor pushed at least five words here.
        let address = unsafe { *frame.add(usize::from(with_code)) };
        let page: u64;
        // SAFETY: reading CR2 changes nothing.
        unsafe { asm!("mov {}, cr2", out(reg) page, options(nomem, nostack, preserves_flags)) };
        crate::console::exception(vector, address, page)
    }

    /// Ends the machine: QEMU's `isa-debug-exit` makes its exit code 33 for success, 35 for failure.
    pub fn exit(success: bool) -> ! {
        // SAFETY: the port belongs to that device, or to nobody.
        unsafe { asm!("out dx, eax", in("dx") 0xf4_u16, in("eax") if success { 16_u32 } else { 17 }) };
        halt()
    }

    /// Stops the processor for good; the machine goes on.
    pub fn halt() -> ! {
        loop {
            // SAFETY: without interrupts nothing wakes it.
            unsafe { asm!("cli", "hlt", options(nomem, nostack)) };
        }
    }

    /// Writes a byte to the first serial port.
    pub fn serial(byte: u8) {
        out8(0x3f8, byte);
    }

    /// Writes bytes to QEMU's debug console.
    fn debug_console(bytes: &[u8]) {
        bytes.iter().for_each(|byte| out8(0xe9, *byte));
    }

    /// defmt's frames go to the debug console.
    #[defmt::global_logger]
    struct Logger;

    struct Frames(UnsafeCell<defmt::Encoder>);
    // SAFETY: one processor, and no interrupt handler that logs.
    unsafe impl Sync for Frames {}
    static FRAMES: Frames = Frames(UnsafeCell::new(defmt::Encoder::new()));

    // SAFETY: everything runs alone; messages do not nest, since formatting one logs nothing.
    unsafe impl defmt::Logger for Logger {
        fn acquire() {
            // SAFETY: as above.
            unsafe { (*FRAMES.0.get()).start_frame(debug_console) }
        }

        unsafe fn flush() {}

        unsafe fn release() {
            // SAFETY: as above.
            unsafe { (*FRAMES.0.get()).end_frame(debug_console) }
        }

        unsafe fn write(bytes: &[u8]) {
            // SAFETY: as above.
            unsafe { (*FRAMES.0.get()).write(bytes, debug_console) }
        }
    }

    /// Chooses an item of QEMU's firmware configuration, from its start; on a machine without one, nothing happens.
    pub fn firmware_select(item: u16) {
        // SAFETY: the port belongs to that device, or to nobody; it touches no memory.
        unsafe { asm!("out dx, ax", in("dx") 0x510_u16, in("ax") item, options(nomem, nostack)) };
    }

    /// The next byte of the chosen item.
    pub fn firmware_byte() -> u8 {
        in8(0x511)
    }

    /// The processor's time-stamp counter.
    pub fn time_stamp() -> u64 {
        // SAFETY: every x86-64 processor has it, and nothing here turns it off.
        unsafe { x86_64::_rdtsc() }
    }

    /// A number that nobody outside can know, as far as the machine has one.
    pub fn random_seed() -> u64 {
        let has_rdrand = x86_64::__cpuid(1).ecx & (1 << 30) != 0;
        let mut seed = time_stamp();
        if has_rdrand {
            let number: u64;
            // SAFETY: the processor says that it has the instruction. A failed read leaves 0, and the clock remains.
            unsafe { asm!("rdrand {}", out(reg) number, options(nomem, nostack)) };
            seed ^= number;
        }
        seed
    }

    /// Sets channel 0 of the interval timer to count down from 65,536 at 1,193,182 Hz, over and over.
    pub fn pit_start() {
        [(0x43, 0x34), (0x40, 0), (0x40, 0)].iter().for_each(|(port, value)| out8(*port, *value));
    }

    /// Its count now.
    pub fn pit_read() -> u16 {
        out8(0x43, 0);
        u16::from_le_bytes([in8(0x40), in8(0x40)])
    }

    /// Sleeps until a device or the timer interrupts. Call [`interrupts::end`] after the device was told.
    pub fn wait_for_interrupt() {
        // SAFETY: the handler only clears the interrupt flag of the state that it returns to. `sti` takes effect
        // behind the next instruction, so no interrupt is lost between the two.
        unsafe { asm!("sti", "hlt", "cli") };
    }

    fn out8(port: u16, value: u8) {
        // SAFETY: called with ports of the interval timer, interrupt controllers, serial port and debug console only;
        // none of them touches memory.
        unsafe { asm!("out dx, al", in("dx") port, in("al") value, options(nomem, nostack, preserves_flags)) };
    }

    fn in8(port: u16) -> u8 {
        let value;
        // SAFETY: as for `out8`.
        unsafe { asm!("in al, dx", in("dx") port, out("al") value, options(nomem, nostack, preserves_flags)) };
        value
    }

    /// Writes a register of an interrupt controller.
    pub fn apic_write(register: Apic, value: u32) {
        // SAFETY: they are mapped one to one. Whatever it does, all that comes of it is an interrupt, and for each of
        // those there is a handler.
        unsafe { write_volatile(register.address() as *mut u32, value) };
    }

    /// Reads one.
    pub fn apic_read(register: Apic) -> u32 {
        // SAFETY: as above.
        unsafe { read_volatile(register.address() as *const u32) }
    }

    /// Makes the first interrupt controllers, of the first PCs, silent.
    pub fn pic_silence() {
        out8(0x21, 0xff);
        out8(0xa1, 0xff);
    }

    /// Copies the boot loader's command line out of low memory; empty if there is none.
    fn command_line(start_info: usize) -> &'static str {
        static LINE: Zeroed<[u8; COMMAND_LINE]> = Zeroed::new();
        let Some(line) = LINE.take() else { return "" };
        let info = start_info as *const u32;
        // SAFETY: the PVH protocol puts `hvm_start_info` (56 bytes) at this address; the first 4 GiB are mapped.
        let (magic, text) = unsafe { (info.read(), info.add(6).cast::<u64>().read_unaligned()) };
        if magic != PVH_MAGIC || text == 0 {
            return "";
        }
        let mut len = 0;
        for (at, slot) in line.iter_mut().enumerate() {
            // SAFETY: a string with a zero behind it, in mapped memory.
            *slot = unsafe { (text as *const u8).add(at).read() };
            if *slot == 0 {
                break;
            }
            len = at.saturating_add(1);
        }
        core::str::from_utf8(line.get(..len).unwrap_or_default()).unwrap_or_default()
    }

    /// Interrupt and exception handlers. Exceptions run on a stack of their own, since a full stack causes them.
    fn install_descriptors() {
        static GDT: Zeroed<Segments> = Zeroed::new();
        static TASK: Zeroed<Task> = Zeroed::new();
        static IDT: Zeroed<[Gate; 256]> = Zeroed::new();
        let (Some(gdt), Some(task), Some(idt)) = (GDT.take(), TASK.take(), IDT.take()) else { return };
        *task = descriptors::task(addr_of!(_fault_stack_top) as u64);
        *gdt = descriptors::segments(task.as_ptr() as u64);
        let exceptions = addr_of!(boot_exceptions) as u64;
        for (stub, entry) in (exceptions..).step_by(16).zip(idt.iter_mut()).take(32) {
            *entry = descriptors::gate(stub, 1);
        }
        // Interrupts that nobody expects change nothing.
        idt[32..].fill(descriptors::gate(addr_of!(boot_spurious) as u64, 0));
        idt[interrupts::VECTOR] = descriptors::gate(addr_of!(boot_interrupt) as u64, 0);
        let gdt_pointer = descriptors::pointer(size_of_val(gdt), gdt.as_ptr() as u64);
        let idt_pointer = descriptors::pointer(size_of_val(idt), idt.as_ptr() as u64);
        // SAFETY: both tables are static and complete; code and data segments keep their numbers and meaning.
        unsafe {
            asm!("lgdt [{}]", in(reg) &gdt_pointer, options(readonly, nostack));
            asm!("lidt [{}]", in(reg) &idt_pointer, options(readonly, nostack));
            asm!("ltr {:x}", in(reg) descriptors::TASK, options(nostack));
        }
    }

    /// Lets AVX instructions run where the processor has them: the ciphers' carry-less multiplication is made of those.
    fn enable_avx() {
        const XSAVE_AND_AVX: u32 = 1 << 26 | 1 << 28;
        if x86_64::__cpuid(1).ecx & XSAVE_AND_AVX != XSAVE_AND_AVX {
            return;
        }
        // SAFETY: the processor has both (Intel SDM volume 1, 13.3). More registers than before need no more care, since
        // nothing here saves any: interrupt handlers use none.
        unsafe {
            asm!("mov {0}, cr4", "or {0}, 0x40000", "mov cr4, {0}", out(reg) _, options(nostack));
            asm!("xsetbv", in("ecx") 0, in("eax") 0b111, in("edx") 0, options(nostack));
        }
    }

    /// From here on null pointers and stack overflows are page faults.
    fn unmap_low_memory() {
        // SAFETY: image, rings and devices lie above; what was needed from below has been copied.
        unsafe {
            (*addr_of_mut!(boot_pd))[0] = 0;
            asm!("mov {0}, cr3", "mov cr3, {0}", out(reg) _, options(nostack));
        }
    }

    /// Memory for virtio: physical and virtual addresses are the same.
    pub struct Identity;

    // SAFETY: pages come from static memory, once each, zeroed by the boot loader; addresses map one to one.
    unsafe impl Hal for Identity {
        fn dma_alloc(pages: usize, _: BufferDirection) -> (PhysAddr, NonNull<u8>) {
            #[repr(align(4096))]
            struct Pages(UnsafeCell<[u8; PAGE_SIZE * DMA_PAGES]>);
            // SAFETY: every page is handed out once.
            unsafe impl Sync for Pages {}
            static PAGES: Pages = Pages(UnsafeCell::new([0; PAGE_SIZE * DMA_PAGES]));
            static USED: AtomicUsize = AtomicUsize::new(0);
            let first = USED.fetch_add(pages, Ordering::Relaxed);
            if first.saturating_add(pages) > DMA_PAGES {
                return (0, NonNull::dangling());
            }
            let start = PAGES.0.get().cast::<u8>().wrapping_add(first.saturating_mul(PAGE_SIZE));
            (start as PhysAddr, NonNull::new(start).unwrap_or(NonNull::dangling()))
        }

        unsafe fn dma_dealloc(_: PhysAddr, _: NonNull<u8>, _: usize) -> i32 {
            // The rings live as long as the machine; their pages are not used twice.
            0
        }

        unsafe fn mmio_phys_to_virt(address: PhysAddr, _: usize) -> NonNull<u8> {
            NonNull::new(address as *mut u8).unwrap_or(NonNull::dangling())
        }

        unsafe fn share(buffer: NonNull<[u8]>, _: BufferDirection) -> PhysAddr {
            buffer.cast::<u8>().as_ptr() as PhysAddr
        }

        unsafe fn unshare(_: PhysAddr, _: NonNull<[u8]>, _: BufferDirection) {}
    }

    /// PCI configuration space through its two ports.
    pub struct Ports;

    impl Ports {
        fn select(function: DeviceFunction, register: u8) {
            let DeviceFunction { bus, device, function } = function;
            let address = 1 << 31
                | u32::from(bus) << 16
                | u32::from(device) << 11
                | u32::from(function) << 8
                | u32::from(register & 0xfc);
            // SAFETY: selects a register; on a machine without PCI, nothing.
            unsafe { asm!("out dx, eax", in("dx") 0xcf8_u16, in("eax") address, options(nomem, nostack)) };
        }
    }

    impl ConfigurationAccess for Ports {
        fn read_word(&self, function: DeviceFunction, register: u8) -> u32 {
            Self::select(function, register);
            let value;
            // SAFETY: reads the selected register; all ones on a machine without PCI.
            unsafe { asm!("in eax, dx", in("dx") 0xcfc_u16, out("eax") value, options(nomem, nostack)) };
            value
        }

        fn write_word(&mut self, function: DeviceFunction, register: u8, data: u32) {
            Self::select(function, register);
            // SAFETY: virtio-drivers writes only what configures the device that it was given.
            unsafe { asm!("out dx, eax", in("dx") 0xcfc_u16, in("eax") data, options(nomem, nostack)) };
        }

        unsafe fn unsafe_clone(&self) -> Self {
            Self
        }
    }

    /// The device in a window of virtio-mmio of QEMU's microvm, if there is one; there are [`MMIO_WINDOWS`].
    pub fn mmio_device(window: usize) -> Option<MmioTransport<'static>> {
        if window >= MMIO_WINDOWS {
            return None;
        }
        let address = MMIO_WINDOW.saturating_mul(window).saturating_add(MMIO);
        let header = NonNull::new(address as *mut VirtIOHeader)?;
        // SAFETY: one of the windows, mapped for ever; `new` checks its magic number.
        unsafe { MmioTransport::new(header, MMIO_WINDOW) }.ok()
    }
}
