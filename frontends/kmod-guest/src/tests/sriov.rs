//! A virtual function of a NIC (SR-IOV) as the lower device, and virtio-net as the peer: QEMU's Intel 82576.

use super::{
    esp,
    life::{engines, under_traffic},
    traffic::{WAYS, nics_have_offloads, set_mtu_and_offloads, tagged_frames, tcp_both_ways},
    vxlan,
};
use crate::{
    system::{run, run_all, wait_for},
    topology::Pair,
};
use anyhow::{Context, Result, ensure};
use std::{
    fs,
    path::{Path, PathBuf},
};

const MIB: usize = 1 << 20;
const MAX_MTU: u32 = 9000;

/// A NIC that has virtual functions.
struct Physical {
    name: String,
}

impl Physical {
    /// Loads the drivers of the NIC and of its functions, and finds it.
    fn find() -> Result<Self> {
        run_all("modprobe igb\nmodprobe igbvf")?;
        let name = device_of("igb")?.context("this machine has no NIC with virtual functions")?;
        // Nothing of its own on the wire.
        fs::write(format!("/proc/sys/net/ipv6/conf/{name}/disable_ipv6"), "1")?;
        run(&format!("ip link set {name} mtu {MAX_MTU} up"))?;
        Ok(Self { name })
    }

    fn file(&self, name: &str) -> PathBuf {
        Path::new("/sys/class/net").join(&self.name).join(name)
    }

    fn write(&self, name: &str, text: &str) -> Result<()> {
        fs::write(self.file(name), text).with_context(|| format!("writing {text} to {name} of {}", self.name))
    }

    /// Makes one function: its device.
    fn add_function(&self) -> Result<String> {
        // Making functions resets the NIC; a function's driver that begins before the NIC is there again has to try again later.
        self.write("device/sriov_drivers_autoprobe", "0")?;
        self.write("device/sriov_numvfs", "1")?;
        wait_for("the link of the NIC", || Ok(fs::read_to_string(self.file("carrier"))?.trim() == "1"))?;
        self.write("device/sriov_drivers_autoprobe", "1")?;
        let function = fs::canonicalize(self.file("device/virtfn0"))?;
        let address = function.file_name().context("the function has no address")?.to_string_lossy().into_owned();
        fs::write("/sys/bus/pci/drivers_probe", address).context("giving the function its driver")?;
        let mut devices = fs::read_dir(function.join("net")).context("the function has no driver")?;
        let device = devices.next().context("the function has no device")??;
        Ok(device.file_name().to_string_lossy().into_owned())
    }

    /// Ends all functions, whoever uses them.
    fn remove_functions(&self) -> Result<()> {
        self.write("device/sriov_numvfs", "0")
    }

    /// A cvsw on a new function; the function goes when `work` is done.
    fn with_pair<T>(&self, work: impl FnOnce(&Pair) -> Result<T>) -> Result<T> {
        let mut peer = None;
        // It comes back when the last namespace that it was in has ended.
        wait_for("the other NIC", || {
            peer = device_of("virtio_net")?;
            Ok(peer.is_some())
        })?;
        let pair = Pair::nics(&self.add_function()?, &peer.unwrap_or_default())?;
        let driver = pair.vm.run("ethtool -i eth0")?;
        ensure!(driver.starts_with("driver: igbvf\n"), "the lower device is no virtual function:\n{driver}");
        let result = work(&pair)?;
        drop(pair);
        self.remove_functions()?;
        Ok(result)
    }
}

/// The device of this namespace that has this driver.
fn device_of(driver: &str) -> Result<Option<String>> {
    for entry in fs::read_dir("/sys/class/net")? {
        let entry = entry?;
        let link = fs::read_link(entry.path().join("device/driver"));
        if link.is_ok_and(|link| link.ends_with(driver)) {
            return Ok(Some(entry.file_name().to_string_lossy().into_owned()));
        }
    }
    Ok(None)
}

/// Every kind of offload, tags, a tunnel and encryption over it; its end under traffic, and the module's.
pub fn sriov() -> Result<()> {
    let physical = Physical::find()?;
    physical.with_pair(|pair| {
        for (mtu, offloads) in WAYS {
            set_mtu_and_offloads(pair, mtu, offloads)?;
            nics_have_offloads(pair, if offloads { "on" } else { "off" })?;
            tcp_both_ways(pair, MIB, &format!("virtual function, MTU {mtu}, offloads {offloads}"))?;
        }
        set_mtu_and_offloads(pair, 1500, true)?;
        tagged_frames(pair).context("tagged frames")?;
        vxlan::tunnel(pair).context("VXLAN")
    })?;
    physical.with_pair(|pair| esp::encrypted(pair).context("encryption"))?;
    for what in ["function", "module"] {
        physical.with_pair(|pair| end(&physical, pair, what)).with_context(|| format!("the end of the {what}"))?;
    }
    run("modprobe cvsw").map(drop)
}

/// The function or the module goes under traffic from both sides, and nothing stays.
fn end(physical: &Physical, pair: &Pair, what: &str) -> Result<()> {
    pair.flows("udp,actions=mod_nw_tos:4")?;
    let ([out, received], ()) = under_traffic(pair, || {
        let counted =
            || Ok(pair.vm.counter("cvsw0", "tx_frames")? > 100 && pair.vm.counter("cvsw0", "rx_frames")? > 100);
        wait_for("traffic from both sides", counted)?;
        if what == "module" { run("rmmod cvsw").map(drop) } else { physical.remove_functions() }
    })?;
    println!("KMOD-NOTE the end of the {what} under {out} frames out, {received} in");
    wait_for("the end of the engine", || Ok(engines()? == 0))?;
    ensure!(!pair.vm.run("ip link")?.contains("cvsw0"), "a device without its {what}");
    Ok(())
}
