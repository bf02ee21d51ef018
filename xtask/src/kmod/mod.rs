//! Builds the kernel module: the Rust engine as one checked object, then the C shim around it by kbuild.

mod emulator;
mod guest;
mod initramfs;
mod kernel;
mod machine;
mod object;
mod rings;
mod sanitizers;
mod switch;
mod wire;

pub use guest::{stress, test, test_some};
pub use kernel::{Kernel, fetch};

use crate::{command::Cmd, metadata, nostd, root};
use anyhow::{Context, Result, bail, ensure};
use std::{
    fs,
    path::{Path, PathBuf},
};

/// `(Debian package, a program that it brings)`: what building and testing the module runs.
pub const PACKAGES: &[(&str, &str)] = &[
    ("gcc-12", "gcc-12"),
    ("make", "make"),
    ("binutils", "objdump"),
    ("dkms", "dkms"),
    ("kmod", "depmod"),
    ("cpio", "cpio"),
    ("gzip", "gzip"),
    ("qemu-system-x86", "qemu-system-x86_64"),
    ("util-linux", "chrt"),
];

const TARGET: &str = "x86_64-unknown-none";
const BUILD_LIMIT: u32 = 900;

/// Kernel code: linked into the top two gigabytes, no red zone, no jump tables, calls and returns by the kernel's
/// mitigation thunks; and SHA-256 that does not unroll its rounds, for the stack's sake.
const FLAGS: &str = "-Crelocation-model=static -Ccode-model=kernel -Cno-redzone=y -Cjump-tables=n \
    -Cforce-unwind-tables=n -Zplt=y -Zfunction-sections=n -Zretpoline-external-thunk -Zindirect-branch-cs-prefix \
    -Zfunction-return=thunk-extern -Zcf-protection=branch \
    -Ctarget-feature=+harden-sls-ijmp,+harden-sls-ret \
    --cfg aes_backend=\"soft\" --cfg polyval_backend=\"soft\" --cfg sha2_backend=\"soft\" \
    --cfg sha2_backend_soft=\"compact\"";

/// Beside those, for a kernel with KASAN: each access of memory asks whether it may.
const CHECKED_FLAGS: &str = "-Zsanitizer=kernel-address -Cllvm-args=-asan-mapping-offset=0xdffffc0000000000 \
    -Cllvm-args=-asan-instrumentation-with-call-threshold=0 -Cllvm-args=-asan-stack=0 -Cllvm-args=-asan-globals=0";

/// How the engine is compiled.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Flavour {
    /// As users get it.
    Plain,
    /// Checked by the kernel's KASAN.
    Checked,
}

impl Flavour {
    fn flags(self) -> String {
        match self {
            Self::Plain => FLAGS.to_owned(),
            Self::Checked => format!("{FLAGS} {CHECKED_FLAGS}"),
        }
    }

    /// Where it is compiled.
    fn folder(self) -> Result<PathBuf> {
        Ok(match self {
            Self::Plain => folder()?,
            Self::Checked => folder()?.join("checked"),
        })
    }
}

/// For the shim as users get it: warnings are errors, and no function has a large stack frame. Code that checks itself has.
const SHIM_FLAGS: &str = "-Werror -Wframe-larger-than=1024";

/// The check `kmod`: the object, its report, and the module for every kernel.
pub fn run() -> Result<()> {
    engine("clippy", "-- -D warnings", Flavour::Plain)?;
    let object = engine_object(Flavour::Plain)?;
    println!("{}", object::check(&object)?);
    for kernel in kernel::fetch()? {
        let module = build(&kernel, &object, SHIM_FLAGS)?;
        let size = fs::metadata(&module)?.len();
        println!("module for {}: {} ({size} bytes, with debugging information)", kernel.release, module.display());
        println!("deepest call chains, shim and engine, until they leave for the kernel (bytes):");
        object::check_module(&module)?.iter().take(8).for_each(|(size, name)| println!("  {size:>5}  {name}"));
    }
    Ok(())
}

/// Downloads what the test machines need beside the kernels that the module is always built for.
pub fn fetch_for_machines() -> Result<()> {
    kernel::with_drivers()?;
    emulator::newer().map(drop)
}

/// Folder of everything that is made here.
fn folder() -> Result<PathBuf> {
    Ok(metadata::target_directory()?.join("kmod"))
}

/// Runs a command of cargo for the engine as the kernel gets it.
fn engine(command: &str, arguments: &str, flavour: Flavour) -> Result<()> {
    // The flags are not those that `core` was compiled with for the target: it must be built too.
    nostd::from_source()?
        .cargo(BUILD_LIMIT, command)
        .words("--locked --release --quiet --target")
        .args([TARGET, "--manifest-path"])
        .arg(root().join("frontends/kmod/Cargo.toml"))
        .arg("--target-dir")
        .arg(flavour.folder()?)
        .env("RUSTFLAGS", flavour.flags())
        .words(arguments)
        .run()
}

