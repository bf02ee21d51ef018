//! The book says what to do about every counter.

use cvsw_core::{ControlError, DropReason};

#[test]
fn every_reason_is_explained() {
    let page = include_str!("../../../docs/src/operations.md");
    let names = DropReason::ALL.iter().map(|reason| reason.name());
    for name in names.chain(ControlError::ALL.iter().map(|error| error.name())) {
        assert!(page.contains(&format!("`{name}`")), "docs/src/operations.md does not mention `{name}`");
    }
}
