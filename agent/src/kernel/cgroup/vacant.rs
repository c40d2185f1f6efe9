//! A cgroup before it is a session's: made, limited and populated while nobody waits for it. The hooks do
//! not know it, and refuse whatever is in it.

use std::{
    fs::File,
    io,
    os::{
        fd::{AsFd, BorrowedFd},
        unix::fs::MetadataExt,
    },
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use common::id::{CgroupId, SessionId};

use super::{
    Measure, SessionCgroup,
    tree::{failed, remove_tree, set},
};
use crate::{
    kernel::error::Error,
    sys::xattr::{attribute, set_attribute},
};

/// The attribute of a session's cgroup that holds the session's number, in decimal digits. One that
/// lacks it is of no session. Only root sees or sets it (`xattr(7)`, "trusted").
const SESSION: &str = "trusted.stockade.session";
/// How long the removal of a killed cgroup is waited for.
pub(super) const REMOVAL_SECONDS_MAX: u64 = 5;

/// A cgroup of no session yet.
#[derive(Debug)]
pub struct Vacant {
    pub(super) path: PathBuf,
    folder: File,
    pub(super) id: CgroupId,
    measures: Vec<Measure>,
}

impl Vacant {
    pub(super) fn open(path: PathBuf, measures: Vec<Measure>) -> Result<Self, Error> {
        let folder = File::open(&path).map_err(|e| failed(&path, "opening", e))?;
        let metadata = folder
            .metadata()
            .map_err(|e| failed(&path, "asking for its number", e))?;
        Ok(Self {
            id: CgroupId(metadata.ino()),
            path,
            folder,
            measures,
        })
    }

    /// Its descriptor, for `clone3`.
    #[must_use]
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.folder.as_fd()
    }

    /// Each limit, and what enforces it. Empty for a leftover.
    #[must_use]
    pub fn measures(&self) -> &[Measure] {
        &self.measures
    }

    /// The session that a leftover was given to.
    pub(super) fn given_to(&self) -> Result<Option<SessionId>, Error> {
        let number = attribute(&self.folder, SESSION);
        let number = number.map_err(|e| failed(&self.path, "reading", e))?;
        // What is no number is of a session all the same.
        Ok(number.map(|digits| {
            let digits = String::from_utf8_lossy(&digits);
            SessionId(digits.parse().unwrap_or_default())
        }))
    }

    /// Makes it a session's, now and for an agent that finds it later.
    pub fn give_to(self, session: SessionId) -> Result<SessionCgroup, Error> {
        let number = session.0.to_string();
        if let Err(error) = set_attribute(&self.folder, SESSION, number.as_bytes()) {
            let error = failed(&self.path, "naming", error);
            self.end()?;
            return Err(error);
        }
        Ok(SessionCgroup {
            session,
            cgroup: self,
        })
    }

    /// Kills what is in it and removes it. Blocks until both are done, for some seconds at most.
    pub fn end(self) -> Result<(), Error> {
        kill(&self.path)?;
        remove(&self.path)
    }
}

pub(super) fn kill(path: &Path) -> Result<(), Error> {
    match set(&path.join("cgroup.kill"), "1") {
        Err(Error::Cgroup { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

pub(super) fn remove(path: &Path) -> Result<(), Error> {
    let until = Instant::now() + Duration::from_secs(REMOVAL_SECONDS_MAX);
    remove_by(path, until)
}

/// Tries once, and again for as long as it is busy and until this time.
pub(super) fn remove_by(path: &Path, until: Instant) -> Result<(), Error> {
    let mut pause = Duration::from_micros(100);
    loop {
        match remove_tree(path) {
            Err(Error::Cgroup { source, .. })
                if source.raw_os_error() == Some(libc::EBUSY) && Instant::now() < until =>
            {
                thread::sleep(pause);
                pause = (pause * 2).min(Duration::from_millis(20));
            }
            Err(Error::Cgroup { source, .. }) if source.raw_os_error() == Some(libc::EBUSY) => {
                return Err(Error::CgroupBusy {
                    path: path.to_owned(),
                    seconds: REMOVAL_SECONDS_MAX,
                });
            }
            other => return other,
        }
    }
}
