//! The status socket: one JSON document per connection.

use std::{io, path::Path, time::Duration};

use tokio::{io::AsyncWriteExt as _, net::UnixStream, time::timeout};

use super::{
    handle::Handle,
    listen::{Guard, bind_unix},
};
use crate::status::Status;

/// A reader that does not read is left after this.
const PATIENCE: Duration = Duration::from_secs(10);
/// Pause after a failed accept.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// Listens on `path` and answers every connection.
pub(super) async fn spawn(path: &Path, handle: Handle) -> io::Result<Guard> {
    let socket = bind_unix(path).await?;
    let task = tokio::spawn(async move {
        loop {
            match socket.accept().await {
                Ok((stream, _)) => {
                    let handle = handle.clone();
                    tokio::spawn(async move {
                        if !matches!(timeout(PATIENCE, answer(stream, handle)).await, Ok(Ok(()))) {
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

async fn answer(mut stream: UnixStream, handle: Handle) -> io::Result<()> {
    let status = handle.ask(|controller, now| Status::of(controller, now)).await.map_err(io::Error::other)?;
    let mut text = serde_json::to_vec(&status)?;
    text.push(b'\n');
    stream.write_all(&text).await?;
    stream.shutdown().await
}
