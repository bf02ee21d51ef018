//! How fast packets are sealed and opened, per cipher implementation, suite and size, beside OpenSSL.
//!
//! A figure is the shortest of many short measurements, so that other work on the machine disturbs it little. Opening
//! includes the copy that puts the sealed packet back into place.

use cvsw_core::{
    BURST, Config, Cvsw, Direction, Frame, Instant, Verdict,
    crypto::{Ciphers, KeyMaterial, PacketHeader, Portable, SaConfig, Suite},
    flow::text::parse_flow,
};
use cvsw_userspace::{
    ciphers::FastCiphers,
    pool::{Buffer, HEADROOM},
};
use std::{
    hint::black_box,
    io,
    process::Command,
    time::{Duration, Instant as Clock},
};
use zerocopy::FromZeros;

/// Room behind a frame.
const TAILROOM: usize = 32;

/// Bytes of payload that are measured.
pub const SIZES: [usize; 3] = [64, 512, 1400];

/// Who computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    /// The core's own, in portable Rust.
    Portable,
    /// The userspace port's.
    Userspace,
}

impl Backend {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Portable, Self::Userspace];

    /// The name in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Portable => "portable",
            Self::Userspace => "userspace",
        }
    }
}

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Sealing alone, one buffer again and again, as `openssl speed` does it.
    Seal,
    /// Sealing alone, the 32 buffers of a burst in turn: what [`Operation::Path`] is to be compared with.
    SealBurst,
    /// Opening alone.
    Open,
    /// An inner frame's whole way through the engine: parse, look up, encapsulate in VXLAN, seal.
    Path,
}

impl Operation {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Seal, Self::SealBurst, Self::Open, Self::Path];

    /// The name in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Seal => "seal",
            Self::SealBurst => "seal x 32",
            Self::Open => "open",
            Self::Path => "vxlan+esp",
        }
    }
}

/// One thing to measure.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    /// Who computes.
    pub backend: Backend,
    /// How packets are protected.
    pub suite: Suite,
    /// What is done to them.
    pub operation: Operation,
    /// Bytes of payload, or of the inner frame.
    pub size: usize,
}

impl Case {
    /// Every combination, in the order of a table.
    pub fn all() -> Vec<Self> {
        let mut cases = Vec::new();
        for suite in Suite::ALL {
            for backend in Backend::ALL {
                for operation in Operation::ALL {
                    cases.extend(SIZES.map(|size| Self { backend, suite, operation, size }));
                }
            }
        }
        cases
    }

    /// Nanoseconds per packet, measured for `time`.
    pub fn nanos(&self, time: Duration) -> f64 {
        match self.backend {
            Backend::Portable => self.nanos_with(Portable::<64>::new(), time),
            Backend::Userspace => self.nanos_with(FastCiphers::<64>::new(), time),
        }
    }

    fn nanos_with(&self, ciphers: impl Ciphers, time: Duration) -> f64 {
        match self.operation {
            Operation::Seal => self.seal(ciphers, time, 1),
            Operation::SealBurst => self.seal(ciphers, time, BURST),
            Operation::Open => self.open(ciphers, time),
            Operation::Path => self.path(ciphers, time),
        }
    }

    fn key(&self) -> KeyMaterial {
        KeyMaterial::new(self.suite, &vec![0x5a; self.suite.key_material_len()]).expect("the right length")
    }

    fn seal(&self, mut ciphers: impl Ciphers, time: Duration, buffers: usize) -> f64 {
        ciphers.install(0, &self.key()).expect("a slot");
        // Buffers of the size that frames have, of which only the middle is sealed.
        let mut buffer = Buffer::new(HEADROOM + self.size + self.suite.icv_len() + TAILROOM);
        buffer.fill(0x77);
        let mut burst = vec![buffer; buffers];
        let mut sequence = 0u64;
        shortest(time, buffers as u32, || {
            for buffer in &mut burst {
                sequence += 1;
                let header = PacketHeader::new(0x1001, sequence, false, sequence.to_be_bytes());
                let data = &mut buffer[HEADROOM..HEADROOM + self.size + self.suite.icv_len()];
                ciphers.seal(0, &header, black_box(data)).expect("a key");
            }
        })
    }

    fn open(&self, mut ciphers: impl Ciphers, time: Duration) -> f64 {
        ciphers.install(0, &self.key()).expect("a slot");
        let header = PacketHeader::new(0x1001, 1, false, 1u64.to_be_bytes());
        let mut sealed = vec![0x77; self.size + self.suite.icv_len()];
        ciphers.seal(0, &header, &mut sealed).expect("a key");
        let mut data = sealed.clone();
        shortest(time, 1, || {
            data.copy_from_slice(&sealed);
            ciphers.open(0, &header, black_box(&mut data)).expect("authentic");
        })
    }

