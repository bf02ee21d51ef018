//! Known answers: facts from published documents.

use cvsw_core::crypto::Suite;

/// One packet with its known sealed form.
pub struct Vector {
    /// Where it comes from.
    pub source: &'static str,
    /// How it is protected.
    pub suite: Suite,
    /// Key material in hexadecimal: AES key, salt, HMAC key.
    pub key: &'static str,
    /// Security parameters index.
    pub spi: u32,
    /// Sequence number.
    pub sequence: u64,
    /// Whether it has 64 bits.
    pub extended: bool,
    /// Initialization vector.
    pub iv: u64,
    /// Plaintext in hexadecimal.
    pub plain: &'static str,
    /// Ciphertext and integrity check value in hexadecimal.
    pub sealed: &'static str,
}

const COUNTING_36: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f20212223";
const COUNTING_32: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";
/// "Single block msg".
const SINGLE_BLOCK: &str = "53696e676c6520626c6f636b206d7367";

/// All vectors.
pub const VECTORS: &[Vector] = &[
    Vector {
        source: "draft-mcgrew-gcm-test-01, AES-128, extended sequence number",
        suite: Suite::Aes128Gcm,
        key: "4c80cdefbb5d10da906ac73c3613a634 2e443b68",
        spi: 0x4321,
        sequence: 0x8765_4321_0000_0000,
        extended: true,
        iv: 0x4956_ed7e_3b24_4cfe,
        plain: "45000048699a000080114db7c0a80102c0a801010a9bf15638d3010000010000
            00000000045f736970045f756470037369700963796265726369747902646b00
            0021000101020201",
        sealed: "fecf537e729d5b07dc30df528dd22b768d1b98736696a6fd348509fa13ceac34
            cfa2436f14a3f3cf65925bf1f4a13c5d15b21e1884f5ff6247aeabb786b93bce
            61bc17d768fd9732 459018148f6cbe722fd04796562dfdb4",
    },
    Vector {
        source: "draft-mcgrew-gcm-test-01, AES-128",
        suite: Suite::Aes128Gcm,
        key: "feffe9928665731c6d6a8f9467308308 cafebabe",
        spi: 0xa5f8,
        sequence: 0xa,
        extended: false,
        iv: 0xface_dbad_deca_f888,
        plain: "4500003e698f000080114dccc0a80102c0a801010a980035002a2343b2d00100
            0001000000000000037369700963796265726369747902646b00000100010001",
        sealed: "deb22cd9b07c72c16e3a65beeb8df304a5a5897d33ae530f1ba76d5d114d2a5c
            3de81827c10e9a4f51330d0eec416642cfbb85a5b47e48a4ec3b9ba95d918bd1
            83b70d3aa8bc6ee4c309e9d85a41ad4a",
    },
    Vector {
        source: "draft-mcgrew-gcm-test-01, AES-256",
        suite: Suite::Aes256Gcm,
        key: "abbccddef00112233445566778899aababbccddef00112233445566778899aab 11223344",
        spi: 0x4a2c_bfe3,
        sequence: 2,
        extended: false,
        iv: 0x0102_0304_0506_0708,
        plain: "4500003069a6400080062690c0a801029389155e0a9e008b2dc57ee000000000
            7002400020bf0000020405b40101040201020201",
        sealed: "ff425c9b724599df7a3bcd510194e00d6a78107f1b0b1cbf06efae9d65a5d763
            748a637985771d347f0545659f14e99def842d8e b335f4eecfdbf831824b4c4915956c96",
    },
    ctr(
        "RFC 3686 section 6, test vector 1",
        Suite::Aes128CtrUnauthenticated,
        "ae6852f8121067cc4bf7a5765577f39e 00000030",
        0,
        SINGLE_BLOCK,
        "e4095d4fb7a7b3792d6175a3261311b8",
    ),
    ctr(
        "RFC 3686 section 6, test vector 2",
        Suite::Aes128CtrUnauthenticated,
        "7e24067817fae0d743d6ce1f32539163 006cb6db",
        0xc054_3b59_da48_d90b,
        COUNTING_32,
        "5104a106168a72d9790d41ee8edad388eb2e1efc46da57c8fce630df9141be28",
    ),
    ctr(
        "RFC 3686 section 6, test vector 3",
        Suite::Aes128CtrUnauthenticated,
        "7691be035e5020a8ac6e618529f9a0dc 00e0017b",
        0x2777_7f3f_4a17_86f0,
        COUNTING_36,
        "c1cf48a89f2ffdd9cf4652e9efdb72d74540a42bde6d7836d59a5ceaaef3105325b2072f",
    ),
    ctr(
        "RFC 3686 section 6, test vector 7",
        Suite::Aes256CtrUnauthenticated,
        "776beff2851db06f4c8a0542c8696f6c6a81af1eec96b4d37fc1d689e6c1c104 00000060",
        0xdb56_72c9_7aa8_f0b2,
        SINGLE_BLOCK,
        "145ad01dbf824ec7560863dc71e3e0c0",
    ),
    ctr(
        "RFC 3686 section 6, test vector 8",
        Suite::Aes256CtrUnauthenticated,
        "f6d66d6bd52d59bb0796365879eff886c66dd51a5b6a99744b50590c87a23884 00faac24",
        0xc158_5ef1_5a43_d875,
        COUNTING_32,
        "f05e231b3894612c49ee000b804eb2a9b8306b508f839d6a5530831d9344af1c",
    ),
    ctr(
        "RFC 3686 section 6, test vector 9",
        Suite::Aes256CtrUnauthenticated,
        "ff7a617ce69148e4f1726e2f43581de2aa62d9f805532edff1eed687fb54153d 001cc5b7",
        0x51a5_1d70_a1c1_1148,
        COUNTING_36,
        "eb6c52821d0bbbf7ce7594462aca4faab407df866569fd07f48cc0b583d6071f1ec0e6b8",
    ),
];

