//! What an engine takes over from before it was an engine: the instance's lock, its cgroup, and a
//! launcher that has all the privileges that the agent gives up.

use super::{error::StartError, lock::InstanceLock};
use crate::{config::Instance, kernel::cgroup, launcher::Hatched};

/// The ground that an engine stands on. Made before the process has a runtime, so that
/// [`super::confine()`] may come in between.
#[derive(Debug)]
pub struct Prepared {
    pub(super) lock: InstanceLock,
    pub(super) parent: cgroup::Parent,
    pub(super) launcher: Hatched,
}

/// Where the sessions' cgroup may come from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Holder {
    /// From the service manager where it delegates one, else from the agent itself.
    Any,
    /// From the service manager alone: the agent makes none.
    ServiceManager,
}

impl Prepared {
    /// Takes the instance, finds or makes its cgroup, starts its launcher.
    pub fn new(instance: &Instance, holder: Holder) -> Result<Self, StartError> {
        if !nix::unistd::geteuid().is_root() {
            return Err(StartError::NotRoot);
        }
        let lock = InstanceLock::take(instance)?;
        let parent = match holder {
            Holder::Any => cgroup::Parent::create(instance)?,
            Holder::ServiceManager => cgroup::Parent::delegated(instance)?,
        };
        Ok(Self {
            lock,
            parent,
            launcher: Hatched::start(instance)?,
        })
    }
}
