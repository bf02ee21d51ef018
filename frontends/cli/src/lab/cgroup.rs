//! Control groups that limit processor time (`cpu` controller, version 1 or 2), one for each VM of a laboratory.

use anyhow::{Context, Result, bail};
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// Where version 1 has its `cpu` controller, and version 2 all of them.
const VERSION_1: &str = "/sys/fs/cgroup/cpu";
const VERSION_2: &str = "/sys/fs/cgroup";
/// The time over which a share is granted: the shortest in which an eighth of a core is as much as the kernel gives out.
const PERIOD_MICROSECONDS: f64 = 8000.0;
/// The least that the kernel gives out in a period.
const LEAST_MICROSECONDS: f64 = 1000.0;

/// Makes the group of `vm`, which gets `share` cores and no more. Returns its folder.
pub fn create(lab: &str, vm: &str, share: f64) -> Result<PathBuf> {
    let group = path(lab, vm)?;
    let context = || format!("making the control group {}", group.display());
    fs::create_dir(&group).with_context(context)?;
    let quota = (share * PERIOD_MICROSECONDS).max(LEAST_MICROSECONDS);
    let period = quota / share;
    let put = |file: &str, text: String| fs::write(group.join(file), text).with_context(context);
    if is_version_2() {
        put("cpu.max", format!("{quota:.0} {period:.0}"))?;
    } else {
        put("cpu.cfs_period_us", format!("{period:.0}"))?;
        put("cpu.cfs_quota_us", format!("{quota:.0}"))?;
    }
    Ok(group)
}

/// Puts a process, with all of its threads, into a group.
pub fn join(group: &Path, pid: i32) -> Result<()> {
    fs::write(group.join("cgroup.procs"), pid.to_string())
        .with_context(|| format!("putting process {pid} into {}", group.display()))
}

/// Words in front of a command line that runs in a group.
pub fn joining(group: &Path) -> [String; 4] {
    let script = format!("echo $$ > {} && exec \"$@\"", group.join("cgroup.procs").display());
    ["sh".to_owned(), "-c".to_owned(), script, "sh".to_owned()]
}

/// Where the group of `vm` is, or will be.
pub fn path(lab: &str, vm: &str) -> Result<PathBuf> {
    Ok(controller()?.join(format!("{}{vm}", prefix(lab))))
}

/// Fails when processor time cannot be limited on this machine.
pub fn require() -> Result<()> {
    controller().map(drop)
}

/// Removes the groups of laboratory `lab`, whose processes have ended.
pub fn remove(lab: &str) -> Result<()> {
    let Ok(controller) = controller() else { return Ok(()) };
    let entries = fs::read_dir(controller).with_context(|| format!("listing {}", controller.display()))?;
    let ours = entries.flatten().filter(|entry| entry.file_name().to_string_lossy().starts_with(&prefix(lab)));
    for group in ours.map(|entry| entry.path()) {
        match fs::remove_dir(&group) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("removing the control group {}", group.display()));
            }
            _ => {}
        }
    }
    Ok(())
}

fn prefix(lab: &str) -> String {
    format!("cvsw-{lab}-")
}

fn is_version_2() -> bool {
    Path::new(VERSION_2).join("cgroup.controllers").exists()
}

/// The folder under which groups with limited processor time are made.
fn controller() -> Result<&'static Path> {
    if !is_version_2() {
        let path = Path::new(VERSION_1);
        if path.join("cgroup.procs").exists() {
            return Ok(path);
        }
        bail!("there is no control group with the cpu controller: mount one at {VERSION_1}");
    }
    let path = Path::new(VERSION_2);
    let file = path.join("cgroup.subtree_control");
    let on = fs::read_to_string(&file).with_context(|| format!("reading {}", file.display()))?;
    if !on.split_whitespace().any(|name| name == "cpu") {
        fs::write(&file, "+cpu").context("this machine's control groups have no cpu controller")?;
    }
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;
    use std::time::{Duration, Instant};

    #[test]
    fn who_wants_more_than_its_share_has_to_wait() {
        let lab = format!("t{:x}", std::process::id());
        let group = create(&lab, "vm", 0.125).unwrap();
        let loops = ["sh", "-c", "while :; do :; done"].map(str::to_owned);
        let words: Vec<String> = joining(&group).into_iter().chain(loops).collect();
        let mut busy = Command::new(&words[0]).args(&words[1..]).spawn().unwrap();
        let throttled = || {
            let text = fs::read_to_string(group.join("cpu.stat")).unwrap();
            let count = text.lines().find_map(|line| line.strip_prefix("nr_throttled ")).unwrap();
            count.parse::<u64>().unwrap() > 2
        };
        let deadline = Instant::now() + Duration::from_secs(60);
        while !throttled() && Instant::now() < deadline {
            std::thread::yield_now();
        }
        let waited = throttled();
        busy.kill().unwrap();
        busy.wait().unwrap();
        remove(&lab).unwrap();
        assert!(waited, "it was never made to wait");
        assert!(!group.exists());
    }
}
