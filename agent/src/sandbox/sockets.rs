//! The unix sockets of the host that a policy names (`[[local.allow]] unix`): each appears in the root
//! at its own path, alone, and is the very inode that was found when the fence was computed.
//!
//! The mount is read-only, which does not keep a socket from being connected to: that asks for write
//! permission on its inode. So the server's mode decides whether a session's user may.

use std::{
    fs::{self, File},
    os::{
        fd::OwnedFd,
        unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt},
    },
    path::{Path, PathBuf},
};

use nix::{
    fcntl::{AT_FDCWD, OFlag, ResolveFlag},
    sys::stat::{FileStat, SFlag, fstat, lstat},
};
use serde::{Deserialize, Serialize};

use super::{
    error::{At, PlanError, Step, StepError},
    landlock::{ABI_SCOPES, ABI_UNIX},
    path::{is, open_at_once},
    plan::{Access, Bind, Plan},
};
use crate::{
    config::Instance,
    policy::{caution::of_system, compiled::Egress},
    sys::mount::{Restrictions, copy_one, restrict},
};

/// Others may write: a session's user is of no group and owns nothing.
const OTHERS_WRITE: u32 = 0o002;

/// A socket that is not a file that anything could be done with but connecting.
const RESTRICTIONS: Restrictions = Restrictions {
    read_only: true,
    no_devices: true,
    no_exec: true,
};

/// A socket of the host.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Socket {
    /// Its path, the same on both sides.
    pub path: PathBuf,
    device: u64,
    inode: u64,
}

/// Why a named socket can not be a door. Each continues: "socket `/run/x`".
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// It is not there.
    #[error("{0}\nhint: start its server first")]
    Missing(std::io::Error),
    /// Its path goes through a symbolic link.
    #[error("a symbolic link leads there\nhint: write `{}`", .0.display())]
    Link(PathBuf),
    /// Something else has the name.
    #[error("not a socket")]
    NoSocket,
    /// A session's user may not connect.
    #[error(
        "its mode is {0:04o}: a session's user, who is of no group, may not connect\n\
         hint: let its server make it writable for others (PostgreSQL: \
         `unix_socket_permissions = 0777`; systemd: `SocketMode=0666`), and authenticate clients there"
    )]
    Mode(u32),
    /// Its name could be given to another socket.
    #[error(
        "the worker may write on the way to it: `{}` is listed under `filesystem.write`\n\
         hint: let the server listen elsewhere", .0.display()
    )]
    Writable(PathBuf),
    /// It is the agent's own.
    #[error("it is the agent's own: no worker speaks to the agent")]
    Own,
    /// Abstract sockets would be open beside it.
    #[error(
        "landlock ABI {abi} of this kernel does not hold back abstract sockets\n\
         hint: install Linux 6.12 or newer (ABI {ABI_SCOPES}), or reach the service by TCP: \
         `tcp = \"127.0.0.1:5432\"`"
    )]
    NoScopes {
        /// The kernel's ABI.
        abi: i32,
    },
}

/// Finds the sockets that a policy names, in a root of these binds. `abi` is landlock's.
pub(super) fn find(
    instance: &Instance,
    egress: &Egress,
    binds: &[Bind],
    abi: i32,
) -> Result<Vec<Socket>, PlanError> {
    let paths = egress.unix_doors().map(|(path, _)| path);
    paths
        .map(|path| {
            found(instance, path, binds, abi).map_err(|error| PlanError::Socket {
                path: path.to_owned(),
                error,
            })
        })
        .collect()
}

