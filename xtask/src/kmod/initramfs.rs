//! The initramfs of a test machine: this machine's programs, the kernel's modules and ours, and `cvsw-kmod-guest` as the
//! first process.

use super::{folder, kernel::Kernel};
use crate::{command::Cmd, metadata};
use anyhow::{Context, Result};
use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

/// Programs of this machine that the tests run inside.
const PROGRAMS: &[&str] = &["ip", "ss", "tc", "ethtool", "ping", "tcpdump", "modprobe", "insmod", "rmmod", "chrt"];
/// Modules of the kernel that the machine loads when it starts: `cvsw-kmod-guest` finds their names in `/etc/modules`.
const LOADED: &[&str] = &[
    "virtio_pci",
    "virtio_net",
    "veth",
    "vxlan",
    "8021q",
    "bonding",
    "bridge",
    // IPsec, the judge of our encryption.
    "esp4",
    "xfrm_user",
    "aesni-intel",
];
/// Those that come when they are needed: what IPsec and we compute with, and the drivers of a NIC with virtual functions, where
/// the kernel has them.
const ON_DEMAND: &[&str] = &[
    "seqiv",
    "echainiv",
    "authenc",
    "authencesn",
    "crypto_null",
    "drbg",
    "ctr",
    "gcm",
    "ghash-generic",
    "hmac",
    "sha256_generic",
    "sha256-ssse3",
    "sha512_generic",
    "igb",
    "igbvf",
];
/// The beginning of a test vector's ciphertext, as it stands in the module.
const VECTOR: &[u8] = b"deb22cd9b07c72c16e3a65beeb8df304";

/// Makes the initramfs for a kernel.
pub fn make(kernel: &Kernel, module: &Path) -> Result<PathBuf> {
    let root = folder()?.join(format!("root-{}", kernel.release));
    let _ = fs::remove_dir_all(&root);
    for name in ["bin", "dev", "etc", "proc", "run", "sys", "tmp"] {
        fs::create_dir_all(root.join(name))?;
    }
    for program in PROGRAMS {
        add_program(&root, &which(program)?, &format!("bin/{program}"))?;
    }
    let ours = metadata::target_directory()?.join("debug");
    for (program, to) in [("cvsw-kmod-guest", "init"), ("cvsw", "bin/cvsw")] {
        add_program(&root, &ours.join(program), to)?;
        Cmd::new("strip").arg(root.join(to)).run()?;
    }
    add_corpus(&root)?;
    add_modules(&root, kernel, module)?;
    fs::write(root.join("etc/modules"), LOADED.join("\n"))?;
    let image = folder()?.join(format!("initramfs-{}.gz", kernel.release));
    Cmd::new("sh")
        .arg("-c")
        .arg(format!("find . | cpio --quiet -o -H newc | gzip -1 > {}", image.display()))
        .in_folder(&root)
        .run()?;
    Ok(image)
}

fn which(program: &str) -> Result<PathBuf> {
    let path = Cmd::new("sh").words("-c").arg(format!("PATH=$PATH:/usr/sbin:/sbin command -v {program}")).read()?;
    Ok(PathBuf::from(path.trim()))
}

/// Copies a program and the libraries that it is linked with.
fn add_program(root: &Path, program: &Path, to: &str) -> Result<()> {
    let copy = |from: &Path, to: &Path| -> Result<()> {
        if let Some(parent) = to.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::copy(from, to).with_context(|| format!("copying {}", from.display()))?;
        Ok(())
    };
    copy(program, &root.join(to))?;
    let libraries = Cmd::new("ldd").arg(program).read()?;
    for library in libraries.split_whitespace().filter(|word| word.starts_with('/')) {
        let inside = root.join(library.trim_start_matches('/'));
        if !inside.exists() {
            copy(Path::new(library), &inside)?;
        }
    }
    Ok(())
}

/// Copies the seeds and regressions of the fuzzers that take frames or control messages.
fn add_corpus(root: &Path) -> Result<()> {
    let to = root.join("corpus");
    fs::create_dir_all(&to)?;
    for kind in ["seeds", "regressions"] {
        for target in ["frame", "control", "esp"] {
            let folder = crate::root().join("fuzz").join(kind).join(target);
            if !folder.is_dir() {
                continue;
            }
            for file in fs::read_dir(&folder)? {
                let file = file?;
                let name = format!("{kind}-{target}-{}", file.file_name().to_string_lossy());
                fs::copy(file.path(), to.join(name))?;
            }
        }
    }
    Ok(())
}

/// Copies the kernel's modules that are needed, with those that they depend on, and ours.
fn add_modules(root: &Path, kernel: &Kernel, module: &Path) -> Result<()> {
    let to = root.join("lib/modules").join(&kernel.release);
    let dependencies = fs::read_to_string(kernel.modules.join("modules.dep"))?;
    let mut wanted = BTreeSet::new();
    for line in dependencies.lines() {
        let Some((path, needs)) = line.split_once(':') else { continue };
        let name = Path::new(path).file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if LOADED.iter().chain(ON_DEMAND).any(|module| name.split('.').next() == Some(module)) {
            wanted.insert(path);
            wanted.extend(needs.split_whitespace());
        }
    }
    for path in wanted.into_iter().chain(["modules.order", "modules.builtin", "modules.builtin.modinfo"]) {
        let target = to.join(path);
        fs::create_dir_all(target.parent().context("no folder")?)?;
        fs::copy(kernel.modules.join(path), target).with_context(|| format!("copying {path}"))?;
    }
    let ours = to.join("cvsw.ko");
    fs::copy(module, &ours)?;
    Cmd::new("strip").arg("--strip-debug").arg(&ours).run()?;
    break_vector(&ours, &root.join("broken"))?;
    Cmd::new("depmod").arg("-b").arg(root).arg(&kernel.release).run()
}

/// Copies the module with one digit of a test vector changed: one that must refuse to be loaded.
fn break_vector(module: &Path, to: &Path) -> Result<()> {
    let mut bytes = fs::read(module)?;
    let at =
        bytes.windows(VECTOR.len()).position(|window| window == VECTOR).context("no test vector in the module")?;
    bytes[at] = if bytes[at] == b'0' { b'1' } else { b'0' };
    fs::create_dir_all(to)?;
    Ok(fs::write(to.join("cvsw.ko"), bytes)?)
}
