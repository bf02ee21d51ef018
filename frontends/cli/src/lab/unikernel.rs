//! Unikernels: QEMU machines whose network card is a tap in the server's namespace, and a port of its bridge.

use super::build::Lab;
use super::netns;
use super::topology::{UNDERLAY_MTU, Vm};
use anyhow::{Context, Result, ensure};
use std::path::Path;
use std::process::Command;

/// QEMU for x86-64.
pub const QEMU: &str = "qemu-system-x86_64";
/// The Debian package that has it.
pub const PACKAGE: &str = "qemu-system-x86";
/// Memory of a machine, in MiB.
const MEMORY: u32 = 32;

impl Lab {
    /// The tap that a unikernel's machine will use, on the server where the machine runs.
    pub fn lay_tap(vm: &Vm) -> Result<()> {
        let (namespace, tap) = (&vm.namespace, &vm.name);
        netns::ip(namespace, &format!("tuntap add {tap} mode tap"))?;
        netns::ip(namespace, &format!("link set {tap} mtu {UNDERLAY_MTU} arp off up")).map(drop)
    }

    /// Starts a unikernel's machine: every first one with virtio-mmio, every second one with virtio-pci.
    pub fn start_unikernel(&mut self, index: usize, image: &Path) -> Result<()> {
        ensure!(
            image.is_file(),
            "there is no unikernel image {}: make one by `cargo xtask unikernel`",
            image.display()
        );
        let vm = &self.topology.unikernels[index];
        let log = self.directory.join(format!("{}.defmt", vm.name));
        let command = machine(vm, image, &log, index.is_multiple_of(2));
        let (name, file) = (format!("QEMU of {}", vm.name), format!("qemu-{}", vm.name));
        self.start(&name, command, &file).map(drop).context("starting QEMU")
    }
}

fn machine(vm: &Vm, image: &Path, log: &Path, micro: bool) -> Command {
    let mac = vm.mac;
    let (machine, device) = if micro {
        ("microvm,rtc=off", format!("virtio-net-device,netdev=net,mac={mac}"))
    } else {
        ("q35", format!("virtio-net-pci,disable-legacy=on,netdev=net,mac={mac}"))
    };
    let mut command = netns::command(&vm.namespace, QEMU, ["-machine", machine]);
    command.args(["-accel", "tcg", "-cpu", "max", "-m", &MEMORY.to_string(), "-nodefaults", "-no-reboot"]);
    command.args(["-global", "virtio-mmio.force-legacy=false", "-display", "none", "-serial", "stdio"]);
    command.args(["-device", "isa-debugcon,iobase=0xe9,chardev=log", "-device", "isa-debug-exit,iobase=0xf4"]);
    command.arg("-chardev").arg(format!("file,id=log,path={}", log.display()));
    command.arg("-netdev").arg(format!("tap,id=net,ifname={},script=no,downscript=no", vm.name));
    command.args(["-device", &device]).arg("-kernel").arg(image).arg("-append").arg(format!("ip={}/24", vm.ip));
    command
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::process::describe;
    use crate::lab::topology::{Plan, Topology};

    #[test]
    fn a_machine_has_one_network_card_and_that_is_the_vnics() {
        let lab = Topology::new("t", Plan { pairs: 1, networks: 1, unikernels: 2, cipher: None }).unwrap();
        let [first, second] = &lab.unikernels[..] else { panic!("not two") };
        assert_eq!((first.server, second.server), (1, 0));
        let line = describe(&machine(first, Path::new("image"), Path::new("log"), true));
        assert!(line.starts_with("ip netns exec cvsw-t-server-b qemu-system-x86_64 -machine microvm"), "{line}");
        assert!(line.contains("virtio-net-device,netdev=net,mac=02:00:00:00:01:b5"), "{line}");
        let line = describe(&machine(second, Path::new("image"), Path::new("log"), false));
        assert!(line.contains("ifname=blue-u2") && line.contains("virtio-net-pci"), "{line}");
        assert!(line.ends_with("-append ip=10.0.0.182/24"), "{line}");
        assert_eq!(line.matches("-netdev").count(), 1);
    }
}
