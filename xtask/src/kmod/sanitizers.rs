//! A kernel with Linux's own checks of memory, locks and RCU (KASAN, lockdep, kmemleak and more). Debian has no package of
//! one, but of the source: it is built from that, with the smallest configuration that the tests can run on
//! (`sanitizers.config`), and kept.

use super::kernel::{self, Kernel};
use crate::{command::Cmd, setup};
use anyhow::{Context, Result, ensure};
use std::{
    fs,
    path::{Path, PathBuf},
    time::Instant,
};

const CONFIG: &str = include_str!("sanitizers.config");
const SOURCE_PACKAGE: &str = "linux-source-6.1";
/// `(Debian package, something that it brings)`: what building a kernel needs beside what building a module does.
const PACKAGES: &[(&str, &str)] = &[
    ("flex", "flex"),
    ("bison", "bison"),
    ("bc", "bc"),
    ("xz-utils", "xz"),
    ("libelf-dev", "/usr/include/libelf.h"),
];
/// Sources of hardware that the machine does not have. Their `Kconfig` stays: configuring reads all of them.
const LEFT_OUT: &[&str] = &[
    "*/Documentation/*.rst",
    "*/Documentation/*.txt",
    "*/Documentation/*.yaml",
    "*/tools/testing/*",
    "*/sound/*.[ch]",
    "*/drivers/gpu/*.[ch]",
    "*/drivers/media/*.[ch]",
    "*/drivers/staging/*.[ch]",
    "*/drivers/net/ethernet/*.[ch]",
    "*/drivers/net/wireless/*.[ch]",
];
const BUILD_LIMIT: u32 = 3600;

/// What a kernel that has them says of its checks when it boots.
pub const ACTIVE: &[&str] = &[
    "kasan: KernelAddressSanitizer initialized",
    "Lock dependency validator",
    "kmemleak: Kernel memory leak detector initialized",
    "Running RCU self tests",
];

/// The kernel; built if it is not there, or if Debian has a newer source, or the configuration is another.
pub fn kernel() -> Result<Kernel> {
    setup::install(PACKAGES)?;
    let folder = super::folder()?.join("linux-sanitizers");
    let tree = folder.join(SOURCE_PACKAGE);
    let version = source_version()?;
    // What was built names its folder.
    let wanted = format!("{version}\n{}\n{CONFIG}", folder.display());
    let complete = folder.join("complete");
    if fs::read_to_string(&complete).ok().as_deref() != Some(&wanted) {
        let start = Instant::now();
        println!("the kernel with checks: building it from Debian's source {version}, once; this takes minutes");
        unpack(&folder)?;
        configure(&tree)?;
        make(&tree, &format!("--jobs={} bzImage modules", std::thread::available_parallelism()?))?;
        make(&tree, &format!("INSTALL_MOD_PATH={} modules_install", folder.display()))?;
        fs::write(&complete, wanted)?;
        println!("the kernel with checks: built in {:.0} s", start.elapsed().as_secs_f64());
    }
    let release = fs::read_to_string(tree.join("include/config/kernel.release"))?.trim().to_owned();
    Ok(Kernel {
        image: tree.join("arch/x86/boot/bzImage"),
        modules: folder.join("lib/modules").join(&release),
        headers: tree,
        release,
    })
}

fn source_version() -> Result<String> {
    let read = || Cmd::new("apt-cache").words("show --no-all-versions").arg(SOURCE_PACKAGE).read();
    let listing = match read() {
        Ok(listing) => listing,
        Err(_) => {
            setup::update_lists()?;
            read()?
        }
    };
    let version = listing.lines().find_map(|line| line.strip_prefix("Version: "));
    Ok(version.with_context(|| format!("Debian's package `{SOURCE_PACKAGE}` has no version"))?.to_owned())
}

/// Downloads the source and unpacks what is needed of it.
fn unpack(folder: &Path) -> Result<()> {
    kernel::unpack(folder, &[SOURCE_PACKAGE.to_owned()])?;
    let archive: PathBuf = folder.join(format!("usr/src/{SOURCE_PACKAGE}.tar.xz"));
    let mut tar = Cmd::new("tar").arg("-C").arg(folder).arg("-xf").arg(&archive);
    for pattern in LEFT_OUT {
        tar = tar.arg(format!("--exclude={pattern}"));
    }
    tar.run()?;
    Ok(fs::remove_file(archive)?)
}

/// Makes the configuration, and sees that nothing wanted was dropped for want of something else.
fn configure(tree: &Path) -> Result<()> {
    let wanted = tree.join("wanted.config");
    fs::write(&wanted, CONFIG)?;
    make(tree, &format!("KCONFIG_ALLCONFIG={} allnoconfig", wanted.display()))?;
    let made = fs::read_to_string(tree.join(".config"))?;
    let missing: Vec<&str> = CONFIG
        .lines()
        .filter(|line| line.starts_with("CONFIG_") && !made.lines().any(|other| other == *line))
        .collect();
    ensure!(missing.is_empty(), "this kernel cannot have {}: see sanitizers.config", missing.join(", "));
    Ok(())
}

fn make(tree: &Path, arguments: &str) -> Result<()> {
    Cmd::limited(BUILD_LIMIT, "make").words("--silent -C").arg(tree).words(arguments).run()
}
