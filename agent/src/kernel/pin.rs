//! The pin folder of an instance on bpffs: pins outlive the agent, so the fences stand without it.
//!
//! One folder per ABI version. Pins of two versions never meet, because re-opening a pinned map
//! checks nothing; what becomes of another version's is in `others`.

use std::{
    fs::{self, DirBuilder},
    io,
    os::{fd::AsFd, unix::fs::DirBuilderExt},
    path::{Path, PathBuf},
};

use common::id::{CgroupId, SessionId};
use nix::{
    mount::{MsFlags, mount},
    sys::statfs::statfs,
};

use super::{attach::LINK_PREFIX, error::Error};
use crate::{config::Instance, sys::bpf};

const BPFFS: &str = "/sys/fs/bpf";
/// `BPF_FS_MAGIC`, linux/magic.h
const BPF_FS_MAGIC: i64 = 0xcafe_4a11;
/// Names of the folders that hold the links on somebody else's cgroups begin so.
const OUTPOST_PREFIX: &str = "attached_";
/// Only root enters: whoever can open a pinned map for writing rules every fence.
const MODE: u32 = 0o700;

/// The pin folder of this instance and ABI version, made where it is missing.
#[derive(Clone, Debug)]
pub(in crate::kernel) struct PinFolder(PathBuf);

impl PinFolder {
    /// Mounts bpffs where there is none, makes the folder.
    pub(in crate::kernel) fn prepare(instance: &Instance) -> Result<Self, Error> {
        mount_bpffs()?;
        let folder = instance.pin_folder();
        make(&instance.pin_root())?;
        make(&folder)?;
        Ok(Self(folder))
    }

    /// Folders of other versions of this instance.
    pub(in crate::kernel) fn others(&self) -> Result<Vec<PathBuf>, Error> {
        let root = self.0.parent().unwrap_or(&self.0);
        let mut folders = entries(root)?;
        folders.retain(|folder| *folder != self.0);
        Ok(folders)
    }

    /// Path of a pin.
    pub(in crate::kernel) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// The folder of a fence around somebody else's cgroup.
    pub(in crate::kernel) fn outpost(&self, session: SessionId) -> PathBuf {
        self.0.join(outpost_name(session))
    }

    /// The folders that other versions have of it.
    pub(in crate::kernel) fn outpost_elsewhere(
        &self,
        session: SessionId,
    ) -> Result<Vec<PathBuf>, Error> {
        let others = self.others()?.into_iter();
        Ok(others
            .map(|folder| folder.join(outpost_name(session)))
            .collect())
    }

    /// Makes that folder.
    pub(in crate::kernel) fn make_outpost(&self, session: SessionId) -> Result<PathBuf, Error> {
        let folder = self.outpost(session);
        make(&folder)?;
        Ok(folder)
    }

    /// The sessions whose fences have a folder.
    pub(in crate::kernel) fn outposts(&self) -> Result<Vec<SessionId>, Error> {
        let entries = entries(&self.0)?;
        Ok(entries.iter().filter_map(|path| outpost_of(path)).collect())
    }
}

fn outpost_name(session: SessionId) -> String {
    format!("{OUTPOST_PREFIX}{}", session.0)
}

/// Whose folder it is, where it is that of an outpost.
pub(in crate::kernel) fn outpost_of(folder: &Path) -> Option<SessionId> {
    let number = folder.file_name()?.to_str()?.strip_prefix(OUTPOST_PREFIX)?;
    number.parse().ok().map(SessionId)
}

/// Detaches the links of a folder at once, then removes it. One that is gone is no error.
pub(in crate::kernel) fn remove_outpost(folder: &Path) -> Result<(), Error> {
    for path in entries(folder)? {
        unpin(&path)?;
    }
    remove_folder(folder)
}

/// Mounts bpffs where there is none and makes the pin folder: what an agent that has confined itself
/// can not do any more.
pub fn prepare_pins(instance: &Instance) -> Result<(), Error> {
    PinFolder::prepare(instance).map(drop)
}

/// Detaches the hooks of an instance at once and removes its pins, those of other versions too. What is
/// not there is no error: the outcome is the same.
pub fn remove_pins(instance: &Instance) -> Result<(), Error> {
    let root = instance.pin_root();
    for folder in entries(&root)? {
        for path in entries(&folder)? {
            if path.is_dir() {
                remove_outpost(&path)?;
            } else {
                unpin(&path)?;
            }
        }
        remove_folder(&folder)?;
    }
    remove_folder(&root)
}

/// The cgroup that a pinned link is on: `None` where the pin is no link, 0 where it is severed.
pub(in crate::kernel) fn cgroup_of(path: &Path) -> Result<Option<CgroupId>, Error> {
    if !is_link(path) {
        return Ok(None);
    }
    let link = bpf::open_pin(path).map_err(|error| failed(path, "opening", error))?;
    let info = bpf::link_info(link.as_fd());
    let info = info.map_err(|error| failed(path, "asking for its cgroup", error))?;
    Ok(Some(CgroupId(info.cgroup)))
}

fn is_link(path: &Path) -> bool {
    path.file_name()
        .is_some_and(|name| name.to_string_lossy().starts_with(LINK_PREFIX))
}

/// Removes a pin; a link is detached at once.
pub(in crate::kernel) fn unpin(path: &Path) -> Result<(), Error> {
    if is_link(path)
        && let Ok(link) = bpf::open_pin(path)
    {
        // A severed link can not be detached and need not be.
        let _detached_or_severed = bpf::link_detach(link.as_fd());
    }
    fs::remove_file(path).map_err(|e| failed(path, "removing", e))
}

pub(in crate::kernel) fn remove_folder(path: &Path) -> Result<(), Error> {
    match fs::remove_dir(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(failed(path, "removing", error))
        }
        _ => Ok(()),
    }
}

/// What is in a folder; nothing where there is none.
pub(in crate::kernel) fn entries(folder: &Path) -> Result<Vec<PathBuf>, Error> {
    match fs::read_dir(folder) {
        Ok(entries) => entries
            .map(|entry| entry.map(|e| e.path()))
            .collect::<Result<_, _>>()
            .map_err(|e| failed(folder, "reading", e)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(failed(folder, "reading", error)),
    }
}

/// Whether bpffs is where pins go.
pub(in crate::kernel) fn is_bpffs_mounted() -> Result<bool, Error> {
    let path = Path::new(BPFFS);
    let status =
        statfs(path).map_err(|errno| failed(path, "asking for the file system", errno.into()))?;
    Ok(status.filesystem_type().0 == BPF_FS_MAGIC)
}

fn mount_bpffs() -> Result<(), Error> {
    let path = Path::new(BPFFS);
    if is_bpffs_mounted()? {
        return Ok(());
    }
    mount(
        Some("bpf"),
        path,
        Some("bpf"),
        MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC,
        Some("mode=700"),
    )
    .map_err(|errno| failed(path, "mounting bpffs", errno.into()))
}

fn make(folder: &Path) -> Result<(), Error> {
    match DirBuilder::new().mode(MODE).create(folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            Err(failed(folder, "making the folder", error))
        }
        _ => Ok(()),
    }
}

fn failed(path: &Path, action: &'static str, source: io::Error) -> Error {
    Error::Pin {
        path: path.to_owned(),
        action,
        source,
    }
}
