//! The cgroups: one parent per instance that carries the hooks, below it one per session.
//!
//! Knows nothing of policies but their `[limits]`, and nothing of the programs.

use std::{
    fs::{self, File},
    io,
    os::{
        fd::{AsFd, BorrowedFd},
        unix::fs::MetadataExt as _,
    },
    path::{Path, PathBuf},
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use common::{
    id::{CgroupId, SessionId},
    limits::ANCESTORS_MAX,
};

pub use self::attributes::INIT_PROCESSES;
use self::attributes::{Attribute, Attributes, attributes};
pub use self::leftovers::leftovers;
pub use self::place::HOLDER;
use self::place::Place;
use self::tree::{failed, make, remove_empty, set, set_where_present, words};
use self::vacant::{kill, remove};
use super::error::Error;
use crate::{config::Instance, policy::compiled::Limits};

mod attributes;
mod leftovers;
mod place;
mod tree;
mod vacant;

pub(in crate::kernel) use self::tree::{below, descendants};
pub use self::vacant::Vacant;

/// Names of session cgroups begin with this.
const PREFIX: &str = "session-";

/// A limit and what enforces it.
#[derive(Clone, PartialEq, Eq, Debug, serde::Serialize)]
pub struct Measure {
    /// `memory`, `processes`, `cpus` or `disks`.
    pub name: &'static str,
    /// The controller that enforces it, or why there is none.
    pub by: MeasuredBy,
}

/// What enforces a limit of a session.
#[derive(Clone, PartialEq, Eq, Debug, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum MeasuredBy {
    /// This cgroup v2 controller, set to this value.
    Controller {
        /// Its name.
        name: &'static str,
        /// What was written.
        value: String,
    },
    /// No controller: another layer has to do it, or nothing does.
    Missing {
        /// Why.
        reason: String,
    },
}

/// The cgroup that carries the hooks, and the one that holds the sessions: the same, or below it.
#[derive(Debug)]
pub struct Parent {
    path: PathBuf,
    fence: File,
    delegated: bool,
    level: u32,
    controllers: Vec<String>,
    /// Of the next cgroup.
    next: AtomicU64,
    /// What an earlier agent left and could not be removed yet.
    stuck: Mutex<Vec<PathBuf>>,
}

impl Parent {
    /// Takes what the service manager delegated to this instance; where it did not, makes the
    /// instance's parent cgroup in the cgroup v2 hierarchy or takes the one that is there. Hands the
    /// controllers down to the sessions as far as the host has them on v2.
    pub fn create(instance: &Instance) -> Result<Self, Error> {
        let mount = mount_point()?;
        let place = Place::find(&mount, instance);
        if place.delegated {
            return Self::delegated(instance);
        }
        make(&place.sessions)?;
        hand_down(&mount);
        hand_down(&place.sessions);
        Self::open(&mount, place)
    }

    /// The same, but only what is delegated will do.
    pub fn delegated(instance: &Instance) -> Result<Self, Error> {
        let mount = mount_point()?;
        let place = Place::find(&mount, instance);
        if !place.delegated {
            return Err(Error::NotDelegated {
                unit: instance.holder_unit(),
            });
        }
        place.wait_for_holder(instance)?;
        hand_down(&place.sessions);
        Self::open(&mount, place)
    }

    fn open(mount: &Path, place: Place) -> Result<Self, Error> {
        let Place {
            fence,
            sessions: path,
            delegated,
        } = place;
        let fence = File::open(&fence).map_err(|e| failed(&fence, "opening", e))?;
        let below = path.strip_prefix(mount).unwrap_or(&path);
        let level = u32::try_from(below.components().count()).unwrap_or(u32::MAX - 1);
        if level + 1 >= ANCESTORS_MAX.cast_unsigned() {
            return Err(Error::TooDeep {
                path,
                level,
                max: ANCESTORS_MAX - 1,
            });
        }
        let controllers = words(&path.join("cgroup.subtree_control"))?;
        Ok(Self {
            path,
            fence,
            delegated,
            level,
            controllers,
            next: AtomicU64::new(first_number()),
            stuck: Mutex::default(),
        })
    }

    /// The folder that holds the sessions.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Levels below the root of the hierarchy.
    #[must_use]
    pub fn level(&self) -> u32 {
        self.level
    }

    /// Number of the one that carries the hooks.
    #[must_use]
    pub fn id(&self) -> CgroupId {
        CgroupId(self.fence.metadata().map_or(0, |m| m.ino()))
    }

    /// Descriptor of the one that carries the hooks.
    #[must_use]
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.fence.as_fd()
    }

    /// Makes a session's cgroup with the policy's limits.
    pub fn session(&self, session: SessionId, limits: &Limits) -> Result<SessionCgroup, Error> {
        self.vacant(limits)?.give_to(session)
    }

    /// Makes a cgroup with a policy's limits for whichever session comes next.
    pub fn vacant(&self, limits: &Limits) -> Result<Vacant, Error> {
        // Its session has no number yet.
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let path = self.path.join(format!("{PREFIX}place-{number}"));
        fs::create_dir(&path).map_err(|e| failed(&path, "making", e))?;
        let made = self.fill(&path, limits);
        if made.is_err() {
            // The error that is returned says more than a second one would.
            let _removed = fs::remove_dir(&path);
        }
        made
    }

    /// What each limit of a session comes to on this host.
    #[must_use]
    pub fn measures(&self, limits: &Limits) -> Vec<Measure> {
        attributes(limits, &self.controllers).measures
    }

    /// Removes the parent, unless it is the service manager's. Its children must be gone.
    pub fn remove(self) -> Result<(), Error> {
        if self.delegated {
            return Ok(());
        }
        remove_empty(&self.path)
    }

    fn fill(&self, path: &Path, limits: &Limits) -> Result<Vacant, Error> {
        let Attributes { write, measures } = attributes(limits, &self.controllers);
        for Attribute {
            file,
            value,
            optional,
        } in write
        {
            let file = path.join(file);
            if optional {
                set_where_present(&file, &value)?;
            } else {
                set(&file, &value)?;
            }
        }
        Vacant::open(path.to_owned(), measures)
    }
}

