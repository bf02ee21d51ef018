//! One connection of a switch: bytes to whole messages, and messages to bytes.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use cvsw_core::openflow::message_len;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader},
    sync::mpsc,
    task::AbortHandle,
};

use super::{Event, listen::Stream};
use crate::state::ConnectionId;

/// Bytes that wait for a switch that does not read. One that has more is given up: it gets its state again when it
/// comes back.
const MAX_QUEUED: usize = 64 << 20;
/// Bytes that are read at once: a hundred messages, which every connection keeps room for.
const READ: usize = 1 << 14;
/// Length of the part of a message that says how long it is.
const PREFIX: usize = 4;

/// A running connection; dropping it closes it.
pub(super) struct Connection {
    outbox: mpsc::UnboundedSender<Vec<u8>>,
    queued: Arc<AtomicUsize>,
    tasks: [AbortHandle; 2],
}

impl Connection {
    /// Starts to move bytes.
    pub(super) fn spawn(id: ConnectionId, stream: Stream, events: mpsc::Sender<Event>) -> Self {
        let (outbox, waiting) = mpsc::unbounded_channel();
        let queued = Arc::new(AtomicUsize::new(0));
        let (reader, writer) = stream.split();
        let read = tokio::spawn({
            let events = events.clone();
            async move {
                if let Err(error) = read(id, reader, &events).await {
                    tracing::info!(?id, "the connection ended: {error}");
                }
                // If nobody is left to hear it, the server is stopping.
                let _ = events.send(Event::Closed(id)).await;
            }
        });
        let write = tokio::spawn({
            let queued = Arc::clone(&queued);
            async move {
                if let Err(error) = write(writer, waiting, &queued).await {
                    tracing::info!(?id, "the connection ended: {error}");
                    let _ = events.send(Event::Closed(id)).await;
                }
            }
        });
        Self { outbox, queued, tasks: [read.abort_handle(), write.abort_handle()] }
    }

    /// Queues bytes to be written.
    pub(super) fn write(&self, bytes: Vec<u8>) -> Result<(), &'static str> {
        if self.queued.fetch_add(bytes.len(), Ordering::Relaxed) > MAX_QUEUED {
            return Err("the switch does not read what it is sent");
        }
        self.outbox.send(bytes).map_err(|_| "it was closed by the switch")
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.tasks.iter().for_each(AbortHandle::abort);
    }
}

async fn read(
    id: ConnectionId,
    reader: impl AsyncRead + Unpin,
    events: &mpsc::Sender<Event>,
) -> std::io::Result<()> {
    let mut reader = BufReader::with_capacity(READ, reader);
    loop {
        let mut prefix = [0; PREFIX];
        reader.read_exact(&mut prefix).await?;
        let len = match message_len(&prefix) {
            Some(Ok(len)) => len,
            _ => return Err(std::io::Error::other("a message that claims to be shorter than its header")),
        };
        let mut message = vec![0; len];
        message[..PREFIX].copy_from_slice(&prefix);
        reader.read_exact(&mut message[PREFIX..]).await?;
        if events.send(Event::Message(id, message)).await.is_err() {
            return Ok(());
        }
    }
}

async fn write(
    mut writer: impl AsyncWrite + Unpin,
    mut waiting: mpsc::UnboundedReceiver<Vec<u8>>,
    queued: &AtomicUsize,
) -> std::io::Result<()> {
    while let Some(bytes) = waiting.recv().await {
        writer.write_all(&bytes).await?;
        queued.fetch_sub(bytes.len(), Ordering::Relaxed);
    }
    Ok(())
}
