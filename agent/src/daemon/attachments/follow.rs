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
    time::{Instant, sleep, sleep_until},
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
    let mut rounds = Rounds::default();
    loop {
        if let Some(watch) = &watch {
            watch.add(engine.attachments.watched(engine.wants_units()));
        }
        let due = rounds.due(Instant::now(), engine.attachments.is_fresh());
        tokio::select! {
            () = stopping.wait() => return,
            () = changed(watch.as_ref()) => {}
            () = engine.attachments.stir.notified() => {}
            () = sleep_until(due) => {}
        }
        let closely = rounds.take(Instant::now());
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

/// When the processes are looked at next. It stands whatever wakes us before: where cgroups come and go
/// all the time, a pause that began anew with each of them would never end.
#[derive(Debug, Default)]
struct Rounds {
    due: Option<Instant>,
}

impl Rounds {
    /// When the next look is due. A new fence brings it forward, nothing puts it off.
    fn due(&mut self, now: Instant, is_fresh: bool) -> Instant {
        let latest = now + if is_fresh { SHORT } else { PAUSE };
        let due = self.due.map_or(latest, |due| due.min(latest));
        self.due = Some(due);
        due
    }

    /// Whether the look is due; then it counts as done.
    fn take(&mut self, now: Instant) -> bool {
        self.due.take_if(|due| *due <= now).is_some()
    }
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::Instant;

    use super::{PAUSE, Rounds, SHORT};

    #[test]
    fn what_happens_in_between_puts_no_look_off() {
        const EVENT: Duration = Duration::from_millis(100);
        const EVENTS: u32 = 200;
        let begin = Instant::now();
        let mut rounds = Rounds::default();
        let mut looks = Vec::new();
        for event in 0..=EVENTS {
            let time = EVENT * event;
            if rounds.take(begin + time) {
                looks.push(time);
            }
            rounds.due(begin + time, false);
        }
        assert_eq!(looks, [PAUSE, PAUSE * 2, PAUSE * 3, PAUSE * 4]);
    }

    #[test]
    fn a_new_fence_brings_the_look_forward() {
        let begin = Instant::now();
        let mut rounds = Rounds::default();
        assert_eq!(rounds.due(begin, false), begin + PAUSE);
        let due = begin + SHORT;
        assert_eq!(rounds.due(begin, true), due);
        // Neither its age nor another event puts it off again.
        assert_eq!(rounds.due(begin + SHORT / 2, true), due);
        assert_eq!(rounds.due(begin + SHORT / 2, false), due);
        assert!(!rounds.take(begin + SHORT / 2));
        assert!(rounds.take(due));
        assert!(!rounds.take(due), "it is done");
        assert_eq!(rounds.due(due, false), due + PAUSE);
    }
}
