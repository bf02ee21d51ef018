//! Any smoltcp device below the engine.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "a test that panics has found something"
)]

use cvsw_core::{Config, Cvsw, Direction};
use cvsw_smoltcp::{CvswDevice, HEADROOM, Nic, NotEthernet, PhyNic};
use smoltcp::{
    phy::{Device, DeviceCapabilities, Loopback, Medium, RxToken, TxToken},
    time::Instant,
};
use zerocopy::FromZeros;

/// A loopback that takes `room` frames.
struct Limited {
    loopback: Loopback,
    room: usize,
}

impl Device for Limited {
    type RxToken<'a> = <Loopback as Device>::RxToken<'a>;
    type TxToken<'a> = <Loopback as Device>::TxToken<'a>;

    fn receive(&mut self, timestamp: Instant) -> Option<(Self::RxToken<'_>, Self::TxToken<'_>)> {
        self.loopback.receive(timestamp)
    }

    fn transmit(&mut self, timestamp: Instant) -> Option<Self::TxToken<'_>> {
        self.room = self.room.checked_sub(1)?;
        self.loopback.transmit(timestamp)
    }

    fn capabilities(&self) -> DeviceCapabilities {
        self.loopback.capabilities()
    }
}

fn limited(room: usize) -> Limited {
    Limited { loopback: Loopback::new(Medium::Ethernet), room }
}

#[test]
fn other_media_are_refused() {
    let [mut a, mut b, mut c] = [[0; 2048]; 3];
    let answer = PhyNic::new(Loopback::new(Medium::Ip), [&mut a[..], &mut b[..], &mut c[..]]);
    assert!(matches!(answer, Err(NotEthernet)), "an IP device was taken");
    assert!(NotEthernet.to_string().contains("Ethernet"));
}

#[test]
fn frames_go_through_and_what_does_not_is_counted() {
    let [mut a, mut b, mut c] = [[0; 1024]; 3];
    let nic = PhyNic::new(limited(3), [&mut a[..], &mut b[..], &mut c[..]]).unwrap();
    let mut engine: Box<Cvsw<64, 64, 16>> = Cvsw::new_box_zeroed().unwrap();
    let mut device = CvswDevice::new(&mut *engine, nic, &Config { mac: [2, 0, 0, 0, 0, 1], ..Config::default() });
    let now = Instant::ZERO;
    // The HELLO is the first frame; it comes back and is consumed.
    assert!(device.service(now));
    assert!(device.receive(now).is_none());
    assert_eq!(device.engine().stats().direction(Direction::Rx).consumed, 1);

    device.transmit(now).unwrap().consume(100, |frame| frame.fill(7));
    assert_eq!(device.receive(now).unwrap().0.consume(<[u8]>::to_vec), [7; 100]);

    // Longer than the buffers: the engine counts what is left of it, and all buffers stay in use.
    let too_long = device.nic_mut().phy_mut().transmit(now).unwrap();
    too_long.consume(1024 - HEADROOM + 1, |frame| frame.fill(7));
    device.nic_mut().phy_mut().room = 0;
    assert_eq!(device.receive(now).map(|(received, _)| received.consume(<[u8]>::len)), Some(0));
    assert_eq!(device.nic().counters().rx_too_big, 1);

    for _ in 0..5 {
        device.transmit(now).unwrap().consume(100, |frame| frame.fill(8));
    }
    assert_eq!(device.nic().counters().tx_full, 5);
    device.service(now);
    let free: Vec<_> = std::iter::from_fn(|| device.nic_mut().allocate(now)).collect();
    assert_eq!(free.len(), 3);
}
