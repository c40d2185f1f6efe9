//! The broker's socket: made with its owner, group and mode from its first instant, or taken over from
//! the service manager.

use std::{
    fs, io,
    os::unix::{
        fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt},
        net::UnixListener,
    },
    path::{Path, PathBuf},
};

use crate::sys::{
    inherited::{self, HandedOver},
    private_socket,
};

/// Everybody gets through and sees no names: callers and operators are two groups, and each socket has
/// its own.
const FOLDER_MODE: u32 = 0o711;
/// Permission to write of everybody but the owner.
const OTHERS_WRITE: u32 = 0o022;
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
        "broker socket: folder `{}` is another's, or others may write into it\nhint: `chmod 0711`, `chown root`",
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

/// Makes the socket, for root and the members of `gid`, for root alone without one. Its folder is made
/// where it lacks. The caller holds the instance's lock: a socket that is there has no owner.
pub fn bind(path: &Path, gid: Option<u32>) -> Result<UnixListener, BindError> {
    let failed = |step| {
        move |source| BindError::Step {
            path: path.to_owned(),
            step,
            source,
        }
    };
    let folder = path.parent().unwrap_or(Path::new("/"));
    prepare(folder).map_err(failed("its folder can not be made"))?;
    let found = fs::symlink_metadata(folder).map_err(failed("its folder can not be looked at"))?;
    let own = nix::unistd::geteuid().as_raw();
    if !found.is_dir() || found.uid() != own || found.permissions().mode() & OTHERS_WRITE != 0 {
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
    private_socket::bind(path, gid).map_err(failed("can not be made"))
}

/// Makes the folder where there is none.
fn prepare(folder: &Path) -> io::Result<()> {
    match fs::DirBuilder::new().mode(FOLDER_MODE).create(folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}
