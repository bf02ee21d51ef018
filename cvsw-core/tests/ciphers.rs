//! The portable ciphers against published vectors and the rules for every implementation.

use cvsw_core::crypto::{CipherError, Ciphers, NoCiphers, PacketHeader, Portable, Suite};
use cvsw_testkit::ciphers;

#[test]
fn portable() {
    ciphers::check(&mut Portable::<3>::new(), 3);
}

/// What has no ciphers lets nothing pass.
#[test]
fn none_at_all() {
    let header = PacketHeader::new(0x1001, 1, false, [0; 8]);
    for suite in Suite::ALL {
        assert_eq!(NoCiphers.install(0, &ciphers::key(suite, 1)), Err(CipherError::Unsupported));
    }
    NoCiphers.remove(0);
    assert_eq!(NoCiphers.seal(0, &header, &mut [0; 64]), Err(CipherError::NoKey));
    assert_eq!(NoCiphers.open(0, &header, &mut [0; 64]), Err(CipherError::NoKey));
}
