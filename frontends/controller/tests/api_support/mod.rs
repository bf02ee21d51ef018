//! A controller with an API in a thread of its own, and clients of it.

mod authority;
mod prometheus;

use std::{
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::LazyLock,
    thread::JoinHandle,
    time::{Duration, Instant},
};

use authority::{Authority, secret};
use cvsw_controller::{
    api::problem::Problem,
    client::http::{Answer, Client, Parts, Target},
    config::Listen,
    server::{Bound, Options, serve},
};
use http_body_util::BodyExt as _;
use hyper::Method;
pub use prometheus::Prometheus;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::oneshot;

const PATIENCE: Duration = Duration::from_secs(30);
/// The admin's and the reader's.
pub const TOKENS: [&str; 2] = ["aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "rrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrr"];
/// What is not about networks.
pub const REST: &str = "listen = [\"tcp:127.0.0.1:0\"]\n";
/// The member of the network `n`.
pub static MEMBER: LazyLock<Value> = LazyLock::new(
    || json!({"mac": "02:00:00:00:00:01", "ip": "10.0.0.1", "underlay_mac": "02:00:00:00:01:01", "underlay_ip": "192.0.2.1"}),
);

fn networks() -> String {
    let member: String =
        MEMBER.as_object().unwrap().iter().map(|(key, value)| format!("{key} = {value}\n")).collect();
    format!(
        "[[network]]\nname = \"n\"\nvni = 1\ngroup = \"239.0.0.1\"\n[[network.member]]\nname = \"vm\"\n{member}"
    )
}

/// What kind of API.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// On a unix socket; desired state is the file.
    File,
    /// On a unix socket; desired state is in a store.
    Stored,
    /// On TCP and TLS, with tokens and certificates; desired state is in a store.
    Guarded,
}

/// A controller with an API; it ends when dropped.
pub struct Api {
    folder: TempDir,
    kind: Kind,
    bound: Vec<Listen>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// Who talks to the API.
pub struct Caller(Target);

impl Api {
    pub fn start(kind: Kind) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let section = if kind == Kind::Guarded { guarded(folder.path()) } else { String::new() };
        std::fs::write(folder.path().join("c.toml"), format!("{REST}{section}{}", networks())).unwrap();
        let mut api = Self { folder, kind, bound: vec![], stop: None, thread: None };
        api.run();
        api
    }

