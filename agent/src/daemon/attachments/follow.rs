//! Cgroups come and go: a restarted unit has another one. The folders in which they would come are
//! watched; where that fails, and for what is no folder, there is a look every few seconds.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use tokio::{
    io::{Interest, unix::AsyncFd},
    time::sleep,
};

use super::{Target, target::slices};
use crate::{
    daemon::{Engine, watch::Source},
    sys::readiness,
};

/// Between two looks at all processes.
const PAUSE: Duration = Duration::from_secs(5);
/// The same while a fence is new.
const SHORT: Duration = Duration::from_millis(200);
/// What makes and removes cgroups.
const CHANGES: AddWatchFlags = AddWatchFlags::IN_CREATE
    .union(AddWatchFlags::IN_DELETE)
    .union(AddWatchFlags::IN_ONLYDIR);

/// Follows what is attached until the engine goes.
pub(in crate::daemon) async fn follow(engine: Arc<Engine>) {
    let mut stopping = engine.stopping();
    let watch = match Watch::begin() {
        Ok(watch) => Some(watch),
        Err(error) => {
            tracing::error!(%error, "cgroups not watched: restarts are seen late");
            None
        }
    };
    loop {
        if let Some(watch) = &watch {
            watch.add(engine.attachments.watched(engine.wants_units()));
        }
        let pause = if engine.attachments.is_fresh() {
            SHORT
        } else {
            PAUSE
        };
        let closely = tokio::select! {
            () = stopping.wait() => return,
            () = changed(watch.as_ref()) => false,
            () = engine.attachments.stir.notified() => false,
            () = sleep(pause) => true,
        };
        if engine.attachments.is_idle() && !engine.wants_units() {
            continue;
        }
        engine.settle(closely).await;
    }
}

impl Engine {
    /// Whether a policy names units.
    fn wants_units(&self) -> bool {
        let set = self.policies.current();
        let mut policies = set.by_tool.values();
        policies.any(|loaded| !loaded.policy.units.is_empty())
    }
}

impl super::Attachments {
    fn is_idle(&self) -> bool {
        self.table().is_empty()
    }

    /// Folders in which cgroups may come that are wanted.
    fn watched(&self, wants_units: bool) -> Vec<PathBuf> {
        let table = self.table();
        let mut folders = Vec::new();
        let mut units = wants_units;
        for target in table.keys() {
            match target {
                Target::Cgroup(path) => folders.extend(path.parent().and_then(existing)),
                Target::Unit(_) => units = true,
            }
        }
        if units {
            folders.extend(slices().unwrap_or_default());
        }
        folders
    }
}

/// The deepest folder on the way that is there.
fn existing(path: &Path) -> Option<PathBuf> {
    path.ancestors()
        .find(|path| path.is_dir())
        .map(Path::to_owned)
}

struct Watch(AsyncFd<Source>);

impl Watch {
    fn begin() -> std::io::Result<Self> {
        let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
        Ok(Self(readiness::watch(Source(inotify), Interest::READABLE)?))
    }

    /// Watches these folders; one that is watched already stays so.
    fn add(&self, folders: Vec<PathBuf>) {
        for folder in folders {
            // It may be gone by now; then the folder above tells.
            if let Err(error) = self.0.get_ref().0.add_watch(&folder, CHANGES) {
                tracing::debug!(%error, folder = %folder.display(), "folder not watched");
            }
        }
    }
}

/// Waits until cgroups came or went.
async fn changed(watch: Option<&Watch>) {
    let Some(watch) = watch else {
        return std::future::pending().await;
    };
    let read = |source: &Source| Ok(source.0.read_events()?);
    if let Err(error) = watch.0.async_io(Interest::READABLE, read).await {
        tracing::warn!(%error, "cgroups not watched for a moment");
        sleep(SHORT).await;
    }
}
