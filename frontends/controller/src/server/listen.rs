//! Listening on TCP and unix sockets.

use std::{io, os::unix::fs::FileTypeExt as _, path::Path, path::PathBuf, time::Duration};

use tokio::{
    net::{TcpListener, UnixListener, UnixStream},
    sync::mpsc,
    task::AbortHandle,
};

use super::{Event, connection::Stream};
use crate::config::Listen;

/// Pause after a failed accept (out of file descriptors), so that it does not become a busy loop.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// A task that listens; dropping it stops it and removes its unix socket.
pub(super) struct Guard {
    pub(super) task: AbortHandle,
    pub(super) socket: Option<PathBuf>,
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.task.abort();
        if let Some(path) = &self.socket {
            // It may have been removed by hand.
            let _ = std::fs::remove_file(path);
        }
    }
}

/// A bound address.
pub(super) struct Listener {
    socket: Socket,
    address: Listen,
}

enum Socket {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Listener {
    pub(super) async fn bind(address: &Listen) -> io::Result<Self> {
        let (socket, address) = match address {
            Listen::Tcp(address) => {
                let socket = TcpListener::bind(address).await?;
                let address = Listen::Tcp(socket.local_addr()?);
                (Socket::Tcp(socket), address)
            }
            Listen::Unix(path) => (Socket::Unix(bind_unix(path).await?), address.clone()),
        };
        Ok(Self { socket, address })
    }

    /// The address, with the port that the system chose if it was 0.
    pub(super) const fn address(&self) -> &Listen {
        &self.address
    }

    /// Accepts connections from now on.
    pub(super) fn spawn(self, events: mpsc::Sender<Event>) -> Guard {
        let socket = match &self.address {
            Listen::Unix(path) => Some(path.clone()),
            Listen::Tcp(_) => None,
        };
        let task = tokio::spawn(async move {
            loop {
                match self.accept().await {
                    Ok((stream, peer)) => {
                        if events.send(Event::Accepted(stream, peer)).await.is_err() {
                            return;
                        }
                    }
                    Err(error) => {
                        tracing::warn!(address = %self.address, "cannot accept a connection: {error}");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                }
            }
        });
        Guard { task: task.abort_handle(), socket }
    }

    async fn accept(&self) -> io::Result<(Stream, String)> {
        match &self.socket {
            Socket::Tcp(socket) => {
                let (stream, peer) = socket.accept().await?;
                stream.set_nodelay(true)?;
                let (reader, writer) = stream.into_split();
                Ok((Stream { reader: Box::new(reader), writer: Box::new(writer) }, format!("tcp:{peer}")))
            }
            Socket::Unix(socket) => {
                let (stream, _) = socket.accept().await?;
                let pid = stream.peer_cred()?.pid();
                let (reader, writer) = stream.into_split();
                let peer = pid.map_or_else(|| "unix".to_owned(), |pid| format!("unix:pid={pid}"));
                Ok((Stream { reader: Box::new(reader), writer: Box::new(writer) }, peer))
            }
        }
    }
}

/// Binds a unix socket; one that a dead process has left behind is replaced.
pub(super) async fn bind_unix(path: &Path) -> io::Result<UnixListener> {
    match std::fs::symlink_metadata(path) {
        Ok(found) if found.file_type().is_socket() => {
            if UnixStream::connect(path).await.is_ok() {
                return Err(io::Error::new(
                    io::ErrorKind::AddrInUse,
                    "another process listens there: stop it, or use another path",
                ));
            }
            std::fs::remove_file(path)?;
        }
        Ok(_) => {
            return Err(io::Error::new(
                io::ErrorKind::AlreadyExists,
                "a file that is not a socket is there: remove it, or use another path",
            ));
        }
        Err(_) => {}
    }
    UnixListener::bind(path)
}
