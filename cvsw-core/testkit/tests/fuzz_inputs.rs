//! Replays every seed and every former crash of the fuzz targets.

use cvsw_testkit::fuzz::TARGETS;
use std::{
    fs,
    path::{Path, PathBuf},
};

fn fuzz_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz")
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    entries.map(|entry| entry.unwrap().path()).collect()
}

#[test]
fn no_committed_input_breaks_a_target() {
    for (name, body) in TARGETS {
        let seeds = files(&fuzz_folder().join("seeds").join(name));
        assert!(!seeds.is_empty(), "{name} has no seeds");
        let crashes = fuzz_folder().join("regressions").join(name);
        for file in seeds.iter().chain(&if crashes.exists() { files(&crashes) } else { vec![] }) {
            println!("{}", file.display());
            body(&fs::read(file).unwrap());
        }
    }
}

#[test]
fn every_body_has_its_target() {
    let mut targets: Vec<_> = files(&fuzz_folder().join("fuzz_targets"))
        .iter()
        .map(|file| file.file_stem().unwrap().to_str().unwrap().to_owned())
        .collect();
    targets.sort();
    assert_eq!(targets, TARGETS.iter().map(|(name, _)| *name).collect::<Vec<_>>());
}
