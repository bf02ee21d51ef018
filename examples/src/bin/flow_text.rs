//! Flow text to data, to the bytes of an `OFPT_FLOW_MOD`, and back.
//!
//! `cargo run -p cvsw-examples --bin flow_text -- 'tcp,tp_dst=80,actions=mod_tp_dst:8080'`

use cvsw_core::{
    flow::{
        Direction, Field,
        text::{DisplayFlow, parse_flow},
    },
    openflow::{decode_flow_mod, encode_flow_mod},
};

const DEFAULT: &str = "priority=100,in_port=HOST,ip,nw_src=10.0.0.9/24,actions=mod_nw_dst:10.1.1.1";

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let line = std::env::args().nth(1).unwrap_or_else(|| DEFAULT.to_owned());
    let flow = match parse_flow(&line) {
        Ok(flow) => flow,
        Err(error) => {
            return Err(format!("{line}\n{:>1$} expected {2}", "^", error.offset + 1, error.expected).into());
        }
    };
    println!("canonical: {}", DisplayFlow(&flow));
    for direction in Direction::ALL {
        let port = flow.matching.with(Field::InPort, u64::from(direction.in_port()));
        let applies = flow.matching.contains(&port);
        println!("applies to {}: {applies}", direction.name());
    }
    let mut message = [0; 2048];
    let len = encode_flow_mod(&flow, 7, &mut message).map_err(|_| "the flow does not fit a message")?;
    println!("OFPT_FLOW_MOD: {len} bytes");
    println!("the same again: {}", decode_flow_mod(&message[..len])? == flow);
    Ok(())
}
