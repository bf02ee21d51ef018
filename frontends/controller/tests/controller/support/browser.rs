//! A headless Chromium, driven over two pipes by its own protocol (CDP): no port, no library.

use std::{
    cell::RefCell,
    fs::{File, OpenOptions},
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
    process::{Child, Command, Stdio},
    sync::mpsc,
};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::{PATIENCE, wait_for};

const AXE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/judges/axe_playwright_python/axe.min.js");

/// A browser with one page; ended when dropped.
pub struct Browser {
    process: Child,
    commands: File,
    answers: mpsc::Receiver<Value>,
    session: Option<String>,
    count: u64,
    /// What the page has complained about: errors, exceptions, violations of its policy.
    complaints: Vec<String>,
    _folder: TempDir,
}

impl Browser {
    /// Starts a browser and opens a page.
    pub fn open(url: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let pipe = |name: &str| {
            let path = folder.path().join(name);
            assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
            // For both directions, so that opening does not wait for the other end.
            OpenOptions::new().read(true).write(true).open(path).unwrap()
        };
        let (commands, output) = (pipe("commands"), pipe("answers"));
        let process = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "sh", "-c"])
            .arg(
                "exec chromium --headless --no-sandbox --disable-gpu --disable-dev-shm-usage --no-first-run \
                 --hide-scrollbars --window-size=1280,900 --remote-debugging-pipe --user-data-dir=profile \
                 3<commands 4>answers",
            )
            .current_dir(folder.path())
            .env("HOME", folder.path())
            // Where its singleton socket lies, which it leaves behind when it is killed.
            .env("TMPDIR", folder.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("sh is there");
        let (sender, answers) = mpsc::channel();
        std::thread::spawn(move || {
            for message in BufReader::new(output).split(0).map_while(Result::ok) {
                let Ok(message) = serde_json::from_slice(&message) else { return };
                if sender.send(message).is_err() {
                    return;
                }
            }
        });
        let mut browser =
            Self { process, commands, answers, session: None, count: 0, complaints: vec![], _folder: folder };
        let target = browser.call("Target.createTarget", json!({"url": "about:blank"}))["targetId"].clone();
        let attached = browser.call("Target.attachToTarget", json!({"targetId": target, "flatten": true}));
        browser.session = Some(attached["sessionId"].as_str().unwrap().to_owned());
        for domain in ["Page.enable", "Runtime.enable", "Log.enable"] {
            browser.call(domain, json!({}));
        }
        browser.scheme("light");
        browser.call("Page.navigate", json!({"url": url}));
        browser
    }

    /// Sends a command and returns its result.
    pub fn call(&mut self, method: &str, parameters: Value) -> Value {
        self.count += 1;
        let mut command = json!({"id": self.count, "method": method, "params": parameters});
        if let Some(session) = &self.session {
            command["sessionId"] = json!(session);
        }
        let mut bytes = command.to_string().into_bytes();
        bytes.push(0);
        self.commands.write_all(&bytes).unwrap();
        loop {
            let message =
                self.answers.recv_timeout(PATIENCE).expect("chromium answers (Debian's package chromium)");
            if message["id"] == json!(self.count) {
                assert!(message.get("error").is_none(), "{method}: {message}");
                return message["result"].clone();
            }
            self.hear(&message);
        }
    }

    fn hear(&mut self, event: &Value) {
        let complaint = match event["method"].as_str() {
            Some("Runtime.exceptionThrown") => true,
            Some("Log.entryAdded") => event["params"]["entry"]["level"] == "error",
            Some("Runtime.consoleAPICalled") => event["params"]["type"] == "error",
            _ => false,
        };
        if complaint {
            self.complaints.push(event["params"].to_string());
        }
    }

    /// The value of a JavaScript expression.
    pub fn eval(&mut self, expression: &str) -> Value {
        let parameters = json!({"expression": expression, "returnByValue": true, "awaitPromise": true});
        let result = self.call("Runtime.evaluate", parameters);
        assert!(result.get("exceptionDetails").is_none(), "{expression}: {result}");
        result["result"]["value"].clone()
    }

    /// Waits until an expression is true.
    pub fn wait(&mut self, what: &str, expression: &str) {
        let text = RefCell::default();
        let probe = || {
            let good = self.eval(&format!("Boolean({expression})")) == true;
            if !good {
                let seen = self.eval("[document.activeElement?.outerHTML, document.body.innerText].join('\\n')");
                text.replace(seen.as_str().unwrap_or_default().to_owned());
            }
            good.then_some(())
        };
        wait_for(what, probe, || format!("{expression}\n{}", text.borrow()));
    }

    /// Presses a key that is not a character.
    pub fn press(&mut self, key: &str) {
        let text = if key == "Enter" { "\r" } else { "" };
        let code = if key == "Enter" { 13 } else { 9 };
        let key = json!({"key": key, "code": key, "windowsVirtualKeyCode": code, "text": text});
        for kind in ["keyDown", "keyUp"] {
            let mut event = key.clone();
            event["type"] = json!(kind);
            self.call("Input.dispatchKeyEvent", event);
        }
    }

    /// Types a text into what has the focus.
    pub fn insert(&mut self, text: &str) {
        self.call("Input.insertText", json!({"text": text}));
    }

    /// Makes the page light or dark.
    pub fn scheme(&mut self, scheme: &str) {
        // No transition, of which a judge would see the middle.
        let still = json!({"name": "prefers-reduced-motion", "value": "reduce"});
        let features = json!([{"name": "prefers-color-scheme", "value": scheme}, still]);
        self.call("Emulation.setEmulatedMedia", json!({"features": features}));
    }

    /// Takes a picture, if the variable `CVSW_SCREENSHOTS` names a folder for it.
    pub fn picture(&mut self, name: &str) {
        if let Some(folder) = std::env::var_os("CVSW_SCREENSHOTS") {
            self.eval("scrollTo(0, 0)");
            let image = self.call("Page.captureScreenshot", json!({"format": "png"}));
            let base64 = image["data"].as_str().unwrap();
            let mut decoder = Command::new("base64")
                .arg("-d")
                .stdin(Stdio::piped())
                .stdout(File::create(Path::new(&folder).join(name)).unwrap())
                .spawn()
                .unwrap();
            decoder.stdin.take().unwrap().write_all(base64.as_bytes()).unwrap();
            assert!(decoder.wait().unwrap().success());
        }
    }

    /// Has the page judged by axe-core, for the rules of WCAG 2.2 up to AA and good practice; nothing may be wrong.
    pub fn judge_access(&mut self, what: &str) {
        if self.eval("typeof axe") == "undefined" {
            let axe = std::fs::read_to_string(AXE).expect("`cargo xtask setup` makes target/judges");
            self.call("Runtime.evaluate", json!({"expression": axe}));
        }
        let judge = "axe.run().then(({ violations, passes }) => ({ passed: passes.length, wrong: violations.map(\
                     (one) => `${one.id}: ${one.help}: ${one.nodes.map((node) => node.html).slice(0, 3).join(' ')}`) }))";
        let found = self.eval(judge);
        assert_eq!(found["wrong"], json!([]), "{what}");
        assert!(found["passed"].as_u64() > Some(10), "{what}: {found}");
    }

    /// What the page has complained about so far.
    pub fn complaints(&mut self) -> Vec<String> {
        // What came before this is heard.
        self.eval("0");
        std::mem::take(&mut self.complaints)
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
