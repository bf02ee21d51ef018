//! An interface that follows its device's MTU.

use crate::{device::CvswDevice, engine::Engine, nic::Nic};
use cvsw_core::{crypto::Ciphers, mtu::IpMtu};
use smoltcp::{
    iface::{Config, Interface, PollResult, SocketSet},
    phy::Device,
    time::Instant,
    wire::HardwareAddress,
};

/// A smoltcp interface for a [`CvswDevice`]. Its MTU is the one that the controller set last.
pub struct CvswInterface {
    interface: Interface,
    mtu: IpMtu,
    seed: u64,
}

impl CvswInterface {
    /// An interface without addresses; its hardware address is the vNIC's. `seed` should differ from boot to boot:
    /// port and sequence numbers come from it.
    ///
    /// # Panics
    /// smoltcp panics if the vNIC's address is not unicast.
    pub fn new<N: Nic, E: Engine, C: Ciphers>(
        seed: u64,
        device: &mut CvswDevice<'_, N, E, C>,
        now: Instant,
    ) -> Self {
        let address = HardwareAddress::Ethernet(smoltcp::wire::EthernetAddress(device.mac()));
        Self { interface: make(address, seed, device, now), mtu: device.parameters().mtu, seed }
    }

    /// The interface, to ask for addresses and routes.
    pub const fn interface(&self) -> &Interface {
        &self.interface
    }

    /// The interface: to set addresses and routes, which stay through changes of the MTU, and to open connections.
    /// Multicast groups that you join do not stay: join again when [`CvswInterface::mtu`] has changed.
    pub const fn interface_mut(&mut self) -> &mut Interface {
        &mut self.interface
    }

    /// The IP MTU that the stack has now.
    pub const fn mtu(&self) -> IpMtu {
        self.mtu
    }

    /// Runs vNIC and stack: control messages, received frames, what sockets have to send.
    pub fn poll<N: Nic, E: Engine, C: Ciphers>(
        &mut self,
        now: Instant,
        device: &mut CvswDevice<'_, N, E, C>,
        sockets: &mut SocketSet<'_>,
    ) -> PollResult {
        device.service(now);
        self.follow_mtu(device, now);
        let result = self.interface.poll(now, device, sockets);
        // What has just come may be a command, whose answer should not wait for the next poll.
        if device.service(now) {
            self.follow_mtu(device, now);
        }
        result
    }

    /// Makes the interface again if the MTU was changed: smoltcp asks its device only once. Sockets live outside
    /// and stay; the neighbours are learned again.
    fn follow_mtu<N: Nic, E: Engine, C: Ciphers>(&mut self, device: &mut CvswDevice<'_, N, E, C>, now: Instant) {
        let mtu = device.parameters().mtu;
        if mtu == self.mtu {
            return;
        }
        self.mtu = mtu;
        // Any other odd number would do: the new interface must not repeat the old one's random numbers.
        self.seed = self.seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(u64::from(mtu.get()));
        let mut new = make(self.interface.hardware_addr(), self.seed, device, now);
        new.set_any_ip(self.interface.any_ip());
        new.update_ip_addrs(|addresses| addresses.extend(self.interface.ip_addrs().iter().copied()));
        self.interface.routes_mut().update(|old| new.routes_mut().update(|routes| core::mem::swap(routes, old)));
        self.interface = new;
    }
}

fn make(address: HardwareAddress, seed: u64, device: &mut impl Device, now: Instant) -> Interface {
    let mut config = Config::new(address);
    config.random_seed = seed;
    Interface::new(config, device, now)
}
