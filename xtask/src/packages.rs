//! Debian packages: the program, the controller's and the port's services, the kernel module for DKMS.

use crate::{
    command::{Cmd, installed},
    kmod, metadata, root,
};
use anyhow::{Context, Result, bail};
use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

/// `cargo-deb` and its version.
const CARGO_DEB: &str = "3.8.0";
/// Seconds for one build.
const BUILD_LIMIT: u32 = 1800;
/// The packages, as cargo-deb's variants; "": the program itself.
const VARIANTS: [&str; 4] = ["", "controller", "port", "dkms"];

/// Makes all packages; returns the folder where they are.
pub fn build() -> Result<PathBuf> {
    if !installed("cargo-deb") {
        // Compiled for a short build, not for speed: it runs for seconds.
        Cmd::cargo("install --quiet --locked cargo-deb --version")
            .arg(CARGO_DEB)
            .env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "1")
            .env("CARGO_PROFILE_RELEASE_LTO", "off")
            .env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "16")
            .run()?;
    }
    let folder = root().join("target/packages");
    // A link inside would lead cargo-deb to files of another run.
    let _ = fs::remove_dir_all(&folder);
    let stage = folder.join("stage");
    fs::create_dir_all(&stage)?;
    Cmd::limited(BUILD_LIMIT, "cargo").words("build --locked --release --quiet --package cvsw-cli").run()?;
    let program = stage.join("cvsw");
    fs::copy(metadata::target_directory()?.join("release/cvsw"), &program)?;
    Cmd::new(&program).arg("man").arg(stage.join("man")).run()?;
    for (shell, name) in [("bash", "cvsw.bash"), ("zsh", "_cvsw"), ("fish", "cvsw.fish")] {
        fs::write(stage.join(name), Cmd::new(&program).args(["completions", shell]).read_bytes()?)?;
    }
    symlink(kmod::dkms()?, stage.join("dkms"))?;
    for variant in VARIANTS {
        let command = Cmd::cargo("deb --no-build --no-strip --quiet --package cvsw-cli --output").arg(&folder);
        if variant.is_empty() { command.run()? } else { command.arg("--variant").arg(variant).run()? }
    }
    for package in packages(&folder)? {
        println!("{}", package.display());
    }
    Ok(folder)
}

fn packages(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut list = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "deb") {
            list.push(path);
        }
    }
    list.sort();
    Ok(list)
}

/// What the test does in a fresh Debian: installs, starts, asks, restarts, removes. `set -e`: any failure ends it.
const SCRIPT: &str = r#"
set -eu
export DEBIAN_FRONTEND=noninteractive
apt-get install --quiet --yes --no-install-recommends /packages/cvsw_*.deb /packages/cvsw-controller_*.deb /packages/cvsw-port_*.deb >/dev/null
cvsw --version
test -s /usr/share/man/man1/cvsw-controller.1 || test -s /usr/share/man/man1/cvsw-controller.1.gz
systemd-analyze verify /lib/systemd/system/cvsw-controller.service
systemctl start cvsw-controller
for attempt in $(seq 100); do cvsw net list >/dev/null 2>&1 && break; sleep 0.1; done
cvsw net set blue --vni 42 --group 239.1.1.42
systemctl kill --signal=KILL cvsw-controller
for attempt in $(seq 100); do cvsw net list >/dev/null 2>&1 && break; sleep 0.1; done
cvsw net list | grep -q '^blue  *42'
systemctl show cvsw-controller --property=User --property=NRestarts
ls -ld /run/cvsw/api.sock /var/lib/cvsw/
systemctl stop cvsw-controller
apt-get remove --quiet --yes cvsw-port cvsw-controller cvsw >/dev/null
test ! -e /usr/bin/cvsw
echo PACKAGES-WORK
"#;

/// The check `packages`: makes them, and installs and starts them in a fresh Debian with its own systemd.
pub fn test() -> Result<()> {
    let folder = build()?;
    for package in packages(&folder)? {
        let listing = Cmd::new("dpkg-deb").arg("--contents").arg(&package).read()?;
        let wanted = match package.file_name().and_then(|name| name.to_str()).unwrap_or_default() {
            name if name.starts_with("cvsw-controller") => "/systemd/system/cvsw-controller.service",
            name if name.starts_with("cvsw-port") => "/systemd/system/cvsw-port@.service",
            name if name.starts_with("cvsw-dkms") => "./usr/src/cvsw-0.1.0/dkms.conf",
            _ => "./usr/bin/cvsw",
        };
        if !listing.lines().any(|line| line.ends_with(wanted)) {
            bail!("{} has no {wanted}:\n{listing}", package.display());
        }
    }
    let debian = debian(&folder)?;
    fs::create_dir_all(debian.join("packages"))?;
    for package in packages(&folder)? {
        fs::copy(&package, debian.join("packages").join(package.file_name().context("a name")?))?;
    }
    fs::write(debian.join("packages/test.sh"), SCRIPT)?;
    fs::write(debian.join("etc/systemd/system/cvsw-test.service"), UNIT)?;
    let _ = fs::remove_file(debian.join("packages/result"));
    boot(&debian)?;
    let result = fs::read_to_string(debian.join("packages/result")).context("the test wrote no result")?;
    println!("{result}");
    if !result.ends_with("PACKAGES-WORK\n") {
        bail!("the packages do not work");
    }
    Ok(())
}

/// The test as the last service of the boot; what ends it ends the machine.
const UNIT: &str = "[Unit]\nAfter=multi-user.target\nSuccessAction=exit-force\nFailureAction=exit-force\n\
     [Service]\nType=oneshot\nTimeoutStartSec=240\nExecStart=/bin/sh /packages/test.sh\n\
     StandardOutput=file:/packages/result\nStandardError=inherit\n";

/// A fresh Debian, made once.
fn debian(folder: &Path) -> Result<PathBuf> {
    let debian = folder.parent().context("a folder")?.join("debian");
    if !debian.join("complete").is_file() {
        let _ = fs::remove_dir_all(&debian);
        let include = "--include=systemd,systemd-sysv,dbus,ca-certificates";
        Cmd::limited(900, "debootstrap").args(["--variant=minbase", include, "bookworm"]).arg(&debian).run()?;
        fs::write(debian.join("complete"), "")?;
    }
    Ok(debian)
}

/// Starts the Debian's own systemd as process 1 of new namespaces.
fn boot(debian: &Path) -> Result<()> {
    let start = r#"
mount --make-rprivate /
mount --bind "$1" "$1"
mount -t proc proc "$1/proc"
mount -t sysfs -o ro sysfs "$1/sys"
if test -d /sys/fs/cgroup/systemd; then
    mount -t tmpfs tmpfs "$1/sys/fs/cgroup"
    mkdir "$1/sys/fs/cgroup/systemd"
    mount -t cgroup -o none,name=systemd cgroup "$1/sys/fs/cgroup/systemd"
else
    mount -t cgroup2 cgroup2 "$1/sys/fs/cgroup"
fi
mount -t tmpfs tmpfs "$1/run"
mount -t tmpfs tmpfs "$1/tmp"
mount --rbind /dev "$1/dev"
ip link set lo up
cd "$1"
exec env -i container=cvsw-test PATH=/usr/sbin:/usr/bin:/sbin:/bin chroot . /lib/systemd/systemd --unit=cvsw-test.service
"#;
    let status = Cmd::limited(300, "unshare")
        .words("--mount --uts --ipc --net --cgroup --pid --fork --kill-child sh -c")
        .arg(start)
        .arg("boot")
        .arg(debian)
        .status()?;
    println!("the machine ended: {status}");
    Ok(())
}
