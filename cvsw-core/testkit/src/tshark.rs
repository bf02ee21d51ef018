//! Wireshark's dissectors as a judge of frames.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// A capture file that is removed at the end.
pub struct Capture(PathBuf);

impl Capture {
    /// Writes frames to a file with `name` in its name. Classic pcap, little-endian, Ethernet.
    pub fn write(name: &str, frames: &[Vec<u8>]) -> Self {
        let words = |words: &[u32]| words.iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<u8>>();
        let mut file = words(&[0xa1b2_c3d4, 4 << 16 | 2, 0, 0, 0x4_0000, 1]);
        for frame in frames {
            let len = frame.len() as u32;
            file.extend(words(&[0, 0, len, len]));
            file.extend(frame);
        }
        let path = std::env::temp_dir().join(format!("cvsw-{name}-{}.pcap", std::process::id()));
        fs::write(&path, file).expect("the temporary directory is writable");
        Self(path)
    }

    /// The values of `fields`, per frame. A field that occurs several times has all its values, outermost first.
    pub fn dissect(&self, fields: &[&str]) -> Vec<Vec<Vec<String>>> {
        self.dissect_with(&[], fields)
    }

    /// The same with `preferences` set (tshark's option `-o`).
    pub fn dissect_with(&self, preferences: &[String], fields: &[&str]) -> Vec<Vec<Vec<String>>> {
        let options: Vec<_> = preferences.iter().flat_map(|preference| ["-o", preference]).collect();
        self.dissect_by(&options, fields)
    }

    /// The same with a dissector in Lua.
    pub fn dissect_with_script(&self, script: &Path, fields: &[&str]) -> Vec<Vec<Vec<String>>> {
        assert!(script.is_file(), "no such script: {}", script.display());
        self.dissect_by(&["-X", &format!("lua_script:{}", script.display())], fields)
    }

    fn dissect_by(&self, options: &[&str], fields: &[&str]) -> Vec<Vec<Vec<String>>> {
        let mut command = Command::new("tshark");
        command.args(["-n", "-T", "fields", "-E", "separator=|", "-E", "occurrence=a", "-E", "aggregator=,"]);
        for layer in ["ip", "tcp", "udp"] {
            command.args(["-o", &format!("{layer}.check_checksum:TRUE")]);
        }
        command.args(options);
        for field in fields {
            command.args(["-e", field]);
        }
        let output = command.arg("-r").arg(&self.0).output().expect("tshark is installed (apt-get install tshark)");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8(output.stdout).expect("UTF-8");
        let values = |field: &str| field.split(',').filter(|value| !value.is_empty()).map(str::to_owned).collect();
        text.lines().map(|line| line.split('|').map(values).collect()).collect()
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        // Nothing to do about a file that is already gone.
        let _ = fs::remove_file(&self.0);
    }
}
