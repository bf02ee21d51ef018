//! The layering rule: inside `cvsw-core` imports point downward only, and front-ends see the engine's public face.

mod paths;

use crate::{metadata, root};
use anyhow::{Context, Result, bail};
use paths::{Reference, Source};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

/// The core's modules, lowest layer first. A module may import from lower layers and from its own; inside a
/// layer there must be no cycle.
const LAYERS: &[&[&str]] = &[
    &["wire"],
    &["key", "frame", "mtu", "time", "parse"],
    &["flow", "stats", "verdict", "trace", "crypto"],
    &["tunnel", "apply", "segment", "fragment", "path_mtu", "control", "openflow"],
    &["cvsw"],
];

/// Modules of the core that only the core itself uses.
const INSIDES: &[&str] = &["wire", "parse", "apply", "tunnel"];

/// Folders of crates that see only the core's public face.
const FRONT_ENDS: &[&str] = &["frontends", "examples"];

/// Checks the whole workspace.
pub fn run() -> Result<()> {
    let core = root().join("cvsw-core/src");
    let files = sources(&core, &core)?;
    let crate_root = fs::read_to_string(core.join("lib.rs")).context("cannot read cvsw-core/src/lib.rs")?;
    let exports = paths::root_exports(&crate_root)?;
    let mut violations = check_core(&files, &exports)?;

    let mut count = files.len();
    for folder in FRONT_ENDS {
        for file in sources(&root().join(folder), root())? {
            count += 1;
            violations.extend(check_front_end(&file)?);
        }
    }
    violations.extend(check_dependencies(&metadata::direct_dependencies()?));
    if !violations.is_empty() {
        bail!("\n{}", violations.join("\n"));
    }
    println!("{count} source files checked");
    Ok(())
}

/// Violations inside the core. `exports` maps what the crate root re-exports to the module it comes from.
fn check_core(files: &[Source], exports: &BTreeMap<String, String>) -> Result<Vec<String>> {
    let mut violations = Vec::new();
    let mut sideways: BTreeMap<&'static str, BTreeSet<&'static str>> = BTreeMap::new();
    let test_modules: BTreeSet<_> = paths::test_modules(files)?;
    for file in files {
        let Some(top) = file.module.first() else { continue };
        if test_modules.iter().any(|test| file.module.starts_with(test)) {
            continue;
        }
        let Some((from, own_layer)) = layer(top) else {
            violations.push(format!("{}: module `{top}` has no layer; give it one in xtask", file.name));
            continue;
        };
        for Reference { name, line } in paths::references(file, "crate")? {
            let target = exports.get(&name).unwrap_or(&name);
            match layer(target) {
                Some((to, layer)) if layer == own_layer && to != from => {
                    sideways.entry(from).or_default().insert(to);
                }
                Some((_, layer)) if layer <= own_layer => {}
                Some((to, layer)) => violations
                    .push(format!("{}:{line}: `{from}` (L{own_layer}) imports `{to}` (L{layer})", file.name)),
                None => violations.push(format!("{}:{line}: `{target}` is in no layer", file.name)),
            }
        }
    }
    violations.extend(cycles(&sideways));
    Ok(violations)
}

fn layer(module: &str) -> Option<(&'static str, usize)> {
    LAYERS
        .iter()
        .enumerate()
        .find_map(|(number, names)| names.iter().find(|name| **name == module).map(|name| (*name, number)))
}

/// Modules of one layer that reach themselves through their imports.
fn cycles(imports: &BTreeMap<&'static str, BTreeSet<&'static str>>) -> Vec<String> {
    let reaches_itself = |start: &&&'static str| {
        let (mut todo, mut seen) = (vec![**start], BTreeSet::new());
        while let Some(module) = todo.pop() {
            todo.extend(imports.get(module).into_iter().flatten().filter(|next| seen.insert(**next)));
        }
        seen.contains(**start)
    };
    let ring: Vec<_> = imports.keys().filter(reaches_itself).copied().collect();
    if ring.is_empty() {
        vec![]
    } else {
        vec![format!("modules of one layer import each other: {}", ring.join(", "))]
    }
}

/// Uses of the core's insides in a front-end's file.
fn check_front_end(file: &Source) -> Result<Vec<String>> {
    let references = paths::references(file, "cvsw_core")?;
    let inside = references.into_iter().filter(|reference| INSIDES.contains(&&*reference.name));
    Ok(inside
        .map(|Reference { name, line }| {
            format!("{}:{line}: `cvsw_core::{name}` is not the core's public face", file.name)
        })
        .collect())
}

/// Dependencies that break the architecture; `(crate, dependency, for tests only)`.
fn check_dependencies(all: &[(String, String, bool)]) -> Vec<String> {
    let mut violations = Vec::new();
    for (from, to, _) in all.iter().filter(|(_, _, for_tests)| !for_tests) {
        let reason = match (&**from, &**to) {
            ("cvsw-core", to) if to.starts_with("cvsw") => "the core depends on no other crate of the project",
            (from, "smoltcp") if from != "cvsw-smoltcp" => "smoltcp is for the unikernel, and a test oracle",
            ("cvsw-benches" | "cvsw-oracle", "cvsw-testkit") => continue,
            (_, "cvsw-testkit") => "the test kit is for tests only",
            _ => continue,
        };
        violations.push(format!("{from} depends on {to}: {reason}"));
    }
    violations
}

