//! The tests, in the order in which they run.

mod actions;
mod bond;
mod checks;
mod control;
mod control_key;
mod ctl;
mod esp;
mod fuzz;
mod lanes;
mod life;
mod managed;
mod sriov;
mod traffic;
mod unikernel;
mod vxlan;
mod wiped;

use anyhow::Result;

/// One test.
pub struct Test {
    /// Which runs it belongs to.
    pub group: &'static str,
    /// Its name.
    pub name: &'static str,
    /// What to run.
    pub run: fn() -> Result<()>,
}

/// All of them. `functions`: behaviour, also with a slow checking allocator. `bulk`: much data. `controller`:
/// with Open vSwitch and the controller outside of the machine. `unikernel`: with a unikernel there, too. `sriov`: on a NIC with virtual functions. `checks`: for a
/// kernel that has kmemleak and lockdep. `measure`: by name only.
pub const TESTS: &[Test] = &[
    Test { group: "functions", name: "pass_through", run: traffic::pass_through },
    Test { group: "functions", name: "ctl", run: ctl::ctl },
    Test { group: "functions", name: "actions", run: actions::actions },
    Test { group: "functions", name: "vlan_actions", run: actions::vlan_actions },
    Test { group: "functions", name: "address_translation", run: actions::address_translation },
    Test { group: "functions", name: "vxlan", run: vxlan::vxlan },
    Test { group: "functions", name: "esp", run: esp::esp },
    Test { group: "functions", name: "portable_ciphers", run: esp::portable_ciphers },
    Test { group: "functions", name: "keys", run: esp::keys },
    Test { group: "functions", name: "keys_are_wiped", run: wiped::keys_are_wiped },
    Test { group: "functions", name: "control", run: control::control },
    Test { group: "functions", name: "control_key", run: control_key::control_key },
    Test { group: "functions", name: "lanes", run: lanes::lanes },
    Test { group: "functions", name: "encrypted_lanes", run: lanes::encrypted_lanes },
    Test { group: "functions", name: "bond", run: bond::bond },
    Test { group: "functions", name: "follows_lower_device", run: life::follows_lower_device },
    Test { group: "functions", name: "lower_device_moves", run: life::lower_device_moves },
    Test { group: "functions", name: "fuzz", run: fuzz::fuzz },
    Test { group: "functions", name: "add_and_delete", run: life::add_and_delete },
    Test { group: "functions", name: "teardown", run: life::teardown },
    Test { group: "functions", name: "self_test", run: life::self_test },
    Test { group: "controller", name: "managed", run: managed::managed },
    Test { group: "unikernel", name: "unikernel", run: unikernel::unikernel },
    Test { group: "bulk", name: "tcp_veth", run: traffic::tcp_veth },
    Test { group: "bulk", name: "tcp_virtio", run: traffic::tcp_virtio },
    Test { group: "sriov", name: "sriov", run: sriov::sriov },
    Test { group: "checks", name: "kernel_checks", run: checks::kernel_checks },
    Test { group: "measure", name: "contention", run: traffic::contention },
];
