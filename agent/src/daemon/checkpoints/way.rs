//! How a checkpoint comes to a place.

use std::{
    io,
    os::unix::net::UnixDatagram,
    path::{Path, PathBuf},
    sync::{
        Arc,
        mpsc::{Receiver, SyncSender, sync_channel},
    },
};

use hyper::body::Bytes;
use tokio::sync::oneshot;

use super::NoAuthorities;
use crate::{
    audit::{self, Signed},
    authorities,
    broker::issuer::fetched::{Client, FetchError},
    config::{Endpoint, Instance, Keeper},
};

/// Where journald takes entries in its own form
/// (<https://systemd.io/JOURNAL_NATIVE_PROTOCOL/>).
const JOURNALD: &str = "/run/systemd/journal/socket";
/// By this name `journalctl -t` finds them.
const IDENTIFIER: &str = "stockade-checkpoint";

/// The way to a place.
pub(super) enum Way {
    Journald { socket: PathBuf, instance: String },
    File(SyncSender<Task>),
    Post(Client, Endpoint),
}

/// A text to write, and whom to tell what came of it.
type Task = (Arc<str>, oneshot::Sender<Result<(), audit::Error>>);

/// A place did not take a checkpoint.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotKept {
    #[error("journald: {0}")]
    Journald(#[source] io::Error),
    #[error("{}", crate::daemon::chain(.0))]
    File(#[from] audit::Error),
    #[error("the one before is still being written")]
    Stuck,
    #[error(transparent)]
    Post(#[from] FetchError),
    #[error("not within its time")]
    Slow,
}

impl Way {
    pub(super) fn to(keeper: &Keeper, instance: &Instance) -> Result<Self, NoAuthorities> {
        Ok(match keeper {
            Keeper::Journald => Self::journald(Path::new(JOURNALD), instance),
            Keeper::File(path) => Self::file(path.clone()),
            Keeper::Post { endpoint, ca } => {
                let bad = |why: &dyn std::fmt::Display| NoAuthorities {
                    url: endpoint.to_string(),
                    path: ca.clone(),
                    why: why.to_string(),
                };
                let authorities = authorities::read(ca).map_err(|error| bad(&error))?;
                let client = Client::new(authorities).map_err(|error| bad(&error))?;
                Self::Post(client, endpoint.clone())
            }
        })
    }

    pub(super) fn journald(socket: &Path, instance: &Instance) -> Self {
        Self::Journald {
            socket: socket.to_owned(),
            instance: instance.name().to_owned(),
        }
    }

    /// A file on a mount that hangs holds its writer for ever, so that has a thread of its own, which
    /// nobody waits for.
    pub(super) fn file(path: PathBuf) -> Self {
        let (tasks, received) = sync_channel(1);
        let thread = std::thread::Builder::new().name("checkpoint".to_owned());
        if let Err(error) = thread.spawn(move || write_all(&received, &path)) {
            // Each attempt says that nobody takes it.
            tracing::error!(%error, "no thread for checkpoints");
        }
        Self::File(tasks)
    }

    pub(super) async fn keep(&self, signed: &Signed) -> Result<(), NotKept> {
        match self {
            Self::Journald { socket, instance } => {
                let entry = entry(signed, instance);
                let send = || {
                    let sender = UnixDatagram::unbound()?;
                    sender.set_nonblocking(true)?;
                    sender.send_to(&entry, socket)
                };
                send().map(drop).map_err(NotKept::Journald)
            }
            Self::File(tasks) => {
                let (tell, told) = oneshot::channel();
                let task = (Arc::clone(&signed.note), tell);
                tasks.try_send(task).map_err(|_busy| NotKept::Stuck)?;
                told.await.map_err(|_gone| NotKept::Stuck)??;
                Ok(())
            }
            Self::Post(client, endpoint) => {
                let text = Bytes::copy_from_slice(signed.note.as_bytes());
                Ok(client.post(endpoint, text).await?)
            }
        }
    }
}

fn write_all(tasks: &Receiver<Task>, path: &Path) {
    while let Ok((note, tell)) = tasks.recv() {
        // Nobody waits any more where it took too long.
        drop(tell.send(audit::keep(path, &note)));
    }
}

/// One entry. The note has lines of its own, so its length goes before it.
fn entry(signed: &Signed, instance: &str) -> Vec<u8> {
    let note = signed.note.trim_end();
    let mut entry = format!(
        "PRIORITY=6\nSYSLOG_IDENTIFIER={IDENTIFIER}\nSTOCKADE_INSTANCE={instance}\n\
         STOCKADE_SEQUENCE={}\nMESSAGE\n",
        signed.sequence
    )
    .into_bytes();
    entry.extend((note.len() as u64).to_le_bytes());
    entry.extend(note.as_bytes());
    entry.push(b'\n');
    entry
}
