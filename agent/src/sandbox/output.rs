//! What a worker leaves in `/workdir/output`, and how it becomes a folder of the host.
//!
//! The place is a tmpfs of the session's own that is held by a descriptor outside, so that it is
//! still there when everything in the session is dead. Only then is it looked at. What is in it was
//! made by a hostile worker: every entry is opened by its folder's descriptor and one name, links
//! are never followed, and what is neither a file nor a folder, has an odd name or is too much
//! refuses the whole. Nothing of the worker's but names and bytes gets out: no mode, owner, time,
//! attribute or link. The host's folder gets all of it at once, under its final name, or nothing.

use std::{
    fs::{self, File},
    io::{self, Read, Write},
    os::{
        fd::{AsFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::{Path, PathBuf},
};

use nix::{
    errno::Errno,
    fcntl::{AT_FDCWD, AtFlags, OFlag, OpenHow, RenameFlags, ResolveFlag, openat2, renameat2},
    sys::stat::{FileStat, Mode, SFlag, fchmod, fstat, fstatat, mkdirat},
    unistd::{Gid, Uid, UnlinkatFlags, fchown, unlinkat},
};
use serde::{Deserialize, Serialize};

use super::{
    error::PlanError,
    path::{is, without_links},
    plan::WORKDIR,
    sum,
};
use crate::{policy::compiled::Output, sys::mount::attach};

/// Where the worker finds it.
pub const FOLDER: &str = "/workdir/output";

const _: () = assert!(WORKDIR.len() < FOLDER.len());

/// Bytes copied at a time.
const CHUNK_BYTES: usize = 64 * 1024;
/// Bits that files and folders have before the umask. No file becomes executable.
const FILE_MODE: u32 = 0o666;
const FOLDER_MODE: u32 = 0o777;
/// While it is being written it is root's alone.
const PARTIAL_MODE: u32 = 0o700;
/// Others may write to the folder: they could give its names away.
const OTHERS_WRITE: u32 = 0o022;

/// The tmpfs of a session.
#[derive(Debug)]
pub struct Left(OwnedFd);

/// What was handed out.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Handed {
    /// The host's folder of the session.
    pub path: PathBuf,
    /// Files in it.
    pub files: u64,
    /// Folders in it.
    pub folders: u64,
    /// Bytes of the files.
    pub bytes: u64,
}

/// Nothing was handed out.
#[derive(Debug, thiserror::Error)]
pub enum OutputError {
    /// The worker left something that is not handed out.
    #[error("output `{}`: {what}", escaped(path))]
    Refused {
        /// What it is about, from the output folder.
        path: PathBuf,
        /// Why.
        what: String,
    },
    /// The host's folder can not be written to.
    #[error("output folder `{}`: {source}", path.display())]
    Host {
        /// The folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// What the worker left can not be read.
    #[error("output: can not be read: {0}")]
    Read(io::Error),
}

/// A worker chose the name: a terminal may read it.
fn escaped(path: &Path) -> String {
    path.as_os_str().as_bytes().escape_ascii().to_string()
}

impl Left {
    /// Attaches it in the session's mount namespace.
    pub fn attach(&self) -> io::Result<()> {
        fs::create_dir(FOLDER)?;
        attach(&self.0, Path::new(FOLDER))
    }

    /// Turns what is in it into a folder `name` of the host; tells nothing where it is empty. To be
    /// called when nothing of the session runs any more.
    pub fn hand_out(self, output: &Output, name: &str) -> Result<Option<Handed>, OutputError> {
        let left = read_folder(&self.0, Path::new(".")).map_err(OutputError::Read)?;
        if sum::names(&left, 1).is_ok_and(|names| names.is_empty()) {
            return Ok(None);
        }
        let path = output.path.join(name);
        let host = |source: io::Error| OutputError::Host {
            path: path.clone(),
            source,
        };
        let base = open_base(output).map_err(host)?;
        let partial = PathBuf::from(format!(".{name}.partial"));
        mkdirat(&base, &partial, bits(PARTIAL_MODE)).map_err(|errno| host(errno.into()))?;
        let mut copy = Copy {
            output,
            host: &path,
            files: 0,
            folders: 0,
            bytes: 0,
        };
        let finished = copy.whole(&base, &partial, &left).and_then(|()| {
            let flags = RenameFlags::RENAME_NOREPLACE;
            renameat2(&base, &partial, &base, name, flags).map_err(|errno| host(errno.into()))
        });
        if let Err(error) = finished {
            remove(&base, &partial).map_err(host)?;
            return Err(error);
        }
        Ok(Some(Handed {
            files: copy.files,
            folders: copy.folders,
            bytes: copy.bytes,
            path,
        }))
    }
}

impl From<OwnedFd> for Left {
    fn from(tree: OwnedFd) -> Self {
        Self(tree)
    }
}

impl AsFd for Left {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Checks the host's folder before a session is begun.
pub(super) fn base(output: &Output) -> Result<(), PlanError> {
    match open_base(output) {
        Ok(_) => Ok(()),
        Err(source) => Err(PlanError::Output {
            path: output.path.clone(),
            hint: match source.raw_os_error().map(Errno::from_raw) {
                Some(Errno::ENOENT) => "create it: `install -d -m 0755 FOLDER`",
                Some(Errno::ELOOP) => {
                    "name the folder itself, not a symbolic link on the way to it"
                }
                _ => "a folder that root owns and nobody else may write to",
            },
            source,
        }),
    }
}

/// The host's folder: no link leads to it, and only root, or who gets the files, may write there.
fn open_base(output: &Output) -> io::Result<OwnedFd> {
    let base = without_links(AT_FDCWD, &output.path, OFlag::O_PATH | OFlag::O_DIRECTORY)?;
    let found = fstat(&base)?;
    let owned = found.st_uid == 0 || found.st_uid == output.owner;
    if owned && found.st_mode & OTHERS_WRITE == 0 {
        Ok(base)
    } else {
        Err(io::Error::other("others may write there"))
    }
}

/// A copy under way.
struct Copy<'o> {
    output: &'o Output,
    /// For messages.
    host: &'o Path,
    files: u64,
    folders: u64,
    bytes: u64,
}

impl Copy<'_> {
    fn whole(&mut self, base: &OwnedFd, partial: &Path, left: &OwnedFd) -> Result<(), OutputError> {
        let made = self.on_host(read_folder(base, partial))?;
        // Made a moment ago by this process and nobody else's.
        let found = self.on_host(fstat(&made))?;
        if found.st_uid != Uid::effective().as_raw() || found.st_mode & 0o777 != PARTIAL_MODE {
            return self.on_host(Err(io::Error::other("its folder was taken away")));
        }
        self.folder(left, &made, Path::new(""), 0)?;
        self.finish(&made, FOLDER_MODE)
    }

    fn folder(
        &mut self,
        from: &OwnedFd,
        to: &OwnedFd,
        at: &Path,
        depth: u32,
    ) -> Result<(), OutputError> {
        let most = usize::try_from(self.output.entries).unwrap_or(usize::MAX);
        let names = match sum::names(from, most) {
            Err(error) if error.raw_os_error() == Some(nix::libc::EOVERFLOW) => {
                return Err(self.too_many(at));
            }
            names => names.map_err(OutputError::Read)?,
        };
        for name in names {
            let name = Path::new(std::ffi::OsStr::from_bytes(name.as_bytes()));
            let path = at.join(name);
            if self.files.saturating_add(self.folders) >= self.output.entries {
                return Err(self.too_many(&path));
            }
            if !is_plain(name) {
                return Err(refused(
                    &path,
                    "its name is not text, or holds control characters",
                ));
            }
            let found = fstatat(from, name, AtFlags::AT_SYMLINK_NOFOLLOW)
                .map_err(|errno| OutputError::Read(errno.into()))?;
            if is(&found, SFlag::S_IFDIR) {
                if depth.saturating_add(1) > self.output.depth {
                    let most = self.output.depth;
                    return Err(refused(&path, &format!("more than {most} folders deep")));
                }
                self.folders = self.folders.saturating_add(1);
                self.on_host(mkdirat(to, name, bits(PARTIAL_MODE)))?;
                let inner = read_folder(from, name).map_err(OutputError::Read)?;
                let made = self.on_host(read_folder(to, name))?;
                self.folder(&inner, &made, &path, depth.saturating_add(1))?;
                self.finish(&made, FOLDER_MODE)?;
            } else if is(&found, SFlag::S_IFREG) {
                self.files = self.files.saturating_add(1);
                self.file(from, to, name, &path)?;
            } else {
                return Err(refused(&path, kind(&found)));
            }
        }
        Ok(())
    }

    fn file(
        &mut self,
        from: &OwnedFd,
        to: &OwnedFd,
        name: &Path,
        path: &Path,
    ) -> Result<(), OutputError> {
        let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK;
        let mut source = File::from(beneath(from, name, flags, 0).map_err(OutputError::Read)?);
        if !source.metadata().map_err(OutputError::Read)?.is_file() {
            return Err(refused(path, "became something else"));
        }
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL;
        let mut target = File::from(self.on_host(beneath(to, name, flags, 0o600))?);
        let mut chunk = vec![0; CHUNK_BYTES];
        loop {
            let length = source.read(&mut chunk).map_err(OutputError::Read)?;
            let Some(read) = chunk.get(..length).filter(|read| !read.is_empty()) else {
                break;
            };
            self.bytes = self
                .bytes
                .saturating_add(u64::try_from(length).unwrap_or(u64::MAX));
            if self.bytes > self.output.size {
                let most = self.output.size;
                return Err(refused(path, &format!("more than {most} bytes")));
            }
            self.on_host(target.write_all(read))?;
        }
        self.finish(&target.into(), FILE_MODE)
    }

    /// Owner and mode last: until then nobody else sees it.
    fn finish(&self, entry: &OwnedFd, mode: u32) -> Result<(), OutputError> {
        let (owner, group) = (self.output.owner, self.output.group);
        let (owner, group) = (Uid::from_raw(owner), Gid::from_raw(group));
        self.on_host(fchown(entry, Some(owner), Some(group)))?;
        self.on_host(fchmod(entry, bits(mode & !self.output.umask)))
    }

    fn on_host<T, E: Into<io::Error>>(&self, result: Result<T, E>) -> Result<T, OutputError> {
        result.map_err(|source| OutputError::Host {
            path: self.host.to_owned(),
            source: source.into(),
        })
    }

    fn too_many(&self, path: &Path) -> OutputError {
        refused(path, &format!("more than {} entries", self.output.entries))
    }
}

fn refused(path: &Path, what: &str) -> OutputError {
    OutputError::Refused {
        path: path.to_owned(),
        what: what.to_owned(),
    }
}

fn kind(found: &FileStat) -> &'static str {
    if is(found, SFlag::S_IFLNK) {
        "a symbolic link"
    } else if is(found, SFlag::S_IFIFO) {
        "a named pipe"
    } else if is(found, SFlag::S_IFSOCK) {
        "a socket"
    } else {
        "neither a file nor a folder"
    }
}

