//! A Linux guest for tests that need a kernel of their own: Debian's stock cloud kernel under QEMU (no KVM needed), an
//! initramfs of busybox, programs of this machine with their libraries, and modules.
//! What the guest writes to its console comes back as text.

use crate::{command::Cmd, kmod::Kernel, metadata};
use anyhow::{Context, Result, bail};
use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
};

/// `(Debian package, a program that it brings)`: what a guest needs beside what the tests of the kernel module do.
pub const PACKAGES: &[(&str, &str)] = &[("busybox-static", "busybox")];

/// What the kernel of every emulated machine is told. It would else measure whether its timer's interrupts come in time, and panic
/// if the computer is too busy for that ("IO-APIC + timer doesn't work").
pub const KERNEL_ARGUMENTS: &str = "console=ttyS0 panic=-1 no_timer_check";

/// A guest's root file system in the making. Removed when dropped.
pub struct Image {
    kernel: Kernel,
    root: PathBuf,
}

impl Image {
    /// A root with busybox and its applets, and `init` as the script that the guest runs. It should end with
    /// `poweroff -f`.
    pub fn new(kernel: Kernel, name: &str, init: &str) -> Result<Self> {
        let root = guest_directory()?.join(format!("{name}.{}", std::process::id()));
        for folder in ["bin", "sbin", "dev", "proc", "sys", "tmp", "etc", "run", "var/run", "root"] {
            fs::create_dir_all(root.join(folder))?;
        }
        let image = Self { kernel, root };
        image.program("busybox", "/bin/busybox")?;
        for applet in Cmd::new("busybox").arg("--list").read()?.lines().filter(|name| *name != "busybox") {
            symlink("busybox", image.root.join("bin").join(applet))?;
        }
        image.file("/init", init.as_bytes())?;
        fs::set_permissions(image.root.join("init"), fs::Permissions::from_mode(0o755))?;
        image.file("/etc/passwd", b"root:x:0:0:root:/root:/bin/sh\n")?;
        image.file("/etc/group", b"root:x:0:\n")?;
        image.file("/etc/protocols", b"icmp 1 ICMP\ntcp 6 TCP\nudp 17 UDP\nesp 50 ESP\n")?;
        Ok(image)
    }

    /// Adds a file.
    pub fn file(&self, path: &str, contents: &[u8]) -> Result<()> {
        let path = self.inside(path);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::write(&path, contents).with_context(|| format!("cannot write {}", path.display()))
    }

    /// Adds a program of this machine (a path, or a name on the PATH) as `path`, with the libraries it needs.
    pub fn program(&self, program: &str, path: &str) -> Result<()> {
        let source = find(program)?;
        let target = self.inside(path);
        if target.is_symlink() {
            fs::remove_file(&target)?;
        }
        copy(&source, &target)?;
        // A static program has no list; `ldd` then fails.
        let Ok(libraries) = Cmd::new("ldd").arg(&source).read() else { return Ok(()) };
        for library in libraries.split_whitespace().filter(|word| word.starts_with('/')) {
            let target = self.inside(library);
            if !target.exists() {
                copy(Path::new(library), &target)?;
            }
        }
        Ok(())
    }

    /// Adds kernel modules and what they depend on; load them with `modprobe`.
    pub fn modules(&self, names: &[&str]) -> Result<()> {
        let folder = Path::new("lib/modules").join(&self.kernel.release);
        let source = &self.kernel.modules;
        let dependencies = fs::read_to_string(source.join("modules.dep"))?;
        let builtin = fs::read_to_string(source.join("modules.builtin"))?;
        let mut wanted = BTreeSet::new();
        for name in names {
            let is_it = |path: &str| module_name(path) == name.replace('-', "_");
            match dependencies.lines().find(|line| line.split(':').next().is_some_and(is_it)) {
                Some(line) => wanted.extend(line.split([':', ' ']).filter(|path| !path.is_empty())),
                None if builtin.lines().any(is_it) => {}
                None => bail!("the kernel {} has no module {name}", self.kernel.release),
            }
        }
        for path in wanted.into_iter().chain(["modules.builtin", "modules.builtin.modinfo", "modules.order"]) {
            copy(&source.join(path), &self.root.join(&folder).join(path))?;
        }
        Cmd::new("depmod").arg("-b").arg(&self.root).arg(&self.kernel.release).run()?;
        self.program("kmod", "/sbin/kmod")?;
        let modprobe = self.root.join("sbin/modprobe");
        if !modprobe.is_symlink() {
            symlink("kmod", modprobe)?;
        }
        Ok(())
    }

    /// Boots the guest, waits, `seconds` at most, for it to end, and returns what it wrote to its console.
    pub fn boot(&self, megabytes: u32, seconds: u32) -> Result<String> {
        let beside = |what: &str| PathBuf::from(format!("{}.{what}", self.root.display()));
        let (archive, console) = (beside("cpio"), beside("console"));
        let script = "cd \"$1\" && find . -print0 | cpio --quiet --null -o -H newc -R 0:0 > \"$2\"";
        Cmd::new("sh").arg("-c").arg(script).arg("sh").arg(&self.root).arg(&archive).run()?;
        let ended = Cmd::limited(seconds, "qemu-system-x86_64")
            .words("-accel tcg -cpu max -display none -monitor none -no-reboot -nic none -smp 1 -m")
            .arg(megabytes.to_string())
            .arg("-kernel")
            .arg(&self.kernel.image)
            .arg("-initrd")
            .arg(&archive)
            .arg("-append")
            .arg(format!("{KERNEL_ARGUMENTS} quiet mitigations=off"))
            .arg("-serial")
            .arg(format!("file:{}", console.display()))
            .run();
        let text = String::from_utf8_lossy(&fs::read(&console).unwrap_or_default()).into_owned();
        let _ = fs::remove_file(&archive);
        let _ = fs::remove_file(&console);
        match ended {
            Ok(()) => Ok(text),
            Err(error) => Err(error.context(format!("the guest did not end in order; its console says:\n{text}"))),
        }
    }

    fn inside(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.root);
    }
}

fn guest_directory() -> Result<PathBuf> {
    let path = metadata::target_directory()?.join("guest");
    fs::create_dir_all(&path)?;
    Ok(path)
}

fn module_name(path: &str) -> String {
    let file = path.rsplit('/').next().unwrap_or(path);
    file.split('.').next().unwrap_or(file).replace('-', "_")
}

fn find(program: &str) -> Result<PathBuf> {
    if program.contains('/') {
        return Ok(program.into());
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into(), "/bin".into()]);
    let mut files = folders.map(|folder| folder.join(program));
    files.find(|file| file.is_file()).with_context(|| {
        format!("the guest needs `{program}`, which is not installed (`cargo xtask setup` installs what is needed)")
    })
}

fn copy(source: &Path, target: &Path) -> Result<()> {
    if let Some(parent) = target.parent() {
        fs::create_dir_all(parent)?;
    }
    fs::copy(source, target)
        .with_context(|| format!("cannot copy {} to {}", source.display(), target.display()))?;
    Ok(())
}
