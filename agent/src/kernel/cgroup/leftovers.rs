//! What an earlier agent left behind: cgroups of sessions, and of places that no session had yet.
//!
//! One whose process can not be killed (it sleeps in the kernel, on a file system that does not answer)
//! holds up nobody: the process has been sent SIGKILL and carries out no instruction of its own any more,
//! and hooks that do not know its cgroup refuse whatever is sent from there. It is tried again later.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use super::{
    PREFIX, Parent, SessionCgroup, Vacant,
    tree::failed,
    vacant::{REMOVAL_SECONDS_MAX, kill, remove_by},
};
use crate::kernel::error::Error;

/// Session cgroups that an earlier agent left behind. What it left without a session is removed, or joins
/// what is stuck.
pub fn leftovers(parent: &Parent) -> Result<Vec<SessionCgroup>, Error> {
    let (mut sessions, mut places) = (Vec::new(), Vec::new());
    let entries = fs::read_dir(&parent.path).map_err(|e| failed(&parent.path, "reading", e))?;
    for entry in entries {
        let entry = entry.map_err(|e| failed(&parent.path, "reading", e))?;
        let name = entry.file_name();
        if !name.to_str().is_some_and(|name| name.starts_with(PREFIX)) {
            continue;
        }
        let cgroup = Vacant::open(entry.path(), Vec::new())?;
        match cgroup.given_to()? {
            Some(session) => sessions.push(SessionCgroup { session, cgroup }),
            None => places.push(entry.path()),
        }
    }
    parent.end_all(places)?;
    Ok(sessions)
}

impl Parent {
    /// Kills what is in leftovers and removes them. Blocks for some seconds at most, however many they
    /// are; what is still busy then is stuck, which is no error.
    pub fn end_leftovers(&self, left: &[SessionCgroup]) -> Result<(), Error> {
        self.end_all(left.iter().map(|cgroup| cgroup.path().to_owned()).collect())
    }

    /// Folders of leftovers that can not be removed: a process in them can not be killed.
    #[must_use]
    pub fn stuck(&self) -> Vec<PathBuf> {
        self.stuck_list().clone()
    }

    /// Tries again to remove what is stuck. Waits for nothing.
    pub fn retry_stuck(&self) {
        self.stuck_list().retain(|path| {
            // Not killed again: SIGKILL waits for what is in it.
            let removed = remove_by(path, Instant::now());
            match &removed {
                Ok(()) => tracing::info!(
                    cgroup.path = %path.display(),
                    "cgroup of an earlier agent removed at last"
                ),
                // `status` tells of it for as long as it is there.
                Err(error) => tracing::trace!(%error, "cgroup of an earlier agent stays"),
            }
            removed.is_err()
        });
    }

    fn end_all(&self, paths: Vec<PathBuf>) -> Result<(), Error> {
        // All of them before any is waited for: they end side by side.
        for path in &paths {
            kill(path)?;
        }
        let until = Instant::now() + Duration::from_secs(REMOVAL_SECONDS_MAX);
        let stuck = remove_each(paths, |path| remove_by(path, until))?;
        self.stuck_list().extend(stuck);
        Ok(())
    }

    fn stuck_list(&self) -> MutexGuard<'_, Vec<PathBuf>> {
        // A panic half-way leaves a folder more or less to try.
        self.stuck.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Removes each; gives back those that are busy.
fn remove_each(
    paths: Vec<PathBuf>,
    remove: impl Fn(&Path) -> Result<(), Error>,
) -> Result<Vec<PathBuf>, Error> {
    let mut stuck = Vec::new();
    for path in paths {
        match remove(&path) {
            Err(error @ Error::CgroupBusy { .. }) => {
                tracing::warn!(
                    %error,
                    "cgroup of an earlier agent can not be removed: a process in it can not be killed"
                );
                stuck.push(path);
            }
            other => other?,
        }
    }
    Ok(stuck)
}

#[cfg(test)]
mod tests {
    use std::{
        cell::RefCell,
        io,
        path::{Path, PathBuf},
    };

    use super::{Error, remove_each};

    fn paths(names: &[&str]) -> Vec<PathBuf> {
        names.iter().map(PathBuf::from).collect()
    }

    fn busy(path: &Path) -> Error {
        Error::CgroupBusy {
            path: path.to_owned(),
            seconds: 5,
        }
    }

    #[test]
    fn what_is_busy_is_given_back_and_holds_up_nothing() {
        let removed = RefCell::new(Vec::new());
        let stuck = remove_each(paths(&["a", "dead", "b"]), |path| {
            if path == Path::new("dead") {
                return Err(busy(path));
            }
            removed.borrow_mut().push(path.to_owned());
            Ok(())
        });
        assert_eq!(stuck.expect("no error"), paths(&["dead"]));
        assert_eq!(removed.into_inner(), paths(&["a", "b"]));
    }

    #[test]
    fn any_other_failure_is_one() {
        let refused = remove_each(paths(&["a"]), |path| {
            Err(Error::Cgroup {
                path: path.to_owned(),
                action: "removing",
                source: io::Error::from_raw_os_error(libc::EACCES),
            })
        });
        assert!(matches!(refused, Err(Error::Cgroup { .. })));
    }
}
