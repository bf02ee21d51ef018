//! Listening on TCP and unix sockets, with TLS where it is wanted. For switches and for the API alike.

use std::{io, os::unix::fs::FileTypeExt as _, path::Path, path::PathBuf, sync::Arc, time::Duration};

use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream, UnixListener, UnixStream},
    sync::{Semaphore, mpsc},
    task::AbortHandle,
    time::timeout,
};
use tokio_rustls::{TlsAcceptor, rustls::pki_types::CertificateDer, server::TlsStream};

use crate::{config::Listen, tls};

/// Pause after a failed accept (out of file descriptors), so that it does not become a busy loop.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);
/// How long a TLS handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// TLS handshakes at a time; who comes on top waits in the kernel's queue.
const MAX_HANDSHAKES: usize = 128;

/// A task that listens; dropping it stops it and removes its unix socket.
pub(crate) struct Guard {
    pub(crate) task: AbortHandle,
    pub(crate) socket: Option<PathBuf>,
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

/// A connection that was made.
pub(crate) struct Accepted {
    pub(crate) stream: Stream,
    pub(crate) peer: Peer,
}

/// Its bytes.
pub(crate) enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
    Tls(Box<TlsStream<TcpStream>>),
}

type Reader = Box<dyn AsyncRead + Send + Unpin>;
type Writer = Box<dyn AsyncWrite + Send + Unpin>;

impl Stream {
    /// Both directions.
    pub(crate) fn split(self) -> (Reader, Writer) {
        match self {
            Self::Tcp(stream) => {
                let (reader, writer) = stream.into_split();
                (Box::new(reader), Box::new(writer))
            }
            Self::Unix(stream) => {
                let (reader, writer) = stream.into_split();
                (Box::new(reader), Box::new(writer))
            }
            Self::Tls(stream) => {
                let (reader, writer) = tokio::io::split(stream);
                (Box::new(reader), Box::new(writer))
            }
        }
    }
}

/// Who is at the other end.
#[derive(Clone, Debug)]
pub(crate) struct Peer {
    /// For people: `tcp:127.0.0.1:1234`, `unix:pid=7`.
    pub(crate) name: String,
    /// The certificate that it has shown, and that was verified.
    pub(crate) certificate: Option<CertificateDer<'static>>,
    /// User, of a unix socket's other end.
    pub(crate) uid: Option<u32>,
}

/// A bound address.
pub(crate) struct Listener {
    socket: Socket,
    address: Listen,
}

enum Socket {
    Tcp(TcpListener),
    Unix(UnixListener),
    Tls(TcpListener, Arc<tls::Server>),
}

impl Listener {
    pub(crate) async fn bind(address: &Listen, tls: Option<Arc<tls::Server>>) -> io::Result<Self> {
        let (socket, address) = match address {
            Listen::Tcp(address) => {
                let socket = TcpListener::bind(address).await?;
                let address = Listen::Tcp(socket.local_addr()?);
                (Socket::Tcp(socket), address)
            }
            Listen::Tls(address) => {
                let shown = tls.ok_or_else(|| io::Error::other("there is no certificate for TLS"))?;
                let socket = TcpListener::bind(address).await?;
                let address = Listen::Tls(socket.local_addr()?);
                (Socket::Tls(socket, shown), address)
            }
            Listen::Unix(path) => (Socket::Unix(bind_unix(path).await?), address.clone()),
        };
        Ok(Self { socket, address })
    }

    /// The address, with the port that the system chose if it was 0.
    pub(crate) const fn address(&self) -> &Listen {
        &self.address
    }

    /// Accepts connections from now on.
    pub(crate) fn spawn<E: From<Accepted> + Send + 'static>(self, sink: mpsc::Sender<E>) -> Guard {
        let socket = match &self.address {
            Listen::Unix(path) => Some(path.clone()),
            Listen::Tcp(_) | Listen::Tls(_) => None,
        };
        let task = tokio::spawn(async move {
            let handshakes = Arc::new(Semaphore::new(MAX_HANDSHAKES));
            while !sink.is_closed() {
                if let Err(error) = self.accept(&handshakes, &sink).await {
                    tracing::warn!(address = %self.address, "cannot accept a connection: {error}");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        });
        Guard { task: task.abort_handle(), socket }
    }

    async fn accept<E: From<Accepted> + Send + 'static>(
        &self,
        handshakes: &Arc<Semaphore>,
        sink: &mpsc::Sender<E>,
    ) -> io::Result<()> {
        let accepted = match &self.socket {
            Socket::Tcp(socket) => {
                let (stream, peer) = socket.accept().await?;
                stream.set_nodelay(true)?;
                let peer = Peer { name: format!("tcp:{peer}"), certificate: None, uid: None };
                Accepted { stream: Stream::Tcp(stream), peer }
            }
            Socket::Unix(socket) => {
                let (stream, _) = socket.accept().await?;
                let owner = stream.peer_cred()?;
                let name = owner.pid().map_or_else(|| "unix".to_owned(), |pid| format!("unix:pid={pid}"));
                let peer = Peer { name, certificate: None, uid: Some(owner.uid()) };
                Accepted { stream: Stream::Unix(stream), peer }
            }
            Socket::Tls(socket, shown) => {
                // It is never closed.
                let permit = Arc::clone(handshakes).acquire_owned().await.map_err(io::Error::other)?;
                let (stream, peer) = socket.accept().await?;
                stream.set_nodelay(true)?;
                let (acceptor, sink) = (TlsAcceptor::from(shown.current()), sink.clone());
                tokio::spawn(async move {
                    let name = format!("tls:{peer}");
                    match timeout(HANDSHAKE, acceptor.accept(stream)).await {
                        Ok(Ok(stream)) => {
                            let shown = stream.get_ref().1.peer_certificates();
                            let certificate = shown.and_then(|chain| chain.first()).map(|c| c.clone().into_owned());
                            let peer = Peer { name, certificate, uid: None };
                            // If nobody is left to hear it, the server is stopping.
                            let _ =
                                sink.send(Accepted { stream: Stream::Tls(Box::new(stream)), peer }.into()).await;
                        }
                        Ok(Err(error)) => tracing::info!(peer = %name, "the TLS handshake failed: {error}"),
                        Err(_) => tracing::info!(peer = %name, "the TLS handshake took too long"),
                    }
                    drop(permit);
                });
                return Ok(());
            }
        };
        // As above.
        let _ = sink.send(accepted.into()).await;
        Ok(())
    }
}

/// Binds a unix socket; one that a dead process has left behind is replaced.
pub(crate) async fn bind_unix(path: &Path) -> io::Result<UnixListener> {
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