    fn path(&self, mut ciphers: impl Ciphers, time: Duration) -> f64 {
        let now = Instant::from_secs(1);
        let mut engine: Box<Cvsw> = Cvsw::new_box_zeroed().expect("memory");
        engine.init(&Config { hash_seed: 0x5eed, ..Config::default() });
        let flow = "in_port=HOST,udp,actions=set_vxlan(vni=42,src=192.0.2.1,dst=192.0.2.2,\
                    eth_src=02:00:00:01:00:01,eth_dst=02:00:00:01:00:02),encrypt(sa=7)";
        engine.flow_mod(now, &parse_flow(flow).expect("a flow")).expect("an acceptable flow");
        let config = SaConfig {
            extended_sequence: self.suite.is_authenticated(),
            ..SaConfig::new(7, Direction::Tx, 0x1001, [192, 0, 2, 2])
        };
        engine.add_sa(&mut ciphers, now, &config, &self.key()).expect("an acceptable association");
        let pristine = inner_frame(self.size);
        let headers = pristine.len().min(64);
        let mut frames: Vec<_> = (0..BURST)
            .map(|_| {
                let mut buffer = Buffer::new(HEADROOM + pristine.len() + TAILROOM);
                buffer[HEADROOM..HEADROOM + pristine.len()].copy_from_slice(&pristine);
                Frame::new(buffer, HEADROOM, pristine.len()).expect("room")
            })
            .collect();
        let mut verdicts = [Verdict::Consumed; BURST];
        let nanos = shortest(time, BURST as u32, || {
            for frame in &mut frames {
                frame.reset(HEADROOM, pristine.len()).expect("room");
                // The packet was sealed where it stood; of its plaintext only the headers matter.
                frame.bytes_mut()[..headers].copy_from_slice(&pristine[..headers]);
            }
            engine.process_burst_with(&mut ciphers, now, Direction::Tx, &mut frames, &mut verdicts);
        });
        assert_eq!(verdicts, [Verdict::Forward; BURST]);
        nanos
    }
}

/// A UDP frame of `size` bytes, without checksums: nobody looks at those of an inner frame.
fn inner_frame(size: usize) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0, 0x45, 0];
    frame.extend((size as u16 - 14).to_be_bytes());
    frame.extend([0, 1, 0x40, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2, 4, 0, 0x0f, 0xa0]);
    frame.extend((size as u16 - 34).to_be_bytes());
    frame.resize(size, 0x77);
    frame
}

/// Nanoseconds per packet of the shortest of many batches; `work` does `packets` of them.
fn shortest(time: Duration, packets: u32, mut work: impl FnMut()) -> f64 {
    /// Long enough for the clock, short enough to find a moment in which nothing else runs.
    const BATCH: f64 = 200e-6;
    // No time at all is for a test that only wants to see it run.
    let least = if time.is_zero() { 1 } else { 20 };
    let start = Clock::now();
    let (mut calls, mut batches) = (1u32, 0);
    let mut best = f64::INFINITY;
    while batches < least || start.elapsed() < time {
        let batch = Clock::now();
        for _ in 0..calls {
            work();
        }
        best = best.min(batch.elapsed().as_secs_f64() / f64::from(calls));
        if best * f64::from(calls) < BATCH {
            calls = calls.saturating_mul(2);
        } else {
            batches += 1;
        }
    }
    best * 1e9 / f64::from(packets)
}

/// What OpenSSL calls the ciphers: the AEAD as a whole, or the cipher without a MAC.
pub const fn openssl_name(suite: Suite) -> &'static str {
    match suite {
        Suite::Aes128Gcm => "aes-128-gcm",
        Suite::Aes256Gcm => "aes-256-gcm",
        Suite::Aes128CtrHmacSha256 | Suite::Aes128CtrUnauthenticated => "aes-128-ctr",
        Suite::Aes256CtrHmacSha256 | Suite::Aes256CtrUnauthenticated => "aes-256-ctr",
    }
}

/// Bytes per second that `openssl speed -evp NAME -bytes SIZE` reports, the best of `runs` runs of a second.
///
/// # Errors
/// If OpenSSL cannot be run or says something else than expected.
pub fn openssl(name: &str, size: usize, runs: u32) -> io::Result<f64> {
    let mut best = 0.0f64;
    for _ in 0..runs {
        let output = Command::new("openssl")
            .args(["speed", "-mr", "-seconds", "1", "-evp", name, "-bytes", &size.to_string()])
            .output()?;
        let text = String::from_utf8_lossy(&output.stdout);
        // With -mr the last line is `+F:...:NAME:BYTES_PER_SECOND`.
        let figure =
            text.lines().rev().find(|line| line.starts_with("+F:")).and_then(|line| line.rsplit(':').next());
        let figure = figure.and_then(|figure| figure.trim().parse::<f64>().ok());
        best = best.max(figure.ok_or_else(|| io::Error::other(format!("openssl speed {name}: {text}")))?);
    }
    Ok(best)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every case runs; how fast is not judged here.
    #[test]
    fn every_case_can_be_measured() {
        for case in Case::all() {
            let nanos = case.nanos(Duration::ZERO);
            assert!(nanos.is_finite() && nanos > 0.0, "{case:?}");
        }
    }
}
