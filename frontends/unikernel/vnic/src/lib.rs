//! CVSW below a [smoltcp] stack: OpenFlow 1.0 match/action, VXLAN and the control of a CVSW controller in the
//! virtual NIC of an embedded system or a unikernel. `no_std`, no allocation, no `unsafe`.
//!
//! ```text
//! sockets
//! smoltcp::iface::Interface     CvswInterface: rebuilds it when the controller sets the MTU, keeps the sockets
//! smoltcp::phy::Device          CvswDevice: the engine, in place, both ways
//! Nic                           your driver, which owns the buffers; or PhyNic around any smoltcp device
//! ```
//!
//! # Why a trait of its own below
//!
//! A smoltcp device hands out received frames read-only, and asks for the length of a frame before it is written.
//! An engine that encapsulates and rewrites in place needs the opposite: frames that can be changed, with free room
//! in front. [`Nic`] is that: frames move as owned buffers, up and down, and are never copied. A driver that has
//! only a [`phy::Device`](smoltcp::phy::Device) is taken too, by [`PhyNic`], at the price of one copy each way.
//!
//! # What the controller sets
//!
//! - **MTU**: from the next [`CvswInterface::poll`] on. smoltcp reads its device's MTU once, when an `Interface` is
//!   made; so the interface is made again, with its addresses and routes, while sockets and their connections live
//!   on. An MTU outside [`MIN_MTU`] and [`CvswDevice::max_mtu`] is refused, the old one stays.
//! - **Offload features**: smoltcp computes every checksum itself and makes no super-segments, so none can be
//!   honoured. [`Parameters`] holds what was asked for beside what is in force.
//! - **Flows**: the engine's own business.
//! - **Keys**: the engine's, and the ciphers' that [`CvswDevice::with_ciphers`] was given, for example
//!   `cvsw_core::crypto::Portable`. The controller may send them when
//!   [`accept_keys_in_clear`](cvsw_core::Cvsw::accept_keys_in_clear) says so; or add your own with
//!   [`CvswDevice::engine_and_ciphers`]. Say
//!   [`set_boot_generation`](cvsw_core::Cvsw::set_boot_generation) at every start, and look at
//!   [`poll_sa_event`](cvsw_core::Cvsw::poll_sa_event) now and then. Until there is a key nothing is sent.
//!
//! # Use
//!
//! ```
//! use cvsw_core::{Config, Cvsw};
//! use cvsw_smoltcp::{CvswDevice, CvswInterface, PhyNic};
//! use smoltcp::{iface::SocketSet, phy::{Loopback, Medium}, time::Instant, wire::IpCidr};
//! use zerocopy::FromZeros;
//!
//! // On bare metal: a zeroed static.
//! let mut engine: Box<Cvsw<64, 64, 16>> = Cvsw::new_box_zeroed().unwrap();
//! let [mut a, mut b, mut c] = [[0; 2048]; 3];
//! let nic = PhyNic::new(Loopback::new(Medium::Ethernet), [&mut a[..], &mut b[..], &mut c[..]]).unwrap();
//!
//! let config = Config { mac: [2, 0, 0, 0, 0, 1], hash_seed: 0x5eed, ..Config::default() };
//! let mut device = CvswDevice::new(&mut *engine, nic, &config);
//! let address: IpCidr = "10.0.0.1/24".parse().unwrap();
//! let mut interface = CvswInterface::new(0x5eed, &mut device, Instant::ZERO);
//! interface.interface_mut().update_ip_addrs(|addresses| addresses.push(address).unwrap());
//!
//! let mut sockets = SocketSet::new(vec![]);
//! interface.poll(Instant::ZERO, &mut device, &mut sockets); // again and again
//! # assert_eq!(device.parameters().mtu, device.max_mtu());
//! ```
//!
//! The example `tap` is a whole program on Linux.
#![no_std]
#![forbid(unsafe_code)]

mod device;
mod engine;
mod interface;
mod nic;
mod phy_nic;

pub use device::{CvswDevice, CvswRxToken, CvswTxToken, MIN_MTU, Parameters};
pub use engine::Engine;
pub use interface::CvswInterface;
pub use nic::{HEADROOM, Nic, TAILROOM};
pub use phy_nic::{NotEthernet, PhyNic, PhyNicCounters};
