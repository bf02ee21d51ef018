//! Flow text: parse, print, parse again.

use cvsw_core::flow::text::{DisplayFlow, parse_flow};

/// What parses must print as text that means the same; what does not must be blamed on a part of the text.
pub fn flow_text(data: &[u8]) {
    let Ok(text) = core::str::from_utf8(data) else { return };
    match parse_flow(text) {
        Ok(flow) => {
            let printed = DisplayFlow(&flow).to_string();
            let again = parse_flow(&printed).unwrap_or_else(|error| panic!("own text `{printed}`: {error:?}"));
            assert_eq!(again, flow, "`{text}` printed as `{printed}`");
        }
        Err(error) => {
            let end = error.offset.saturating_add(error.len);
            assert!(text.get(error.offset..end).is_some(), "{error:?} points outside of `{text}`");
            assert!(!error.expected.is_empty(), "`{text}`: no word about what was expected");
        }
    }
}
