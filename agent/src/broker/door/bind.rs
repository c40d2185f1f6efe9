//! The broker's socket: made with its owner, group and mode from its first instant, or taken over from
//! the service manager.

use std::{
    fs, io,
    os::unix::{
        fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt, chown},
        net::UnixListener,
    },
    path::{Path, PathBuf},
    thread,
};

use nix::{
    sched::{CloneFlags, unshare},
    sys::stat::{Mode, umask},
    unistd::{Gid, setfsgid},
};

use crate::sys::inherited::{self, HandedOver};

const FOLDER_MODE: u32 = 0o750;
/// What the socket's mode lacks: it is 0660.
const UMASK: Mode = Mode::S_IXUSR.union(Mode::S_IXGRP).union(Mode::S_IRWXO);
/// Name of the socket in its unit (`FileDescriptorName=`).
const UNIT_NAME: &str = "broker";

/// The socket can not be made.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Something of its folder or the socket itself fails.
    #[error("broker socket `{}`: {step}", path.display())]
    Step {
        /// The socket.
        path: PathBuf,
        /// What fails.
        step: &'static str,
        /// Why.
        source: io::Error,
    },
    /// Who may write into the folder could put another socket into its place.
    #[error(
        "broker socket: folder `{}` is another's or open to others\nhint: `chmod 0750`, `chown root`",
        .0.display()
    )]
    Folder(PathBuf),
    /// Something else has that name.
    #[error("broker socket `{}`: there is something that is no socket", .0.display())]
    Occupied(PathBuf),
}

/// The socket among those that the service manager made, if it made one.
pub fn inherited(handed_over: &mut HandedOver) -> Result<Option<UnixListener>, inherited::Error> {
    handed_over.unix_listener(UNIT_NAME)
}

/// Makes the socket, for root and the members of `gid`. Its folder is made where it lacks. The caller
/// holds the instance's lock: a socket that is there has no owner.
pub fn bind(path: &Path, gid: Option<u32>) -> Result<UnixListener, BindError> {
    let failed = |step| {
        move |source| BindError::Step {
            path: path.to_owned(),
            step,
            source,
        }
    };
    let folder = path.parent().unwrap_or(Path::new("/"));
    prepare(folder, gid).map_err(failed("its folder can not be made"))?;
    let found = fs::symlink_metadata(folder).map_err(failed("its folder can not be looked at"))?;
    let own = nix::unistd::geteuid().as_raw();
    if !found.is_dir() || found.uid() != own || found.permissions().mode() & 0o027 != 0 {
        return Err(BindError::Folder(folder.to_owned()));
    }
    match fs::symlink_metadata(path) {
        Ok(found) if !found.file_type().is_socket() => {
            return Err(BindError::Occupied(path.to_owned()));
        }
        Ok(_) => fs::remove_file(path).map_err(failed("an old one can not be removed"))?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(failed("can not be looked at")(error)),
    }
    let listener = made(path.to_owned(), gid).map_err(failed("can not be made"))?;
    listener
        .set_nonblocking(true)
        .map_err(failed("can not be set up"))?;
    Ok(listener)
}

/// Makes the folder where there is none. Nobody is in it yet, so its group may be set afterwards.
fn prepare(folder: &Path, gid: Option<u32>) -> io::Result<()> {
    match fs::DirBuilder::new().mode(FOLDER_MODE).create(folder) {
        Ok(()) => chown(folder, None, gid),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
    }
}

/// Binds in a thread with an umask and a file-system group of its own: those of the agent would have
/// to change for a moment, in which other threads make files.
fn made(path: PathBuf, gid: Option<u32>) -> io::Result<UnixListener> {
    let thread = thread::Builder::new().name("broker-socket".to_owned());
    let made = thread.spawn(move || {
        unshare(CloneFlags::CLONE_FS)?;
        umask(UMASK);
        if let Some(gid) = gid {
            // It tells the group of before, not whether it worked: what was made is looked at.
            setfsgid(Gid::from_raw(gid));
        }
        let listener = UnixListener::bind(&path)?;
        let found = fs::symlink_metadata(&path)?;
        if gid.is_some_and(|gid| found.gid() != gid) || found.permissions().mode() & 0o777 != 0o660
        {
            fs::remove_file(&path)?;
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        Ok(listener)
    })?;
    made.join()
        .unwrap_or_else(|_panic| Err(io::ErrorKind::Other.into()))
}
