//! A controller in a thread of its own, with a configuration file that tests can change.

use std::{path::PathBuf, thread::JoinHandle};

use cvsw_controller::{
    cli::read_status,
    config::Listen,
    server::{Bound, Options, serve},
    status::{Status, VnicStatus},
    store::etcd::TlsFiles,
};
use tempfile::TempDir;
use tokio::sync::oneshot;

use super::{join, ovs::Ovs, wait_for};

/// Quick timers, so that tests are.
pub const TIMERS: &str = "[timers]\nhello = \"300ms\"\nkeepalive = \"1s\"\nanswer = \"300ms\"\necho = \"1s\"\n";

/// A running controller; it ends when dropped.
pub struct Running {
    folder: TempDir,
    listen: Vec<Listen>,
    api: Vec<Listen>,
    cluster: Option<Share>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// A cluster, and this controller's name there.
#[derive(Clone)]
pub struct Share {
    pub store: String,
    pub tls: TlsFiles,
    pub name: String,
    pub key: Option<PathBuf>,
}

impl Running {
    /// Starts a controller with a configuration file of this text, for these switches.
    pub fn start(config: &str, switches: &[&Ovs]) -> Self {
        let listen = switches.iter().map(|ovs| Listen::Unix(ovs.controller_socket())).collect();
        Self::listening(config, listen)
    }

    /// Starts a controller with a configuration file of this text, listening here.
    pub fn listening(config: &str, listen: Vec<Listen>) -> Self {
        Self::new(config, listen, None)
    }

    /// Starts a controller that shares the switches with others, listening here.
    pub fn sharing(config: &str, listen: Vec<Listen>, share: Share) -> Self {
        Self::new(config, listen, Some(share))
    }

    fn new(config: &str, listen: Vec<Listen>, cluster: Option<Share>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("c.toml"), config).unwrap();
        let mut running = Self { folder, listen, api: vec![], cluster, stop: None, thread: None };
        running.resume();
        running
    }

    /// Starts it again after [`Running::end`].
    pub fn resume(&mut self) {
        let options = Options {
            config: self.file(),
            listen: self.listen.clone(),
            store: self.cluster.as_ref().map(|share| share.store.clone().into()),
            store_tls: self.cluster.as_ref().map(|share| share.tls.clone()).unwrap_or_default(),
            name: self.cluster.as_ref().map(|share| share.name.clone()),
            api: vec![],
            status_socket: Some(self.status_path()),
            key_log: None,
            cluster_key: self.cluster.as_ref().and_then(|share| share.key.clone()),
        };
        let (stop, stopped) = oneshot::channel();
        let (ready, is_ready) = std::sync::mpsc::channel();
        self.stop = Some(stop);
        self.thread = Some(std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let announce = move |bound: &Bound| Ok(ready.send(bound.clone())?);
            runtime.block_on(serve(options, announce, async move { drop(stopped.await) })).unwrap();
        }));
        let bound = is_ready.recv_timeout(super::PATIENCE).expect("the controller gets ready");
        (self.listen, self.api) = (bound.switches, bound.api);
    }

    /// Ends it.
    pub fn end(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            join(thread, "the controller");
        }
    }

    /// The configuration file.
    pub fn file(&self) -> PathBuf {
        self.folder.path().join("c.toml")
    }

    /// Replaces the configuration file.
    pub fn write_config(&self, text: &str) {
        let new = self.folder.path().join("c.toml.new");
        std::fs::write(&new, text).unwrap();
        std::fs::rename(new, self.file()).unwrap();
    }

    /// Where it listens.
    pub fn addresses(&self) -> &[Listen] {
        &self.listen
    }

    /// Where its API listens.
    pub fn api(&self) -> &[Listen] {
        &self.api
    }

    /// The status socket.
    pub fn status_path(&self) -> PathBuf {
        self.folder.path().join("status.sock")
    }

    /// The present state.
    pub fn status(&self) -> Status {
        read_status(&self.status_path()).unwrap().1
    }

    /// Waits for a state.
    pub fn wait(&self, what: &str, good: impl Fn(&Status) -> bool) -> Status {
        wait_for(what, || Some(self.status()).filter(&good), || self.status().table())
    }

    /// Waits until everybody has what it should have.
    pub fn wait_converged(&self) -> Status {
        self.wait("convergence", |status| status.converged)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.end();
    }
}

/// The vNIC with this address.
pub fn vnic<'a>(status: &'a Status, mac: &str) -> &'a VnicStatus {
    status.vnics.iter().find(|vnic| vnic.mac == mac).unwrap_or_else(|| panic!("no {mac} in {}", status.table()))
}
