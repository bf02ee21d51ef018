//! Debian's kernels and their headers, unpacked into a private folder: the machine's own `/boot` and `/usr/src`
//! stay as they are.

use crate::command::Cmd;
use anyhow::{Context, Result, bail};
use std::{
    fs,
    path::{Path, PathBuf},
};

const DOWNLOAD_LIMIT: u32 = 300;

/// One kernel.
pub struct Kernel {
    /// What `uname -r` says on it.
    pub release: String,
    /// Folder for `make -C`.
    pub headers: PathBuf,
    /// The compressed kernel.
    pub image: PathBuf,
    /// Its folder of modules.
    pub modules: PathBuf,
}

/// Finds the current kernels, and downloads and unpacks those that are not there yet.
pub fn fetch() -> Result<Vec<Kernel>> {
    Ok(vec![stable()?, newer()?])
}

/// The kernel of Debian 12.
pub fn stable() -> Result<Kernel> {
    fetch_one("linux-headers-cloud-amd64", "linux-image-cloud-amd64")
}

/// The newest one that Debian 12 offers beside it.
pub fn newer() -> Result<Kernel> {
    fetch_one("linux-headers-6.12-cloud-amd64", "linux-image-6.12-cloud-amd64")
}

/// The kernel of Debian 12 with the drivers of all hardware: the others are for virtual machines.
pub fn with_drivers() -> Result<Kernel> {
    fetch_one("linux-headers-amd64", "linux-image-amd64")
}

/// From a package that depends on the headers and one that depends on the image.
fn fetch_one(headers_meta: &str, image_meta: &str) -> Result<Kernel> {
    let headers = depends(headers_meta, "linux-headers-")?;
    let [headers] = &headers[..] else { bail!("`{headers_meta}` does not depend on one package of headers") };
    let release = headers.trim_start_matches("linux-headers-").to_owned();
    let folder = super::folder()?.join(format!("linux-{release}"));
    let complete = folder.join("complete");
    // The headers name their folder: a target directory that was copied or moved is no use here.
    let here = folder.display().to_string();
    if fs::read_to_string(&complete).ok().as_deref() != Some(&here) {
        let mut packages = vec![headers.clone()];
        for prefix in ["linux-headers-", "linux-kbuild-", "linux-compiler-"] {
            packages.extend(depends(headers, prefix)?);
        }
        packages.extend(depends(image_meta, "linux-image-")?);
        unpack(&folder, &packages)?;
        configure(&folder, &release)?;
        fs::write(complete, here)?;
    }
    Ok(Kernel {
        headers: folder.join(format!("usr/src/linux-headers-{release}")),
        image: folder.join(format!("boot/vmlinuz-{release}")),
        modules: folder.join(format!("lib/modules/{release}")),
        release,
    })
}

/// Packages that `package` depends on and whose name begins with `prefix`.
fn depends(package: &str, prefix: &str) -> Result<Vec<String>> {
    let read = || Cmd::new("apt-cache").words("depends --important").arg(package).read();
    let listing = match read() {
        Ok(listing) => listing,
        // The package lists may be missing or older than the mirror.
        Err(_) => {
            crate::setup::update_lists()?;
            read().with_context(|| format!("Debian's package `{package}` is needed"))?
        }
    };
    let names = listing.lines().filter_map(|line| line.trim().strip_prefix("Depends: "));
    Ok(names.filter(|name| name.starts_with(prefix)).map(str::to_owned).collect())
}

/// Empties the folder, and unpacks the packages into it.
pub fn unpack(folder: &Path, packages: &[String]) -> Result<()> {
    let downloads = folder.join("packages");
    let _ = fs::remove_dir_all(folder);
    fs::create_dir_all(&downloads)?;
    let download = || {
        Cmd::limited(DOWNLOAD_LIMIT, "apt-get").words("download --quiet").args(packages).in_folder(&downloads).run()
    };
    if download().is_err() {
        crate::setup::update_lists()?;
        download()?;
    }
    extract(&downloads, folder)?;
    Ok(fs::remove_dir_all(&downloads)?)
}

/// Unpacks the packages of one folder into another.
pub fn extract(packages: &Path, folder: &Path) -> Result<()> {
    for entry in fs::read_dir(packages)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "deb") {
            Cmd::new("dpkg-deb").arg("--extract").arg(path).arg(folder).run()?;
        }
    }
    Ok(())
}

/// Makes the headers find each other where they are now, and the modules find what they depend on.
fn configure(folder: &Path, release: &str) -> Result<()> {
    let makefile = folder.join(format!("usr/src/linux-headers-{release}/Makefile"));
    let text = fs::read_to_string(&makefile)?;
    let moved = text.replace("include /usr/src/", &format!("include {}/usr/src/", folder.display()));
    if moved == text {
        bail!("{} does not include the common headers as it used to", makefile.display());
    }
    fs::write(&makefile, moved)?;
    Cmd::new("depmod").arg("-b").arg(folder).arg(release).run()
}