/// Every Rust file below a `src` folder of `dir`, tests and build results aside.
fn sources(dir: &Path, shown_from: &Path) -> Result<Vec<Source>> {
    let mut files = Vec::new();
    for path in rust_files(dir)? {
        let name = path.strip_prefix(root()).unwrap_or(&path).display().to_string();
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {name}"))?;
        let module = paths::module_of(path.strip_prefix(shown_from).unwrap_or(&path));
        files.push(Source { name, module, text });
    }
    Ok(files)
}

fn rust_files(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).with_context(|| format!("cannot read {}", dir.display()))? {
        let path = entry?.path();
        if path.is_dir() && !["tests", "target"].iter().any(|name| path.ends_with(name)) {
            files.extend(rust_files(&path)?);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn core_with(path: &str, text: &str) -> Vec<String> {
        let file = Source { name: path.into(), module: paths::module_of(Path::new(path)), text: text.into() };
        let exports = paths::root_exports("pub use cvsw::{Cvsw, Config}; pub use time::Instant;").unwrap();
        check_core(&[file], &exports).unwrap()
    }

    #[test]
    fn downward_and_sideways_imports_pass() {
        for text in [
            "use crate::{wire::udp, key::FlowKey, stats};",
            "use super::action::X; use crate::Instant;",
            "pub(crate) fn f() -> crate::frame::NoRoom { crate::frame::NoRoom }",
            "#[cfg(test)] mod tests { use crate::cvsw::Cvsw; }",
            "#[cfg(test)] use crate::cvsw::Cvsw; fn f() {}",
            "// use crate::cvsw;\n/// [`crate::cvsw::Cvsw`]\nfn f() { let _ = \"crate::cvsw\"; }",
        ] {
            assert_eq!(core_with("flow/table.rs", text), [""; 0], "{text}");
        }
    }

    #[test]
    fn upward_imports_are_found() {
        for text in [
            "use crate::cvsw::Cvsw;",
            "use crate::{key::FlowKey,\n apply::{self, Program}};",
            "use crate::Config;",
            "use super::super::control;",
            "use super::{super::openflow::x, action};",
            "fn f(p: &crate::apply::Program) {}",
            "fn f() { assert!(crate::tunnel::X) }",
            "macro_rules! m { () => { $crate::cvsw::X } }",
            "mod inner { use super::super::super::apply::X; }",
            "#[cfg(not(test))] use crate::cvsw::Cvsw;",
        ] {
            assert_eq!(core_with("flow/table.rs", text).len(), 1, "{text}");
        }
        let found = core_with("wire/udp.rs", "use zerocopy::FromBytes;\nuse crate::key::FlowKey;");
        assert_eq!(found, ["wire/udp.rs:2: `wire` (L0) imports `key` (L1)"]);
    }

    #[test]
    fn new_modules_and_globs_need_a_layer() {
        assert_eq!(core_with("extra.rs", "").len(), 1);
        assert_eq!(core_with("cvsw.rs", "use crate::extra::X;").len(), 1);
        assert_eq!(core_with("flow/table.rs", "use crate::*;").len(), 1);
    }

    #[test]
    fn cycles_inside_a_layer_are_found() {
        let file = |path: &str, text: &str| Source {
            name: path.into(),
            module: paths::module_of(Path::new(path)),
            text: text.into(),
        };
        let mut files = vec![file("flow/mod.rs", "use crate::stats;"), file("stats.rs", "use crate::trace;")];
        assert_eq!(check_core(&files, &BTreeMap::new()).unwrap(), [""; 0]);
        files.push(file("trace.rs", "use crate::flow;"));
        assert_eq!(
            check_core(&files, &BTreeMap::new()).unwrap(),
            ["modules of one layer import each other: flow, stats, trace"]
        );
    }

    #[test]
    fn test_modules_in_files_of_their_own_are_exempt() {
        let file = |path: &str, text: &str| Source {
            name: path.into(),
            module: paths::module_of(Path::new(path)),
            text: text.into(),
        };
        let test = file("flow/proofs.rs", "use crate::cvsw::Cvsw;");
        let with_attribute = [file("flow/mod.rs", "#[cfg(test)]\nmod proofs;"), test];
        assert_eq!(check_core(&with_attribute, &BTreeMap::new()).unwrap(), [""; 0]);
        let [_, test] = with_attribute;
        let without = [file("flow/mod.rs", "mod proofs;"), test];
        assert_eq!(check_core(&without, &BTreeMap::new()).unwrap().len(), 1);
    }

    #[test]
    fn front_ends_keep_out_of_the_insides() {
        let check = |text: &str| {
            check_front_end(&Source { name: "f.rs".into(), module: vec![], text: text.into() }).unwrap().len()
        };
        assert_eq!(check("use cvsw_core::{Cvsw, flow::{Action, text}, stats::DropReason};"), 0);
        assert_eq!(check("use cvsw_core::{Cvsw, wire::Udp};"), 1);
        assert_eq!(check("fn f() { cvsw_core::apply::run() }"), 1);
    }

    #[test]
    fn forbidden_dependencies_are_found() {
        let check =
            |from: &str, to: &str, for_tests| check_dependencies(&[(from.into(), to.into(), for_tests)]).len();
        assert_eq!(check("cvsw-core", "smoltcp", true), 0);
        assert_eq!(check("cvsw-core", "smoltcp", false), 1);
        assert_eq!(check("cvsw-smoltcp", "smoltcp", false), 0);
        assert_eq!(check("cvsw-core", "cvsw-testkit", true), 0);
        assert_eq!(check("cvsw-cli", "cvsw-testkit", false), 1);
        assert_eq!(check("cvsw-core", "cvsw-userspace", false), 1);
    }
}
