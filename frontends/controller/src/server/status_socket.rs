//! The status socket: one JSON document per connection.

use std::{io, path::Path, time::Duration};

use tokio::{
    io::AsyncWriteExt as _,
    net::UnixStream,
    sync::{mpsc, oneshot},
    time::timeout,
};

use super::{
    Event,
    listen::{Guard, bind_unix},
};

/// A reader that does not read is left after this.
const PATIENCE: Duration = Duration::from_secs(10);
/// Pause after a failed accept.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// Listens on `path` and answers every connection.
pub(super) async fn spawn(path: &Path, events: mpsc::Sender<Event>) -> io::Result<Guard> {
    let socket = bind_unix(path).await?;
    let task = tokio::spawn(async move {
        loop {
            match socket.accept().await {
                Ok((stream, _)) => {
                    let events = events.clone();
                    tokio::spawn(async move {
                        if !matches!(timeout(PATIENCE, answer(stream, events)).await, Ok(Ok(()))) {
                            tracing::debug!("a status connection was left");
                        }
                    });
                }
                Err(error) => {
                    tracing::warn!("cannot accept a status connection: {error}");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    });
    Ok(Guard { task: task.abort_handle(), socket: Some(path.to_owned()) })
}

async fn answer(mut stream: UnixStream, events: mpsc::Sender<Event>) -> io::Result<()> {
    let (ask, status) = oneshot::channel();
    let stopping = || io::Error::other("the controller is stopping");
    events.send(Event::Status(ask)).await.map_err(|_| stopping())?;
    let status = status.await.map_err(|_| stopping())?;
    let mut text = serde_json::to_vec(&status)?;
    text.push(b'\n');
    stream.write_all(&text).await?;
    stream.shutdown().await
}