/// Builds the engine and takes its one object out of the library.
fn engine_object(flavour: Flavour) -> Result<PathBuf> {
    engine("build", "", flavour)?;
    let target_dir = flavour.folder()?;
    let library = target_dir.join(TARGET).join("release/libcvsw_kmod.a");
    let members = Cmd::new("ar").arg("t").arg(&library).read()?;
    let ours: Vec<&str> = members.lines().filter(|member| member.starts_with("cvsw_kmod")).collect();
    let [member] = ours[..] else { bail!("not one object of ours in {}: {members}", library.display()) };
    let object = target_dir.join("core.o");
    fs::write(&object, Cmd::new("ar").arg("p").arg(&library).arg(member).read_bytes()?)?;
    Ok(object)
}

/// Builds the module for one kernel, in a folder of its own.
fn build(kernel: &Kernel, object: &Path, flags: &str) -> Result<PathBuf> {
    let folder = folder()?.join(format!("module-{}", kernel.release));
    fs::create_dir_all(&folder)?;
    copy_sources(&folder)?;
    Cmd::limited(BUILD_LIMIT, "make")
        .words("--silent -C")
        .arg(&kernel.headers)
        .arg(format!("M={}", folder.display()))
        .arg(format!("CVSW_CORE={}", object.display()))
        // Without type information (BTF), which would need one more tool.
        .arg(format!("KCFLAGS={flags}"))
        .words("CONFIG_DEBUG_INFO_BTF_MODULES= modules")
        .run()?;
    Ok(folder.join("cvsw.ko"))
}

/// The DKMS package's files.
pub fn dkms() -> Result<PathBuf> {
    let object = engine_object(Flavour::Plain)?;
    object::check(&object)?;
    dkms_package(&object)?;
    dkms_folder()
}

fn dkms_folder() -> Result<PathBuf> {
    Ok(folder()?.join("dkms").join(concat!("cvsw-", env!("CARGO_PKG_VERSION"))))
}

/// Makes the folder that DKMS builds from: the shim's sources, and the engine's object beside them. What DKMS made of an
/// older one is forgotten.
fn dkms_package(object: &Path) -> Result<()> {
    let folder = dkms_folder()?;
    for old in [&folder, &self::folder()?.join("dkms-tree"), &self::folder()?.join("dkms-installed")] {
        let _ = fs::remove_dir_all(old);
    }
    fs::create_dir_all(&folder)?;
    copy_sources(&folder)?;
    fs::copy(object, folder.join("engine.o_prebuilt"))?;
    println!("DKMS package: {}", folder.display());
    Ok(())
}

/// Builds and installs the DKMS package as a user's machine would, into folders of our own. Returns the module.
fn dkms_install(kernel: &Kernel) -> Result<PathBuf> {
    let (tree, installed) = (folder()?.join("dkms-tree"), folder()?.join("dkms-installed"));
    fs::create_dir_all(&tree)?;
    // DKMS wants the kernel's folder of modules to be there.
    fs::create_dir_all(installed.join(&kernel.release))?;
    for step in ["build", "install"] {
        let command = Cmd::limited(BUILD_LIMIT, "dkms")
            .words(&format!("{step} --force --no-depmod"))
            .arg(concat!("cvsw/", env!("CARGO_PKG_VERSION")))
            .args(["-k", &kernel.release, "--kernelsourcedir"])
            .arg(&kernel.headers)
            .arg("--sourcetree")
            .arg(folder()?.join("dkms"))
            .arg("--dkmstree")
            .arg(&tree)
            .arg("--installtree")
            .arg(&installed);
        command.run()?;
    }
    let module = installed.join(&kernel.release).join("updates/dkms/cvsw.ko");
    ensure!(module.is_file(), "`dkms install` did not make {}", module.display());
    Ok(module)
}

fn copy_sources(to: &Path) -> Result<()> {
    for entry in fs::read_dir(root().join("frontends/kmod/module"))? {
        let entry = entry?;
        copy_if_changed(&entry.path(), &to.join(entry.file_name()))?;
    }
    Ok(())
}

/// Keeps the time stamp of a file that is the same, so that make does nothing for it.
fn copy_if_changed(from: &Path, to: &Path) -> Result<()> {
    let wanted = fs::read(from).with_context(|| format!("reading {}", from.display()))?;
    if fs::read(to).is_ok_and(|there| there == wanted) {
        return Ok(());
    }
    fs::write(to, wanted).with_context(|| format!("writing {}", to.display()))
}