/// A vector of RFC 3686, which has no ESP header.
const fn ctr(
    source: &'static str,
    suite: Suite,
    key: &'static str,
    iv: u64,
    plain: &'static str,
    sealed: &'static str,
) -> Vector {
    Vector { source, suite, key, spi: 0, sequence: 0, extended: false, iv, plain, sealed }
}

/// A message with its HMAC-SHA-256-128, as RFC 4868 section 2.7.2.1 gives them for 32-byte keys. The first 16 bytes
/// of the message stand for the ESP header, the rest for the ciphertext.
pub struct MacVector {
    /// Where it comes from.
    pub source: &'static str,
    /// HMAC key in hexadecimal.
    pub key: &'static str,
    /// Message in hexadecimal.
    pub message: &'static str,
    /// First half of the hash in hexadecimal.
    pub icv: &'static str,
}

/// The vectors with messages of at least 16 bytes.
pub const MAC_VECTORS: &[MacVector] = &[
    MacVector {
        source: "RFC 4868, AUTH256-2",
        key: "4a6566654a6566654a6566654a6566654a6566654a6566654a6566654a656665",
        message: "7768617420646f2079612077616e7420666f72206e6f7468696e673f",
        icv: "167f928588c5cc2eef8e3093caa0e87c",
    },
    MacVector {
        source: "RFC 4868, AUTH256-3",
        key: "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
        message: "dddddddddddddddddddddddddddddddddddddddddddddddddd
            dddddddddddddddddddddddddddddddddddddddddddddddddd",
        icv: "cdcb1220d1ecccea91e53aba3092f962",
    },
    MacVector {
        source: "RFC 4868, AUTH256-4",
        key: "0102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f20",
        message: "cdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcd
            cdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcd",
        icv: "372efcf9b40b35c2115b1346903d2ef4",
    },
];
