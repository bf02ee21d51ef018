//! A real Prometheus that scrapes a controller, on loopback.

use std::{
    io::{BufRead as _, BufReader},
    process::{Child, Command, Stdio},
};

use cvsw_controller::{
    client::http::{Client, Parts, Target},
    config::Listen,
};
use hyper::Method;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{block_on, secret};

/// It ends when dropped.
pub struct Prometheus {
    process: Child,
    address: Listen,
    _folder: TempDir,
}

impl Prometheus {
    /// Starts one that looks at `target` twice a second.
    pub fn of(target: &Listen, token: &str) -> Self {
        let Listen::Tcp(target) = target else { panic!("Prometheus does not scrape {target}") };
        let folder = tempfile::tempdir().unwrap();
        secret(&folder.path().join("token"), token);
        let scrape = json!({
            "job_name": "cvsw",
            "authorization": {"credentials_file": folder.path().join("token")},
            "static_configs": [{"targets": [target.to_string()]}],
        });
        let config = json!({"global": {"scrape_interval": "500ms"}, "scrape_configs": [scrape]});
        // JSON is YAML.
        std::fs::write(folder.path().join("config.yml"), config.to_string()).unwrap();
        let mut process = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "prometheus", "--config.file=config.yml", "--storage.tsdb.path=data"])
            .arg("--web.listen-address=127.0.0.1:0")
            .current_dir(folder.path())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log = BufReader::new(process.stderr.take().unwrap());
        let mut lines = log.lines().map_while(Result::ok);
        let address = lines.find_map(|line| Some(line.split_once("Listening on\" address=")?.1.to_owned()));
        let address = address.expect("prometheus listens (`cargo xtask setup` fetches it)");
        // It must not find its log full.
        std::thread::spawn(move || lines.for_each(drop));
        Self { process, address: format!("tcp:{address}").parse().unwrap(), _folder: folder }
    }

    /// The `data` of an answer of its API; `None`: it is not there yet, or refuses.
    pub fn ask(&self, path: &str) -> Option<Value> {
        let target = Target { api: Some(self.address.clone()), ..Target::default() };
        let client = Client::new(&target).unwrap();
        let answer = block_on(client.try_ask(Method::GET, path, Parts::default())).ok()?;
        let answer: Value = answer.read().ok()?;
        (answer["status"] == "success").then(|| answer["data"].clone())
    }

    /// The samples that a query finds now.
    pub fn query(&self, query: &str) -> Vec<Value> {
        let escaped: String = query.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let data = self.ask(&format!("/api/v1/query?query={escaped}"));
        data.and_then(|data| data["result"].as_array().cloned()).unwrap_or_default()
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
