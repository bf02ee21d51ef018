//! A QEMU machine that runs the image.

use crate::{PATIENCE, net::Net};
use defmt_decoder::{DecodeError, Table};
use std::{
    fs,
    path::PathBuf,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

/// Kinds of machines.
#[derive(Clone, Copy, Debug)]
pub enum Machine {
    /// `microvm`: virtio-mmio.
    Micro,
    /// `q35`: virtio-pci.
    Q35,
}

/// What the image runs on.
pub struct Hardware {
    /// The machine.
    pub machine: Machine,
    /// QEMU's name of the processor.
    pub processor: &'static str,
    /// Memory in MiB.
    pub megabytes: u32,
    /// Whether to keep a list of the instructions that were executed.
    pub note_instructions: bool,
}

impl Hardware {
    /// A processor with everything that QEMU has, and 32 MiB.
    pub const fn new(machine: Machine) -> Self {
        Self { machine, processor: "max", megabytes: 32, note_instructions: false }
    }
}

/// A running machine; ended, and its log shown if the test fails, when dropped.
pub struct Guest {
    qemu: Child,
    files: PathBuf,
    image: PathBuf,
}

impl Guest {
    /// Starts the image with this command line (and `exit=1`).
    pub fn start(machine: Machine, net: &Net, line: &str) -> Self {
        Self::start_on(&Hardware::new(machine), net, line, None)
    }

    /// Starts the image on this hardware, with this file of keys.
    pub fn start_on(hardware: &Hardware, net: &Net, line: &str, keys: Option<&str>) -> Self {
        let image = std::env::var_os("CVSW_UNIKERNEL")
            .expect("CVSW_UNIKERNEL names no image: use cargo xtask unikernel-test");
        let files = std::env::temp_dir().join(format!("cvu-{}-{}", std::process::id(), net.unique()));
        fs::create_dir(&files).unwrap();
        let file = |name: &str| files.join(name).display().to_string();
        let (machine, device) = match hardware.machine {
            Machine::Micro => ("microvm,rtc=off", "virtio-net-device"),
            Machine::Q35 => ("q35", "virtio-net-pci,disable-legacy=on"),
        };
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &net.namespace, "qemu-system-x86_64", "-machine", machine]);
        // There could be a second processor: so QEMU 7.2 translates the guest's memory barriers, which virtqueues need.
        command.args(["-accel", "tcg,thread=multi", "-smp", "1,maxcpus=2"]);
        command.args(["-cpu", hardware.processor, "-m", &hardware.megabytes.to_string()]);
        command.args(["-nodefaults", "-no-reboot", "-display", "none"]);
        command
            .args(["-global", "virtio-mmio.force-legacy=false", "-serial"])
            .arg(format!("file:{}", file("console")));
        command.args(["-device", "isa-debugcon,iobase=0xe9,chardev=log", "-device", "isa-debug-exit,iobase=0xf4"]);
        command.args(["-chardev", &format!("file,id=log,path={}", file("log"))]);
        command.args(["-netdev", "tap,id=net,ifname=t0,script=no,downscript=no"]);
        command.args(["-device", &format!("{device},netdev=net,mac=02:00:00:00:00:02")]);
        if hardware.note_instructions {
            command.args(["-d", "in_asm", "-D", &file("instructions")]);
        }
        if let Some(keys) = keys {
            fs::write(file("keys"), keys).unwrap();
            command.args(["-fw_cfg", &format!("name=opt/org.cvsw/associations,file={}", file("keys"))]);
        }
        command.arg("-kernel").arg(&image).args(["-append", &format!("{line} exit=1")]);
        let qemu = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().expect("ip and QEMU");
        Self { qemu, files, image: image.into() }
    }

    /// Whether it has executed an instruction in whose name this stands ([`Hardware::note_instructions`]).
    pub fn has_executed(&self, instruction: &str) -> bool {
        let text = fs::read_to_string(self.files.join("instructions")).unwrap();
        assert!(text.contains("mov"), "QEMU names no instructions");
        text.contains(instruction)
    }

    /// Waits for the end; the exit code. `None`: it hangs.
    pub fn wait(&mut self) -> Option<i32> {
        self.wait_at_most(PATIENCE)
    }

    /// The watchdog: waits this long for the end. `None`: it hangs.
    pub fn wait_at_most(&mut self, limit: Duration) -> Option<i32> {
        let deadline = Instant::now() + limit;
        while Instant::now() < deadline {
            if let Some(status) = self.qemu.try_wait().unwrap() {
                return status.code();
            }
            thread::sleep(Duration::from_millis(20));
        }
        None
    }

    /// Its exit code, if it has ended.
    pub fn try_exit_code(&mut self) -> Option<i32> {
        self.qemu.try_wait().unwrap().and_then(|status| status.code())
    }

    /// What it logged, as text.
    pub fn log(&self) -> String {
        let bytes = fs::read(self.files.join("log")).unwrap_or_default();
        let table = Table::parse(&fs::read(&self.image).unwrap()).unwrap().expect("the image has a .defmt section");
        let mut decoder = table.new_stream_decoder();
        decoder.received(&bytes);
        let mut text = String::new();
        loop {
            match decoder.decode() {
                Ok(frame) => text += &format!("{}\n", frame.display(false)),
                Err(DecodeError::UnexpectedEof) => return text,
                Err(DecodeError::Malformed) => text += "(malformed)\n",
            }
        }
    }

    /// What it wrote to its serial port.
    pub fn console(&self) -> String {
        fs::read_to_string(self.files.join("console")).unwrap_or_default()
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        let _ = self.qemu.kill();
        let _ = self.qemu.wait();
        if thread::panicking() {
            eprintln!("log of the machine:\n{}\nits console:\n{}", self.log(), self.console());
        }
        let _ = fs::remove_dir_all(&self.files);
    }
}
