//! A cluster of three etcd nodes on loopback.

use std::{
    net::TcpListener,
    path::Path,
    process::{Child, Command, Stdio},
};

use anyhow::{Context as _, ensure};
use tempfile::TempDir;

/// Nodes of a cluster: one may be missing.
const NODES: usize = 3;

/// A running cluster. Dropping it ends it and removes its files.
pub struct Etcd {
    nodes: Vec<Node>,
    tls: bool,
    _folder: TempDir,
}

struct Node {
    child: Child,
    client: String,
}

impl Etcd {
    /// Starts the nodes; they find each other in their own time.
    ///
    /// # Errors
    /// etcd is not installed, or there is no free port.
    pub fn start() -> anyhow::Result<Self> {
        Self::start_with(None)
    }

    /// The same for clients that speak TLS and show a certificate. The folder has `ca.crt`, `127.0.0.1.crt` and
    /// `127.0.0.1.key`.
    ///
    /// # Errors
    /// As [`Etcd::start`].
    pub fn start_with_tls(certificates: &Path) -> anyhow::Result<Self> {
        Self::start_with(Some(certificates))
    }

    fn start_with(certificates: Option<&Path>) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir().context("cannot make a folder for etcd's files")?;
        // Held until all are known, so that they differ.
        let sockets = (0..2 * NODES).map(|_| TcpListener::bind("127.0.0.1:0")).collect::<Result<Vec<_>, _>>()?;
        let addresses = sockets.iter().map(|socket| Ok(socket.local_addr()?.to_string()));
        let addresses = addresses.collect::<anyhow::Result<Vec<_>>>()?;
        drop(sockets);
        let (clients, peers) = addresses.split_at(NODES);
        let cluster: Vec<_> = (0..).zip(peers).map(|(number, peer)| format!("n{number}=http://{peer}")).collect();
        let mut nodes = Vec::new();
        for (number, (client, peer)) in clients.iter().zip(peers).enumerate() {
            let places = Places { name: format!("n{number}"), client, peer };
            let child = start(folder.path(), &places, &cluster.join(","), certificates)?;
            nodes.push(Node { child, client: client.clone() });
        }
        Ok(Self { nodes, tls: certificates.is_some(), _folder: folder })
    }

    /// The cluster's address for `--store`.
    pub fn store(&self) -> String {
        let nodes: Vec<_> = self.nodes.iter().map(|node| node.client.as_str()).collect();
        format!("{}://{}", if self.tls { "etcds" } else { "etcd" }, nodes.join(","))
    }

    /// Ends the node that leads, without a goodbye.
    ///
    /// # Errors
    /// Nobody knows which one leads.
    pub fn kill_leader(&mut self) -> anyhow::Result<()> {
        let leader = self.nodes.iter().position(|node| leads(&node.client).unwrap_or(false));
        let node = self.nodes.get_mut(leader.context("no node of the cluster leads")?).context("no such node")?;
        node.child.kill()?;
        node.child.wait()?;
        Ok(())
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        for node in &mut self.nodes {
            // It may have ended.
            let _ = node.child.kill();
            let _ = node.child.wait();
        }
    }
}

/// Where a node is.
struct Places<'a> {
    name: String,
    client: &'a str,
    peer: &'a str,
}

fn start(
    folder: &Path,
    Places { name, client, peer }: &Places<'_>,
    cluster: &str,
    certificates: Option<&Path>,
) -> anyhow::Result<Child> {
    let scheme = if certificates.is_some() { "https" } else { "http" };
    let (client, peer) = (format!("{scheme}://{client}"), format!("http://{peer}"));
    let mut command = Command::new("etcd");
    if let Some(folder) = certificates {
        command.arg("--client-cert-auth").arg("--trusted-ca-file").arg(folder.join("ca.crt"));
        command.arg("--cert-file").arg(folder.join("127.0.0.1.crt"));
        command.arg("--key-file").arg(folder.join("127.0.0.1.key"));
    }
    command
        .args(["--name", name, "--initial-cluster", cluster, "--initial-cluster-state", "new"])
        .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
        .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
        .args(["--log-level", "error", "--data-dir"])
        .arg(folder.join(name))
        // Debian's package may have set some.
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .context("cannot start etcd: is Debian's package etcd-server installed?")
}

/// Whether the node at this address leads.
fn leads(client: &str) -> anyhow::Result<bool> {
    let output = Command::new("etcdctl")
        .args(["--endpoints", client, "--command-timeout", "2s", "endpoint", "status", "-w", "json"])
        .env("ETCDCTL_API", "3")
        .output()
        .context("cannot start etcdctl: is Debian's package etcd-client installed?")?;
    ensure!(output.status.success(), "etcdctl: {}", String::from_utf8_lossy(&output.stderr));
    let status: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    let status = &status[0]["Status"];
    let (leader, member) = (status["leader"].as_u64(), status["header"]["member_id"].as_u64());
    Ok(leader.is_some() && leader == member)
}