/// Makes numbers of one agent unlike those of an earlier one, whose cgroups may be there still.
fn first_number() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.map_or(0, |now| now.as_micros().try_into().unwrap_or_default())
}

/// The cgroup of one session.
#[derive(Debug)]
pub struct SessionCgroup {
    session: SessionId,
    cgroup: Vacant,
}

impl SessionCgroup {
    /// The session.
    #[must_use]
    pub fn session(&self) -> SessionId {
        self.session
    }

    /// Its descriptor, for `clone3`.
    #[must_use]
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.cgroup.fd()
    }

    /// Its number, as the programs see it.
    #[must_use]
    pub fn id(&self) -> CgroupId {
        self.cgroup.id
    }

    /// Its folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.cgroup.path
    }

    /// Each limit, and what enforces it. Empty for a leftover.
    #[must_use]
    pub fn measures(&self) -> &[Measure] {
        self.cgroup.measures()
    }

    /// Processor time that its processes have used, those that are gone included. The kernel counts
    /// it in every cgroup, with or without the `cpu` controller.
    pub fn processor_time(&self) -> Result<Duration, Error> {
        let microseconds = self.number("cpu.stat", "usage_usec")?;
        Ok(Duration::from_micros(microseconds.unwrap_or_default()))
    }

    /// How often the kernel ended processes in it because its memory was used up. None where no
    /// controller counts its memory.
    pub fn out_of_memory(&self) -> Result<u64, Error> {
        match self.number("memory.events", "oom_kill") {
            Err(Error::Cgroup { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(0),
            other => Ok(other?.unwrap_or_default()),
        }
    }

    /// A number of one of its files of names and numbers.
    fn number(&self, file: &str, name: &str) -> Result<Option<u64>, Error> {
        let path = self.path().join(file);
        let text = fs::read_to_string(&path).map_err(|e| failed(&path, "reading", e))?;
        Ok(text.lines().find_map(|line| {
            let (key, number) = line.split_once(' ')?;
            number.parse().ok().filter(|_| key == name)
        }))
    }

    /// Whether any process is in it or below it.
    pub fn is_populated(&self) -> Result<bool, Error> {
        let path = self.path().join("cgroup.events");
        let events = fs::read_to_string(&path).map_err(|e| failed(&path, "reading", e))?;
        Ok(events.lines().any(|line| line == "populated 1"))
    }

    /// Kills every process in it and below it, in one step that no fork escapes. One that is
    /// removed has none.
    pub fn kill(&self) -> Result<(), Error> {
        kill(self.path())
    }

    /// Removes it if nothing is in it or below it, which is how an ended session leaves it; tells
    /// whether it is gone. Waits for nothing.
    pub fn remove_if_empty(&self) -> Result<bool, Error> {
        match remove_empty(self.path()) {
            Ok(()) => Ok(true),
            Err(Error::Cgroup { source, .. }) if source.raw_os_error() == Some(libc::EBUSY) => {
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    /// Kills whatever is left in it and removes it. Blocks for up to some seconds.
    pub fn kill_and_remove(&self) -> Result<(), Error> {
        self.kill()?;
        self.remove()
    }

    /// Removes it and everything below it; waits for what was killed to be gone. Blocks for up to
    /// some seconds.
    pub fn remove(&self) -> Result<(), Error> {
        remove(self.path())
    }
}

/// Where the cgroup v2 hierarchy is mounted: at `/sys/fs/cgroup`, or in hybrid layouts beside v1.
pub fn mount_point() -> Result<PathBuf, Error> {
    let path = Path::new("/proc/self/mounts");
    let mounts = fs::read_to_string(path).map_err(|e| failed(path, "reading", e))?;
    mounts
        .lines()
        .find_map(|line| {
            let mut fields = line.split(' ');
            let (_, path, kind) = (fields.next()?, fields.next()?, fields.next()?);
            (kind == "cgroup2").then(|| PathBuf::from(path))
        })
        .ok_or(Error::NoCgroup2)
}

/// Lets the children of a cgroup use each controller that it has. What is refused shows in the
/// measures of every session.
fn hand_down(path: &Path) {
    let file = path.join("cgroup.subtree_control");
    for controller in ["memory", "pids", "cpu", "io"] {
        let available = words(&path.join("cgroup.controllers"))
            .is_ok_and(|words| words.iter().any(|word| word == controller));
        if available && let Err(error) = set(&file, &format!("+{controller}")) {
            tracing::warn!(%error, cgroup.controller = controller, "controller not handed down");
        }
    }
}
