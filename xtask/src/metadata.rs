//! What `cargo metadata` knows: the dependency graph, declared Rust versions, the target folder.

use crate::command::Cmd;
use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
};

/// Folder of build results.
pub fn target_directory() -> Result<PathBuf> {
    let metadata = read("metadata --format-version 1 --no-deps --offline")?;
    Ok(metadata["target_directory"].as_str().context("cargo metadata names no target folder")?.into())
}

/// The crates that a crate depends on, by section: `(crate, dependency, is it for tests only)`.
pub fn direct_dependencies() -> Result<Vec<(String, String, bool)>> {
    let metadata = read("metadata --format-version 1 --no-deps --offline")?;
    let mut all = Vec::new();
    for package in array(&metadata["packages"]) {
        for dependency in array(&package["dependencies"]) {
            let for_tests = dependency["kind"].as_str() == Some("dev");
            all.push((text(&package["name"]), text(&dependency["name"]), for_tests));
        }
    }
    Ok(all)
}

/// Checks that everything our crates are built from (tests aside) declares a Rust version that is not above
/// ours. That our own code keeps to it is checked by clippy's `incompatible_msrv`.
pub fn msrv() -> Result<()> {
    let metadata = read("metadata --format-version 1 --locked --all-features")?;
    let ours = metadata["packages"].as_array().and_then(|packages| {
        packages.iter().find(|package| package["name"] == "cvsw-core")?["rust_version"].as_str()
    });
    let ours = version(ours.context("cvsw-core declares no rust-version")?)?;
    let built = built_packages(&metadata);
    let mut too_new = Vec::new();
    for package in array(&metadata["packages"]) {
        let Some(theirs) = package["rust_version"].as_str() else { continue };
        if built.contains(&*text(&package["id"])) && version(theirs)? > ours {
            too_new.push(format!("{} {} needs Rust {theirs}", text(&package["name"]), text(&package["version"])));
        }
    }
    if !too_new.is_empty() {
        bail!("we declare Rust {}.{}.{}, but {}", ours.0, ours.1, ours.2, too_new.join(", "));
    }
    println!("{} packages build with Rust {}.{}.{}", built.len(), ours.0, ours.1, ours.2);
    Ok(())
}

/// Ids of the packages that the workspace's members need outside their tests.
fn built_packages(metadata: &Value) -> BTreeSet<String> {
    let nodes: BTreeMap<&str, &Value> =
        array(&metadata["resolve"]["nodes"]).iter().filter_map(|node| Some((node["id"].as_str()?, node))).collect();
    let mut todo: Vec<String> = array(&metadata["workspace_members"]).iter().map(text).collect();
    let mut built = BTreeSet::new();
    while let Some(id) = todo.pop() {
        let Some(node) = nodes.get(&*id) else { continue };
        for dependency in array(&node["deps"]) {
            if array(&dependency["dep_kinds"]).iter().any(|kind| kind["kind"] != "dev") {
                todo.extend((!built.contains(&*text(&dependency["pkg"]))).then(|| text(&dependency["pkg"])));
            }
        }
        built.insert(id);
    }
    built
}

/// A Rust version as numbers that compare; a missing part is 0, what follows a `-` does not count.
pub fn version(text: &str) -> Result<(u32, u32, u32)> {
    let release = text.split('-').next().unwrap_or_default();
    let mut parts = release.split('.').map(str::parse);
    let mut next = || parts.next().unwrap_or(Ok(0)).with_context(|| format!("`{text}` is not a Rust version"));
    Ok((next()?, next()?, next()?))
}

fn read(words: &str) -> Result<Value> {
    let output = Cmd::cargo(words).read()?;
    serde_json::from_str(&output).context("cargo metadata printed something that is not JSON")
}

fn array(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn versions_compare_by_number() {
        assert_eq!(version("1.91").unwrap(), (1, 91, 0));
        assert_eq!(version("1.96.0-nightly").unwrap(), (1, 96, 0));
        assert!(version("1.100.1").unwrap() > version("1.99").unwrap());
        assert!(version("new").is_err());
    }

    #[test]
    fn test_only_dependencies_are_not_built() {
        let edge = |pkg, kind| json!({"pkg": pkg, "dep_kinds": [{"kind": kind}]});
        let metadata = json!({
            "workspace_members": ["us"],
            "resolve": {"nodes": [
                {"id": "us", "deps": [edge("lib", Value::Null), edge("oracle", "dev".into())]},
                {"id": "lib", "deps": [edge("macro", "build".into())]},
                {"id": "macro", "deps": []},
                {"id": "oracle", "deps": [edge("rest", Value::Null)]},
                {"id": "rest", "deps": []},
            ]},
        });
        let built: Vec<_> = built_packages(&metadata).into_iter().collect();
        assert_eq!(built, ["lib", "macro", "us"]);
    }
}
