//! Wireshark as the judge of sealed packets: with the keys it sees VXLAN, without them nothing of the inside.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects
)]

use cvsw_core::{
    Direction,
    crypto::{Portable, Suite},
};
use cvsw_testkit::{
    ciphers::key,
    esp::{self, SLOTS, SPI, config},
    packet::Packet,
    tshark::Capture,
};

const SECRET: &[u8] = b"this is nobody else's business";
/// Packets per suite.
const EACH: usize = 8;

/// Packets of all suites, each suite with an SPI of its own.
fn sealed() -> Vec<Vec<u8>> {
    let frame = |len: usize| Packet::udp4([10, 0, 0, 1], 1000, [10, 0, 0, 2], 2000, &SECRET.repeat(len)).build();
    let of = |(suite, spi)| {
        let [mut sender, _] = esp::End::<Portable<SLOTS>>::pair(&config(Direction::Tx, spi), &key(suite, 1));
        (0..EACH).map(move |len| sender.send(&frame(len)).unwrap())
    };
    Suite::ALL.into_iter().zip(SPI..).flat_map(of).collect()
}

/// The associations in Wireshark's terms, with the keys of `seed`.
fn associations(seed: u8) -> Vec<String> {
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let of = |(suite, spi)| {
        let key = key(suite, seed);
        let cipher = hex(&[key.cipher_key(), &key.salt()].concat());
        let (name, mac) = match suite {
            Suite::Aes128Gcm | Suite::Aes256Gcm => ("AES-GCM with 16 octet ICV [RFC4106]", "NULL"),
            Suite::Aes128CtrHmacSha256 | Suite::Aes256CtrHmacSha256 => {
                ("AES-CTR [RFC3686]", "HMAC-SHA-256-128 [RFC4868]")
            }
            _ => ("AES-CTR [RFC3686]", "NULL"),
        };
        let mac_key = if key.mac_key().is_empty() { String::new() } else { format!("0x{}", hex(key.mac_key())) };
        format!("uat:esp_sa:\"IPv4\",\"*\",\"*\",\"0x{spi:08x}\",\"{name}\",\"0x{cipher}\",\"{mac}\",\"{mac_key}\"")
    };
    ["esp.enable_encryption_decode:TRUE", "esp.enable_authentication_check:TRUE"]
        .map(str::to_owned)
        .into_iter()
        .chain(Suite::ALL.into_iter().zip(SPI..).map(of))
        .collect()
}

#[test]
fn decrypts_to_vxlan() {
    let frames = sealed();
    let capture = Capture::write("esp", &frames);
    let fields = [
        "ip.checksum.status",
        "ip.proto",
        "esp.spi",
        "esp.sequence",
        "esp.iv",
        "esp.pad_len",
        "esp.protocol",
        "udp.dstport",
        "vxlan.vni",
        "ip.dst",
        "udp.checksum.status",
        "esp.icv_good",
        "_ws.malformed",
    ];
    let dissected = capture.dissect_with(&associations(1), &fields);
    assert_eq!(dissected.len(), frames.len());
    for (number, values) in dissected.into_iter().enumerate() {
        let (suite, spi, index) = (Suite::ALL[number / EACH], SPI as usize + number / EACH, number % EACH);
        let padding = Suite::padding(8 + 8 + 42 + index * SECRET.len());
        let expected = [
            "1,1",
            "50,17",
            &format!("{spi:#010x}"),
            &format!("{}", index + 1),
            &format!("{:016x}", index + 1),
            &format!("{padding}"),
            "0x11",
            "4789,2000",
            "42",
            "192.0.2.2,10.0.0.2",
            "3,1",
            if suite.is_authenticated() { "1" } else { "" },
            "",
        ];
        assert_eq!(joined(values), expected, "{suite}, packet {index}");
    }
}

#[test]
fn shows_nothing_without_the_keys() {
    let frames = sealed();
    for frame in &frames {
        for part in SECRET.windows(4) {
            assert!(frame.windows(4).all(|window| window != part), "part of the text in clear: {frame:02x?}");
        }
    }
    let capture = Capture::write("esp-closed", &frames);
    let fields = ["ip.proto", "udp.dstport", "vxlan.vni"];
    for dissected in [capture.dissect(&fields), capture.dissect_with(&associations(2), &fields)] {
        assert_eq!(dissected.len(), frames.len());
        for values in dissected {
            assert_eq!((values[0][0].as_str(), values[2].len()), ("50", 0), "{values:?}");
        }
    }
}

fn joined(values: Vec<Vec<String>>) -> Vec<String> {
    values.into_iter().map(|values| values.join(",")).collect()
}
