//! Finding the network device.

use crate::sys::{Identity, MMIO_WINDOWS, Ports, mmio_device};
use virtio_drivers::transport::{
    DeviceType, SomeTransport, Transport,
    pci::{
        PciTransport,
        bus::{Command, PciRoot},
        virtio_device_type,
    },
};

/// The machine's first network device, on PCI (q35) or among the windows of virtio-mmio (microvm).
pub fn find_network() -> Option<SomeTransport<'static>> {
    let mut root = PciRoot::new(Ports);
    let found = root
        .enumerate_bus(0)
        .find(|(_, info)| virtio_device_type(info) == Some(DeviceType::Network))
        .map(|(function, _)| function);
    if let Some(function) = found {
        let (_, command) = root.get_status_command(function);
        root.set_command(function, command | Command::MEMORY_SPACE | Command::BUS_MASTER);
        return PciTransport::new::<Identity, _>(&mut root, function).ok().map(Into::into);
    }
    // QEMU fills the windows from the last one.
    let mut devices = (0..MMIO_WINDOWS).rev().filter_map(mmio_device);
    devices.find(|device| device.device_type() == DeviceType::Network).map(Into::into)
}
