//! The policy folder watched, where that is configured: after its files have changed and then been left
//! alone for a second, it is read as `stockade reload` reads it.
//!
//! Hidden names are passed over: editors and `policy push` write beside a file first.

use std::{
    ffi::OsStr,
    fs, io,
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, RawFd},
        unix::ffi::OsStrExt as _,
    },
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use tokio::{
    io::{Interest, unix::AsyncFd},
    time::{sleep, timeout},
};

use super::{Engine, setup::PolicySource};
use crate::sys::readiness;

/// How long nothing may have changed before the folder is read.
const QUIET: Duration = Duration::from_secs(1);
/// Pause after which a folder that can not be watched is tried again.
const AGAIN: Duration = Duration::from_secs(5);
/// Folders below the policy folder that are watched: those of schemas.
const FOLDERS_MAX: usize = 256;
/// How deep they lie.
const DEPTH_MAX: usize = 8;
/// What changes what a policy file says, or which there are.
const CHANGES: AddWatchFlags = AddWatchFlags::IN_CLOSE_WRITE
    .union(AddWatchFlags::IN_MOVED_FROM)
    .union(AddWatchFlags::IN_MOVED_TO)
    .union(AddWatchFlags::IN_CREATE)
    .union(AddWatchFlags::IN_DELETE)
    .union(AddWatchFlags::IN_ATTRIB)
    .union(AddWatchFlags::IN_DELETE_SELF)
    .union(AddWatchFlags::IN_MOVE_SELF);

impl Engine {
    /// Reads the policy folder again whenever it has changed.
    pub fn watch_policies(self: &Arc<Self>) {
        if let PolicySource::Folder(folder) = self.policies.source() {
            self.spawn(watch(Arc::clone(self), folder.clone()));
        }
    }
}

async fn watch(engine: Arc<Engine>, folder: PathBuf) {
    // What lay there at the start is in force.
    let mut missed = false;
    let mut told = false;
    loop {
        match Watched::begin(&folder) {
            Ok(watched) => {
                if missed {
                    // What happened while nobody looked.
                    drop(engine.reload(None).await);
                }
                told = false;
                if let Err(error) = follow(&engine, &watched).await {
                    tracing::warn!(%error, "policy folder no longer watched");
                }
            }
            Err(error) if !told => {
                let folder = folder.display().to_string();
                tracing::warn!(folder, %error, "policy folder not watched");
                told = true;
            }
            Err(_) => {}
        }
        missed = true;
        sleep(AGAIN).await;
    }
}

/// Reads the folder after each change of it, until the watch has to be made anew.
async fn follow(engine: &Arc<Engine>, watched: &Watched) -> io::Result<()> {
    loop {
        let mut changed = watched.changes().await?;
        if changed == Changed::Nothing {
            continue;
        }
        while let Ok(more) = timeout(QUIET, watched.changes()).await {
            changed = changed.max(more?);
        }
        tracing::info!("policy folder changed");
        // The outcome is logged, counted and shown by `status`.
        drop(engine.reload(None).await);
        if changed == Changed::Folders {
            // Folders came or went: they are watched anew, without a pause.
            watched.add_all()?;
        }
    }
}

/// What some events tell.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Changed {
    Nothing,
    Files,
    Folders,
}

struct Watched {
    folder: PathBuf,
    events: AsyncFd<Source>,
}

/// The kernel's watch as the runtime wants it.
pub(super) struct Source(pub(super) Inotify);

impl AsFd for Source {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsRawFd for Source {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

impl Watched {
    fn begin(folder: &Path) -> io::Result<Self> {
        let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
        let watched = Self {
            folder: folder.to_owned(),
            events: readiness::watch(Source(inotify), Interest::READABLE)?,
        };
        watched.add_all()?;
        Ok(watched)
    }

    /// Watches the folder and those below it. One that is watched already stays so.
    fn add_all(&self) -> io::Result<()> {
        let mut left = FOLDERS_MAX;
        self.add(&self.folder, DEPTH_MAX, &mut left)
    }

    fn add(&self, folder: &Path, depth: usize, left: &mut usize) -> io::Result<()> {
        let inotify = &self.events.get_ref().0;
        inotify.add_watch(folder, CHANGES | AddWatchFlags::IN_ONLYDIR)?;
        for entry in fs::read_dir(folder)?.flatten() {
            let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
            if !is_folder || is_hidden(&entry.file_name()) || depth == 0 || *left == 0 {
                continue;
            }
            *left = left.saturating_sub(1);
            match self.add(&entry.path(), depth.saturating_sub(1), left) {
                // It went while we looked; its going is an event of the folder above.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                other => other?,
            }
        }
        Ok(())
    }

    /// Waits for events and tells what they say. Safe to drop.
    async fn changes(&self) -> io::Result<Changed> {
        let read = |source: &Source| Ok(source.0.read_events()?);
        let events = self.events.async_io(Interest::READABLE, read).await?;
        let mut changed = Changed::Nothing;
        for event in events {
            let gone = AddWatchFlags::IN_DELETE_SELF | AddWatchFlags::IN_MOVE_SELF;
            if event.name.is_none() && event.mask.intersects(gone) && !self.folder.is_dir() {
                return Err(io::ErrorKind::NotFound.into());
            }
            if event.name.as_deref().is_some_and(is_hidden) {
                continue;
            }
            let folders = AddWatchFlags::IN_ISDIR | gone | AddWatchFlags::IN_Q_OVERFLOW;
            let what = if event.mask.intersects(folders) {
                Changed::Folders
            } else {
                Changed::Files
            };
            changed = changed.max(what);
        }
        Ok(changed)
    }
}

fn is_hidden(name: &OsStr) -> bool {
    name.as_bytes().starts_with(b".")
}