    fn run(&mut self) {
        let path = self.folder.path();
        let unix = Listen::Unix(path.join("api.sock"));
        let options = Options {
            config: path.join("c.toml"),
            listen: vec![],
            store_tls: Default::default(),
            store: (self.kind != Kind::File).then(|| path.join("store")),
            api: if self.kind == Kind::Guarded { vec![] } else { vec![unix] },
            name: None,
            status_socket: None,
            key_log: None,
            cluster_key: None,
        };
        let (stop, stopped) = oneshot::channel();
        let (ready, is_ready) = std::sync::mpsc::channel();
        self.stop = Some(stop);
        self.thread = Some(std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let announce = move |bound: &Bound| Ok(ready.send(bound.api.clone())?);
            runtime.block_on(serve(options, announce, async move { drop(stopped.await) })).unwrap();
        }));
        self.bound = is_ready.recv_timeout(PATIENCE).expect("the controller gets ready");
    }

    fn end(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let result = thread.join();
            assert!(result.is_ok() || std::thread::panicking(), "the controller has panicked");
        }
    }

    pub fn restart(&mut self) {
        self.end();
        self.run();
    }

    pub fn write_config(&self, text: &str) {
        std::fs::write(self.folder.path().join("c.toml"), text).unwrap();
    }

    /// Where the API listens first.
    pub fn address(&self) -> &Listen {
        &self.bound[0]
    }

    fn caller(&self) -> Caller {
        Caller(Target { api: Some(self.bound[0].clone()), ..Target::default() })
    }

    pub fn ask(&self, method: Method, path: &str, parts: Parts<'_>) -> Answer {
        self.caller().ask(method, path, parts)
    }

    pub fn get(&self, path: &str) -> Answer {
        let answer = self.ask(Method::GET, path, Parts::default());
        assert_eq!(answer.status, 200, "{path}: {answer:?}");
        answer
    }

    pub fn wait(&self, what: &str, good: impl Fn(&Self) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !good(self) {
            assert!(Instant::now() < deadline, "waited for {what}");
            // Not synchronisation: only the pace of looking.
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Over TCP without TLS.
    pub fn plain(&self, token: Option<&str>) -> Caller {
        Caller(Target { api: Some(self.bound[0].clone()), token_file: self.token(token), ..Target::default() })
    }

    /// Over TLS, with a certificate for `name`.
    pub fn tls(&self, name: Option<&str>, token: Option<&str>) -> Caller {
        let file = |ending: &str| name.map(|name| self.folder.path().join(format!("{name}.{ending}")));
        Caller(Target {
            api: Some(self.bound[1].clone()),
            token_file: self.token(token),
            ca: Some(self.folder.path().join("ca.crt")),
            server_name: Some("controller.example".to_owned()),
            certificate: file("crt"),
            key: file("key"),
            json: false,
        })
    }

    /// The error of a client whose certificate another authority has signed.
    pub fn tls_of_a_stranger(&self) -> String {
        let folder = tempfile::tempdir().unwrap();
        Authority::new(folder.path()).issue("ops.example", folder.path());
        let mut caller = self.tls(None, None);
        caller.0.certificate = Some(folder.path().join("ops.example.crt"));
        caller.0.key = Some(folder.path().join("ops.example.key"));
        format!("{:#}", caller.try_ask(Method::GET, "/v1/networks", Parts::default()).unwrap_err())
    }

    /// A client that knows the present authority and token, and keeps them.
    pub fn keep_authority(&self) -> Kept {
        let folder = tempfile::tempdir().unwrap();
        for name in ["ca.crt", "ops.example.crt", "ops.example.key"] {
            std::fs::copy(self.folder.path().join(name), folder.path().join(name)).unwrap();
        }
        Kept(folder)
    }

    /// Another authority and its certificates, and this token file.
    pub fn replace_secrets(&self, tokens: &str) {
        issue(self.folder.path());
        secret(&self.folder.path().join("tokens"), tokens);
    }

    /// Sends SIGHUP, to every controller of this process.
    pub fn hang_up(&self) {
        let done = Command::new("kill").args(["-HUP", &std::process::id().to_string()]).status().unwrap();
        assert!(done.success());
    }

    fn token(&self, token: Option<&str>) -> Option<PathBuf> {
        let path = self.folder.path().join(format!("token-{}", token?));
        secret(&path, token?);
        Some(path)
    }

    /// Begins to listen to a stream of events.
    pub fn listen(&self, path: &str) -> Listener {
        let (sender, events) = std::sync::mpsc::channel();
        let (target, path) = (self.caller().0, path.to_owned());
        std::thread::spawn(move || {
            block_on(async {
                let response =
                    Client::new(&target).unwrap().open(Method::GET, &path, Parts::default()).await.unwrap();
                let mut body = response.into_body();
                let mut text = String::new();
                while let Some(Ok(frame)) = body.frame().await {
                    text.push_str(std::str::from_utf8(frame.data_ref().unwrap()).unwrap());
                    while let Some((event, rest)) = text.split_once("\n\n") {
                        if sender.send(event.to_owned()).is_err() {
                            return;
                        }
                        text = rest.to_owned();
                    }
                }
            });
        });
        Listener(events)
    }

    /// Prometheus's own checker reads the metrics.
    pub fn judge_metrics(&self, text: &str) {
        let mut promtool = Command::new("promtool")
            .args(["check", "metrics"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("promtool is installed with the package prometheus");
        // It reads the older text format, which has no end mark, and names counters as their samples are named.
        let mut text = text.replace("# EOF\n", "");
        let counters: Vec<_> = text.lines().filter_map(|line| line.strip_suffix(" counter")).collect();
        let names: Vec<_> = counters.iter().map(|line| line.replace("# TYPE ", "")).collect();
        for name in names {
            for kind in ["TYPE", "HELP"] {
                text = text.replace(&format!("# {kind} {name} "), &format!("# {kind} {name}_total "));
            }
        }
        promtool.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
        let output = promtool.wait_with_output().unwrap();
        let said =
            format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{said}\n{text}");
    }
}

impl Drop for Api {
    fn drop(&mut self) {
        self.end();
    }
}

impl Caller {
    pub fn ask(&self, method: Method, path: &str, parts: Parts<'_>) -> Answer {
        self.try_ask(method, path, parts).unwrap_or_else(|error| panic!("{path}: {error:#}"))
    }

    fn try_ask(&self, method: Method, path: &str, parts: Parts<'_>) -> anyhow::Result<Answer> {
        let client = Client::new(&self.0)?;
        block_on(client.try_ask(method, path, parts))
    }
}

/// Prometheus's own checker reads queries.
pub fn judge_queries(queries: &[String]) {
    let rule = |(number, query)| json!({"record": format!("dashboard:{number}"), "expr": query});
    let rules: Vec<_> = queries.iter().enumerate().map(rule).collect();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rules.yml");
    // JSON is YAML.
    std::fs::write(&path, json!({"groups": [{"name": "dashboard", "rules": rules}]}).to_string()).unwrap();
    let output = Command::new("promtool").args(["check", "rules"]).arg(&path).output();
    let output = output.expect("promtool is installed with the package prometheus");
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && said.contains(&format!("{} rules found", queries.len())), "{said}");
}

/// What is in a dashboard and not in Grafana's own types of one.
pub fn unknown_to_grafana(dashboard: &str) -> String {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../../target");
    let mut python = Command::new(format!("{root}/os-ken/bin/python"))
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/grafana.py"))
        .env("PYTHONPATH", format!("{root}/judges"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("`cargo xtask setup` makes target/os-ken and target/judges");
    python.stdin.take().unwrap().write_all(dashboard.as_bytes()).unwrap();
    let output = python.wait_with_output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// Somebody with certificates of an earlier day.
pub struct Kept(TempDir);

impl Kept {
    pub fn ask(&self, api: &Api) -> Result<(), String> {
        let mut caller = api.tls(Some("ops.example"), None);
        for (file, name) in [
            (&mut caller.0.ca, "ca.crt"),
            (&mut caller.0.certificate, "ops.example.crt"),
            (&mut caller.0.key, "ops.example.key"),
        ] {
            *file = Some(self.0.path().join(name));
        }
        let answer = caller.try_ask(Method::GET, "/v1/networks", Parts::default());
        let status = answer.map_err(|error| format!("{error:#}"))?.status;
        assert_eq!(status, 200);
        Ok(())
    }
}

/// Somebody who listens to events.
pub struct Listener(std::sync::mpsc::Receiver<String>);

impl Listener {
    pub fn take(&self, count: usize) -> Vec<String> {
        (0..count).map(|_| self.0.recv_timeout(PATIENCE).expect("an event")).collect()
    }
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

pub fn problem(answer: &Answer) -> Problem {
    let problem: Problem = answer.read().unwrap_or_else(|error| panic!("{error}: {answer:?}"));
    assert_eq!(problem.status, answer.status.as_u16());
    problem
}

fn issue(folder: &Path) {
    let authority = Authority::new(folder);
    for name in ["controller.example", "ops.example", "reader.example"] {
        authority.issue(name, folder);
    }
}

/// Files of a guarded API, and the section that names them.
fn guarded(folder: &Path) -> String {
    issue(folder);
    secret(&folder.join("tokens"), &format!("admin {}\nreader {}\n", TOKENS[0], TOKENS[1]));
    let path = |name: &str| folder.join(name).display().to_string();
    format!(
        "[api]\nlisten = [\"tcp:127.0.0.1:0\", \"tls:127.0.0.1:0\"]\ncertificate = {:?}\nkey = {:?}\nclient_ca = {:?}\n\
         admins = [\"ops.example\"]\ntokens = {:?}\n",
        path("controller.example.crt"),
        path("controller.example.key"),
        path("ca.crt"),
        path("tokens")
    )
}
