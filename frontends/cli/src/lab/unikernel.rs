//! Unikernels: QEMU machines whose network card is a tap in the server's namespace, and a port of its bridge.

use super::build::Lab;
use super::netns;
use super::topology::{UNDERLAY_MTU, Vm};
use anyhow::{Context, Result, ensure};
use std::os::unix::process::CommandExt;
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
    // Keys in clear are for a laboratory: nobody else is on its control channel.
    let line = format!("ip={}/24 ip={}/64 accept-keys-in-clear=1", vm.ip, vm.ip6());
    netns::command(&vm.namespace, QEMU, arguments(image, micro, &vm.name, &vm.mac.to_string(), log, &line))
}

/// QEMU's arguments for a machine on a tap; `log` is for defmt, `line` the image's command line.
fn arguments(image: &Path, micro: bool, tap: &str, mac: &str, log: &Path, line: &str) -> Vec<String> {
    let (machine, device) =
        if micro { ("microvm,rtc=off", "virtio-net-device") } else { ("q35", "virtio-net-pci,disable-legacy=on") };
    // There could be a second processor: so QEMU 7.2 translates the guest's memory barriers, which it leaves out for a
    // single one, though the virtqueues need them (docs/src/kernel-module.md).
    let fixed = format!(
        "-machine {machine} -accel tcg,thread=multi -smp 1,maxcpus=2 -cpu max -m {MEMORY} -nodefaults -no-reboot -display none -serial stdio \
         -global virtio-mmio.force-legacy=false -device isa-debugcon,iobase=0xe9,chardev=log \
         -device isa-debug-exit,iobase=0xf4 -netdev tap,id=net,ifname={tap},script=no,downscript=no \
         -device {device},netdev=net,mac={mac}"
    );
    let own = [
        "-chardev".to_owned(),
        format!("file,id=log,path={}", log.display()),
        "-kernel".to_owned(),
        image.display().to_string(),
        "-append".to_owned(),
        line.to_owned(),
    ];
    fixed.split_whitespace().map(str::to_owned).chain(own).collect()
}

/// Becomes the QEMU of a `microvm` on a tap of this namespace, for tests outside of a laboratory.
pub fn become_machine(image: &Path, tap: &str, mac: &str, log: &Path, line: &str) -> Result<()> {
    let error = Command::new(QEMU).args(arguments(image, true, tap, mac, log, line)).exec();
    Err(error).with_context(|| format!("starting {QEMU}, which is in Debian's package {PACKAGE}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::process::describe;
    use crate::lab::topology::{Plan, Topology};

    #[test]
    fn a_machine_has_one_network_card_and_that_is_the_vnics() {
        let lab = Topology::new("t", Plan { pairs: 1, networks: 1, unikernels: 2, cipher: None, offloads: false })
            .unwrap();
        let [first, second] = &lab.unikernels[..] else { panic!("not two") };
        assert_eq!((first.server, second.server), (1, 0));
        let line = describe(&machine(first, Path::new("image"), Path::new("log"), true));
        assert!(line.starts_with("ip netns exec cvsw-t-server-b qemu-system-x86_64 -machine microvm"), "{line}");
        assert!(line.contains("virtio-net-device,netdev=net,mac=02:00:00:00:01:b5"), "{line}");
        let line = describe(&machine(second, Path::new("image"), Path::new("log"), false));
        assert!(line.contains("ifname=blue-u2") && line.contains("virtio-net-pci"), "{line}");
        assert!(line.ends_with("-append ip=10.0.0.182/24 ip=fd00::b6/64 accept-keys-in-clear=1"), "{line}");
        assert_eq!(line.matches("-netdev").count(), 1);
    }
}
