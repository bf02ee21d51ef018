//! Runs action lists outside an engine.

use cvsw_core::{
    Frame, Instant,
    apply::{self, Context, Next, Program},
    crypto::{EncryptedOnly, NoCiphers, SaTable},
    frame::Buffer,
    parse::Parsed,
    trace::Observer,
};
use zerocopy::FromZeros;

/// Runs `program` on `frame`, without security associations.
pub fn run<B: Buffer, O: Observer>(
    program: &Program,
    ip_id: &mut u16,
    frame: &mut Frame<B>,
    parsed: &Parsed,
    observer: &mut O,
) -> Next {
    let mut sas = SaTable::<1>::new_box_zeroed().expect("memory for a table");
    let mut context = Context {
        now: Instant::ZERO,
        ip_id,
        sas: &mut sas,
        ciphers: &mut NoCiphers,
        encrypted_only: &EncryptedOnly::new_zeroed(),
    };
    apply::run(program, &mut context, frame, parsed, false, observer)
}
