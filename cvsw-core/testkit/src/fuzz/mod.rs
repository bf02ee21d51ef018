//! The bodies of the fuzz targets. They live here, not in `fuzz/`, so that an ordinary `cargo test` replays every
//! seed and every former crash with the stable compiler.
//!
//! A body takes any bytes, never panics unless the engine is wrong, and holds the engine against something
//! independent of it: a naive model, another decoder, or its own inverse.

mod control;
mod control3;
mod esp;
mod flow_text;
mod frame;
mod openflow;
mod sas;
mod table;

pub use control::control;
pub use control3::{control3_codec, control3_vnic};
pub use esp::esp;
pub use flow_text::flow_text;
pub use frame::frame;
pub use openflow::openflow;
pub use sas::sas;
pub use table::table;

use cvsw_core::{
    Config, Cvsw, Instant,
    flow::{FlowMod, text::parse_flow},
};
use zerocopy::FromZeros;

/// A fuzz target's body.
pub type Body = fn(&[u8]);

/// Every target by name. The names are those of the files in `fuzz/fuzz_targets` and of the folders of seeds.
pub const TARGETS: &[(&str, Body)] = &[
    ("control", control),
    ("control3_codec", control3_codec),
    ("control3_ends", crate::ends::converge),
    ("control3_vnic", control3_vnic),
    ("esp", esp),
    ("flow_text", flow_text),
    ("frame", frame),
    ("openflow", openflow),
    ("sas", sas),
    ("table", table),
];

/// Security associations of the small engine.
const SAS: usize = 4;
/// A small engine: small enough to be full soon.
type Engine = Cvsw<16, 16, 8, SAS>;

const MAC: [u8; 6] = [0x02, 0, 0, 0, 0x01, 0x01];

/// Flows from their text.
fn flows(texts: &[&str]) -> Vec<FlowMod> {
    let parse = |text: &&str| parse_flow(text).unwrap_or_else(|error| panic!("`{text}`: {error:?}"));
    texts.iter().map(parse).collect()
}

/// A new engine with these flows.
fn engine(flows: &[FlowMod]) -> Box<Engine> {
    let mut engine = Engine::new_box_zeroed().expect("memory for an engine");
    engine.init(&Config { mac: MAC, ..Config::default() });
    for flow in flows {
        engine.flow_mod(Instant::ZERO, flow).unwrap_or_else(|error| panic!("{flow:?}: {error:?}"));
    }
    engine
}