/// A name that a terminal and a script can take.
fn is_plain(name: &Path) -> bool {
    let text = name.to_str();
    text.is_some_and(|text| !text.is_empty() && !text.chars().any(char::is_control))
}

fn read_folder(at: &OwnedFd, name: &Path) -> io::Result<OwnedFd> {
    beneath(at, name, OFlag::O_RDONLY | OFlag::O_DIRECTORY, 0)
}

/// Opens one name of a folder: no link, no other file system, nothing outside.
fn beneath(at: &OwnedFd, name: &Path, flags: OFlag, mode: u32) -> io::Result<OwnedFd> {
    let how = OpenHow::new()
        .flags(flags | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC)
        .mode(bits(mode))
        .resolve(
            ResolveFlag::RESOLVE_BENEATH
                | ResolveFlag::RESOLVE_NO_SYMLINKS
                | ResolveFlag::RESOLVE_NO_XDEV,
        );
    Ok(openat2(at, name, how)?)
}

/// Takes away what was copied so far.
fn remove(base: &OwnedFd, partial: &Path) -> io::Result<()> {
    let folder = read_folder(base, partial)?;
    for name in sum::names(&folder, usize::MAX)? {
        let name = Path::new(std::ffi::OsStr::from_bytes(name.as_bytes())).to_owned();
        if is(
            &fstatat(&folder, &name, AtFlags::AT_SYMLINK_NOFOLLOW)?,
            SFlag::S_IFDIR,
        ) {
            remove(&folder, &name)?;
        } else {
            unlinkat(&folder, &name, UnlinkatFlags::NoRemoveDir)?;
        }
    }
    Ok(unlinkat(base, partial, UnlinkatFlags::RemoveDir)?)
}

fn bits(mode: u32) -> Mode {
    Mode::from_bits_truncate(mode)
}