fn found(
    instance: &Instance,
    path: &Path,
    binds: &[Bind],
    abi: i32,
) -> Result<Socket, SocketError> {
    if abi < ABI_SCOPES {
        return Err(SocketError::NoScopes { abi });
    }
    if path.starts_with(instance.run_folder()) {
        return Err(SocketError::Own);
    }
    // The kernel's hook knows the name and nothing of links: it has to be the real one.
    let real = fs::canonicalize(path).map_err(SocketError::Missing)?;
    if real != path {
        return Err(SocketError::Link(real));
    }
    // A folder on the way could be renamed, mount point below or not, and another made in its place.
    let writable = |bind: &&Bind| bind.access == Access::Write && path.starts_with(&bind.path);
    if let Some(bind) = binds.iter().find(writable) {
        return Err(SocketError::Writable(bind.path.clone()));
    }
    let metadata = open(path).and_then(|file| file.metadata());
    let metadata = metadata.map_err(SocketError::Missing)?;
    if !metadata.file_type().is_socket() {
        return Err(SocketError::NoSocket);
    }
    if metadata.mode() & OTHERS_WRITE == 0 {
        return Err(SocketError::Mode(metadata.mode() & 0o7777));
    }
    Ok(Socket {
        path: path.to_owned(),
        device: metadata.dev(),
        inode: metadata.ino(),
    })
}

/// Folders in which sockets of the host's can be connected to, if their modes let anybody: where the
/// profile has sockets by name and no rule of landlock's judges them. Not those of the system's
/// programs, where no server listens.
pub(super) fn beneath(plan: &Plan) -> Option<String> {
    let judged = |bind: &Bind| plan.landlock.abi >= ABI_UNIX && bind.access != Access::Write;
    let open = plan.binds.iter().filter(|bind| {
        plan.names_sockets && bind.folder && !judged(bind) && !of_system(&bind.path)
    });
    let open: Vec<_> = open
        .map(|bind| format!("`{}`", bind.path.display()))
        .collect();
    (!open.is_empty()).then(|| open.join(", "))
}

/// Whether the sockets are still those that were found, and open to a session's user: a server that
/// starts again makes a new one, and a root that was built before holds the old one. Waits for the file
/// systems that they are on.
#[must_use]
pub fn are_same(sockets: &[Socket]) -> bool {
    sockets
        .iter()
        .all(|socket| lstat(socket.path.as_path()).is_ok_and(|found| socket.is_open(&found)))
}

/// Whether it can be told without waiting that they are.
#[must_use]
pub fn are_same_at_once(sockets: &[Socket]) -> bool {
    let resolve = ResolveFlag::RESOLVE_NO_SYMLINKS;
    sockets.iter().all(|socket| {
        open_at_once(AT_FDCWD, &socket.path, resolve)
            .and_then(fstat)
            .is_ok_and(|found| socket.is_open(&found))
    })
}

/// A mount of each socket alone, attached nowhere yet: made by descriptor, after a look at what was
/// opened.
pub(super) fn mounts(sockets: &[Socket]) -> Result<Vec<(&Path, OwnedFd)>, StepError> {
    sockets
        .iter()
        .map(|socket| Ok((socket.path.as_path(), mount(socket)?)))
        .collect()
}

fn mount(socket: &Socket) -> Result<OwnedFd, StepError> {
    let path = &socket.path;
    let on = || path.display().to_string();
    let file = open(path).at(Step::Root, on())?;
    let found = fstat(&file).at(Step::Root, on())?;
    if !socket.is(&found) {
        let detail = format!(
            "socket `{}`: another one since the fence was computed\nhint: start the session again",
            path.display()
        );
        return Err(StepError::new(Step::Root, detail));
    }
    let mount = copy_one(&file).at(Step::Root, on())?;
    restrict(&mount, RESTRICTIONS).at(Step::Root, on())?;
    Ok(mount)
}

impl Socket {
    fn is(&self, found: &FileStat) -> bool {
        is(found, SFlag::S_IFSOCK) && (found.st_dev, found.st_ino) == (self.device, self.inode)
    }

    /// And a session's user may connect.
    fn is_open(&self, found: &FileStat) -> bool {
        self.is(found) && found.st_mode & OTHERS_WRITE != 0
    }
}

fn open(path: &Path) -> std::io::Result<File> {
    let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    File::options()
        .read(true)
        .custom_flags(flags.bits())
        .open(path)
}
