//! Licences, banned crates, sources and advisories of everything in Cargo.lock, by cargo-deny.

use crate::{command::Cmd, fuzz};
use anyhow::Result;

const FETCH_LIMIT: u32 = 60;
const CHECK_LIMIT: u32 = 300;

/// Checks both workspaces (ours and the fuzz targets').
pub fn run() -> Result<()> {
    // The advisory database is a git repository on the internet. A build machine may be cut off from it; then
    // this check says so instead of failing for a reason that no change of ours could mend.
    let advisories = Cmd::limited(FETCH_LIMIT, "cargo").words("deny --log-level off fetch db").succeeds();
    fuzz::lock()?;
    for manifest in ["Cargo.toml", "fuzz/Cargo.toml"] {
        let check =
            Cmd::limited(CHECK_LIMIT, "cargo").words("deny --config deny.toml --manifest-path").arg(manifest);
        let check = check.words("--all-features check --hide-inclusion-graph bans licenses sources");
        if advisories { check.arg("advisories").run()? } else { check.run()? }
    }
    if !advisories {
        println!("NOT CHECKED: advisories, because the RustSec database could not be fetched");
    }
    Ok(())
}
