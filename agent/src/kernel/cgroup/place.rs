//! Where an instance's cgroups are: in a slice and a delegated service of the service manager's, or at
//! a place that the agent makes itself.

use std::{
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use super::tree::words;
use crate::{config::Instance, kernel::error::Error};

/// The subgroup into which the holder of a delegated cgroup moves itself.
pub const HOLDER: &str = "holder";
/// How long the holder has for that.
const HOLDER_TIME_MAX: Duration = Duration::from_secs(10);
const LOOK: Duration = Duration::from_millis(5);

/// Two cgroups: one carries the hooks, the other one, the same or below it, holds the sessions.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Place {
    pub(super) fence: PathBuf,
    pub(super) sessions: PathBuf,
    /// Made and removed by the service manager, never by the agent.
    pub(super) delegated: bool,
}

impl Place {
    /// The place of an instance in the hierarchy that is mounted there.
    pub(super) fn find(mount: &Path, instance: &Instance) -> Self {
        let delegated = Self::delegated(mount, instance);
        if delegated.sessions.is_dir() {
            return delegated;
        }
        let own = mount.join(instance.cgroup_name());
        Self {
            fence: own.clone(),
            sessions: own,
            delegated: false,
        }
    }

    /// Waits until the holder has left the cgroup for its place below: controllers can be handed down
    /// only where no process is (cgroups(7)). It can not say so itself: it lies under the hooks, which
    /// let no unknown process talk, not even to the service manager.
    pub(super) fn wait_for_holder(&self, instance: &Instance) -> Result<(), Error> {
        let begin = Instant::now();
        while !self.sessions.join(HOLDER).is_dir()
            || !words(&self.sessions.join("cgroup.procs"))?.is_empty()
        {
            if begin.elapsed() > HOLDER_TIME_MAX {
                return Err(Error::NotDelegated {
                    unit: instance.holder_unit(),
                });
            }
            thread::sleep(LOOK);
        }
        Ok(())
    }

    /// The hooks are on the slice, which outlives the service: systemd prunes the cgroup of a service
    /// that has stopped, and a link on it would be severed. It is the service that is delegated,
    /// because a slice can not be (`systemd.resource-control(5)`).
    fn delegated(mount: &Path, instance: &Instance) -> Self {
        let name = instance.cgroup_name();
        let slice = mount
            .join(format!("{name}.slice"))
            .join(format!("{name}-workers.slice"));
        Self {
            sessions: slice.join(instance.holder_unit()),
            fence: slice,
            delegated: true,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::Place;
    use crate::config::Instance;

    #[test]
    fn the_delegated_place_is_taken_where_it_is() {
        let mount = tempfile::tempdir().expect("a folder");
        let instance = Instance::service();
        let own = Place::find(mount.path(), &instance);
        assert!(!own.delegated);
        assert_eq!(own.fence, own.sessions);
        assert_eq!(own.fence, mount.path().join("stockade"));

        let service = mount
            .path()
            .join("stockade.slice/stockade-workers.slice/stockade-workers.service");
        fs::create_dir_all(&service).expect("folders");
        let delegated = Place::find(mount.path(), &instance);
        assert!(delegated.delegated);
        assert_eq!(delegated.sessions, service);
        assert_eq!(Some(delegated.fence.as_path()), service.parent());
    }
}
