//! Known answers from published collections: NIST's validation program and Project Wycheproof. Their GCM cases have other
//! additional data than ESP, so an implementation shows the GCM that it seals packets with as a [`Gcm`].

use super::{CipherError, Ciphers, KeyMaterial, Suite, mac_header};
use crate::hex;
use wycheproof::{TestResult, aead, mac};

const CAVP: &str = include_str!("gcm-cavp.rsp");
const TAG_LEN: usize = 16;

/// AES-GCM below ESP: any additional data, IVs of 96 bits and tags of 128.
pub trait Gcm {
    /// With a key of 16 or 32 bytes.
    fn new(key: &[u8]) -> Self;

    /// Encrypts `data` in place, whose last 16 bytes are room for the tag.
    fn seal(&self, iv: [u8; 12], aad: &[u8], data: &mut [u8]);

    /// Checks and decrypts `data` in place; whether it was authentic.
    fn open(&self, iv: [u8; 12], aad: &[u8], data: &mut [u8]) -> bool;
}

/// One case of a collection.
#[derive(Default)]
struct Case {
    name: String,
    key: Vec<u8>,
    iv: Vec<u8>,
    aad: Vec<u8>,
    plain: Vec<u8>,
    ciphertext: Vec<u8>,
    tag: Vec<u8>,
    /// It must be refused; `plain` is then of no account.
    forged: bool,
}

/// Every case for the key sizes and the shape that ESP has.
pub fn check_gcm<G: Gcm>() {
    let wycheproof = wycheproof_gcm();
    let cavp = cavp();
    // 25 pairs of lengths to be sealed and 10 cases to be opened, for each key size.
    assert_eq!((cavp.len(), cavp.iter().filter(|case| case.forged).count()), (70, 10));
    assert_eq!((wycheproof.len(), wycheproof.iter().filter(|case| case.forged).count()), (133, 54));
    cavp.iter().chain(&wycheproof).for_each(judge::<G>);
}

fn judge<G: Gcm>(case: &Case) {
    let (gcm, name) = (G::new(&case.key), &case.name);
    let iv = case.iv.as_slice().try_into().expect("96 bits");
    let sealed = [case.ciphertext.as_slice(), &case.tag].concat();
    let mut data = sealed.clone();
    if case.forged {
        assert!(!gcm.open(iv, &case.aad, &mut data), "{name}: a forgery was accepted");
        return;
    }
    assert!(gcm.open(iv, &case.aad, &mut data), "{name}: refused");
    assert_eq!(hex::dump(&data[..case.plain.len()]), hex::dump(&case.plain), "{name}: opened");
    data[case.plain.len()..].fill(0);
    gcm.seal(iv, &case.aad, &mut data);
    assert_eq!(hex::dump(&data), hex::dump(&sealed), "{name}: sealed");
}

fn cavp() -> Vec<Case> {
    let mut cases: Vec<Case> = Vec::new();
    let mut file = "";
    for line in CAVP.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let (field, value) = line.split_once(" =").unwrap_or((line, ""));
        if field == "Key" {
            cases.push(Case { name: format!("CAVP {file}, key {value}"), ..Case::default() });
        }
        let place = match (field, cases.last_mut()) {
            ("Key", Some(case)) => &mut case.key,
            ("IV", Some(case)) => &mut case.iv,
            ("PT", Some(case)) => &mut case.plain,
            ("AAD", Some(case)) => &mut case.aad,
            ("CT", Some(case)) => &mut case.ciphertext,
            ("Tag", Some(case)) => &mut case.tag,
            ("FAIL", Some(case)) => {
                case.forged = true;
                continue;
            }
            (name, _) => {
                file = name;
                continue;
            }
        };
        *place = hex::bytes(value);
    }
    cases
}

fn wycheproof_gcm() -> Vec<Case> {
    let set = aead::TestSet::load(aead::TestName::AesGcm).expect("the crate reads its own data");
    let ours = |group: &aead::TestGroup| {
        let key = [128, 256].contains(&group.key_size);
        key && (group.nonce_size, group.tag_size) == (8 * 12, 8 * TAG_LEN)
    };
    let cases = set.test_groups.into_iter().filter(ours).flat_map(|group| group.tests);
    let case = |test: aead::Test| Case {
        name: format!("Wycheproof AES-GCM {}: {}", test.tc_id, test.comment),
        key: test.key.to_vec(),
        iv: test.nonce.to_vec(),
        aad: test.aad.to_vec(),
        plain: test.pt.to_vec(),
        ciphertext: test.ct.to_vec(),
        tag: test.tag.to_vec(),
        forged: test.result == TestResult::Invalid,
    };
    cases.map(case).collect()
}

/// Wycheproof's HMAC-SHA-256 with tags of 128 bits, as far as the messages are as long as an ESP header.
pub fn check_macs(ciphers: &mut impl Ciphers) {
    let set = mac::TestSet::load(mac::TestName::HmacSha256).expect("the crate reads its own data");
    let groups = set.test_groups.into_iter().filter(|group| (group.key_size, group.tag_size) == (256, 128));
    let (mut valid, mut forged) = (0, 0);
    for test in groups.flat_map(|group| group.tests).filter(|test| test.msg.len() >= 16) {
        for suite in [Suite::Aes128CtrHmacSha256, Suite::Aes256CtrHmacSha256] {
            let material = [vec![9; suite.cipher_key_len() + Suite::SALT_LEN], test.key.to_vec()].concat();
            ciphers.install(0, &KeyMaterial::new(suite, &material).expect("the right length")).expect("a slot");
            let (header, ciphertext) = mac_header(&test.msg);
            let found = ciphers.open(0, &header, &mut [ciphertext, &test.tag].concat());
            let (expected, count) = match test.result {
                TestResult::Valid => (Ok(()), &mut valid),
                _ => (Err(CipherError::Forged), &mut forged),
            };
            assert_eq!(found, expected, "Wycheproof HMAC-SHA-256 {}: {}", test.tc_id, test.comment);
            *count += 1;
        }
    }
    assert!(valid >= 20 && forged >= 20, "{valid} valid, {forged} forged");
}
