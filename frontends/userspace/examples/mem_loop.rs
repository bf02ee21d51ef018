//! Packets per second through a vNIC between two in-memory ports: pool, bursts, engine and loop, no system calls
//! on the packet path.
//!
//! `cargo run --release -p cvsw-userspace --example mem_loop [FLOWS-FILE]`

use cvsw_core::{BURST, control::ETHERTYPE};
use cvsw_userspace::{
    flows_file, mem,
    pool::{DEFAULT_BUFFER_SIZE, Mempool},
    port::{FrameVec, Port},
    run,
    vnic::Vnic,
};
use std::{path::Path, time::Instant};

const BURSTS: usize = 100_000;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let flows = std::env::args().nth(1).map(|file| flows_file::load(Path::new(&file))).transpose()?;
    for size in [64, 1400] {
        let ((vnic_host, mut host), (vnic_net, mut net)) = (mem::pair(2 * BURST), mem::pair(2 * BURST));
        let mut vnic = Vnic::new(Box::new(vnic_host), Box::new(vnic_net), [2, 0, 0, 0, 0, 1], ETHERTYPE, 512, 1)?;
        if let Some(flows) = &flows {
            vnic.load_flows(run::now(), flows)?;
        }
        let mut pool = Mempool::new(512, DEFAULT_BUFFER_SIZE);
        let mut frames = FrameVec::with_capacity(BURST);
        let mut arrived = 0;
        let start = Instant::now();
        for _ in 0..BURSTS {
            for number in 0..BURST {
                let mut frame = pool.take().ok_or("the pool is empty")?;
                frame.set_len(size).map_err(|_| "the frame does not fit")?;
                write_udp(frame.bytes_mut(), number as u16);
                frames.push(frame);
            }
            host.tx_burst(&mut pool, &mut frames)?;
            vnic.step(run::now())?;
            arrived += net.rx_burst(&mut pool, &mut frames)?;
            pool.put_all(&mut frames);
            // The far end pays for what it received with empty buffers.
            net.tx_burst(&mut pool, &mut frames)?;
        }
        let seconds = start.elapsed().as_secs_f64();
        println!("{size:>5} bytes: {:.2} million frames per second", arrived as f64 / seconds / 1e6);
    }
    Ok(())
}

/// A UDP datagram over IPv4 without checksums; `source` is its source port.
fn write_udp(frame: &mut [u8], source: u16) {
    let (ip_len, udp_len) = ((frame.len() - 14) as u16, (frame.len() - 34) as u16);
    frame[..14].copy_from_slice(&[2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0]);
    frame[14..34].copy_from_slice(&[0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
    frame[16..18].copy_from_slice(&ip_len.to_be_bytes());
    frame[34..36].copy_from_slice(&source.to_be_bytes());
    frame[36..38].copy_from_slice(&9u16.to_be_bytes());
    frame[38..40].copy_from_slice(&udp_len.to_be_bytes());
    frame[40..42].fill(0);
}
