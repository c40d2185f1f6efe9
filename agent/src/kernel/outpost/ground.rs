//! Which cgroups can get hooks of their own: those that somebody else made, and that hold neither the
//! agent nor its workers.

use std::{
    fs::{self, File},
    io,
    os::{
        fd::{AsFd, BorrowedFd},
        unix::fs::MetadataExt,
    },
    path::{Path, PathBuf},
};

use common::id::CgroupId;

use crate::kernel::{
    cgroup::{self, Parent},
    error::Error,
};

/// Levels that the programs look at.
const LEVELS: usize = 8;
/// Where a process says which cgroup it is in.
const OWN: &str = "/proc/self/cgroup";

/// A cgroup that can get hooks of its own, open.
#[derive(Debug)]
pub struct Ground {
    path: PathBuf,
    folder: File,
    id: CgroupId,
}

/// Why a cgroup gets no hooks of its own.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Unfit {
    /// It is not there.
    #[error("there is none")]
    Missing,
    /// It is no folder of the hierarchy.
    #[error("no cgroup of the cgroup v2 hierarchy")]
    Foreign,
    /// It is the root.
    #[error("the root of the hierarchy: everything on this host is in it")]
    Root,
    /// It is too deep.
    #[error("more than {} levels below the root", LEVELS - 1)]
    Deep,
    /// It holds the workers, or lies among them.
    #[error("the workers' cgroup, above it or below it: workers have fences of their own")]
    Workers,
    /// It holds the agent.
    #[error("the agent is in it")]
    Agent,
}

impl Unfit {
    /// A word for records and metrics.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Missing => "no_cgroup",
            Self::Foreign => "no_cgroup2",
            Self::Root => "root",
            Self::Deep => "too_deep",
            Self::Workers => "workers",
            Self::Agent => "agent",
        }
    }
}

impl Ground {
    /// Opens a cgroup, after a look at where it lies.
    pub fn open(path: &Path, workers: &Parent) -> Result<Self, Error> {
        let unfit = |why| Error::Unfit {
            path: path.to_owned(),
            why,
        };
        let mount = cgroup::mount_point()?;
        let real = match fs::canonicalize(path) {
            Ok(real) => real,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(unfit(Unfit::Missing));
            }
            Err(source) => return Err(failed(path, "finding", source)),
        };
        let below = real
            .strip_prefix(&mount)
            .map_err(|_elsewhere| unfit(Unfit::Foreign))?;
        let level = below.components().count();
        if level == 0 {
            return Err(unfit(Unfit::Root));
        }
        if !real.join("cgroup.procs").is_file() {
            return Err(unfit(Unfit::Foreign));
        }
        if level >= LEVELS {
            return Err(unfit(Unfit::Deep));
        }
        let is_workers = real.ancestors().any(|above| {
            let inode = fs::metadata(above).map(|metadata| metadata.ino());
            inode.is_ok_and(|inode| CgroupId(inode) == workers.id())
        });
        if is_workers || workers.path().starts_with(&real) {
            return Err(unfit(Unfit::Workers));
        }
        let own = own(&mount).map_err(|source| failed(Path::new(OWN), "reading", source))?;
        if own.starts_with(&real) {
            return Err(unfit(Unfit::Agent));
        }
        let folder = File::open(&real).map_err(|source| failed(&real, "opening", source))?;
        let inode = folder.metadata().map(|metadata| metadata.ino());
        let id = inode.map_err(|source| failed(&real, "reading", source))?;
        Ok(Self {
            path: real,
            folder,
            id: CgroupId(id),
        })
    }

    /// Its folder, without links.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its number: another one when it is removed and made again.
    #[must_use]
    pub fn id(&self) -> CgroupId {
        self.id
    }

    /// Its descriptor.
    #[must_use]
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.folder.as_fd()
    }
}

/// The cgroup of this process.
fn own(mount: &Path) -> io::Result<PathBuf> {
    let text = fs::read_to_string(OWN)?;
    let path = text.lines().find_map(|line| line.strip_prefix("0::/"));
    let path = path.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))?;
    Ok(mount.join(path))
}

fn failed(path: &Path, action: &'static str, source: io::Error) -> Error {
    Error::Cgroup {
        path: path.to_owned(),
        action,
        source,
    }
}
