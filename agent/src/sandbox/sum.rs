//! Sums of files and folders, read by descriptor, and what identifies them without reading.
//!
//! A file's sum is SHA-256 of its content. A folder's is SHA-256 of `stockade folder 1`, a zero
//! byte, and for each name in it, ordered by bytes: one byte of kind (`f` file, `x` file with an
//! executable bit, `d` folder, `l` symbolic link), the length of the name (8 bytes, little endian),
//! the name, and the 32 bytes of its sum; that of a link is SHA-256 of its target. Anything else in
//! it, and more than the bounds below, is an error.

mod at_it;

use std::{
    ffi::{CString, OsStr},
    fs::File,
    io::{self, Read, Seek},
    os::{
        fd::{AsFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::{Path, PathBuf},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use nix::{
    dir::Dir,
    errno::Errno,
    fcntl::{AtFlags, OFlag, openat, readlinkat},
    libc,
    sys::stat::{FileStat, Mode, SFlag, fstat, fstatat},
};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

pub use at_it::AtIt;

/// Files, folders and links below a pinned folder.
pub const ENTRIES_MAX: usize = 65_536;
/// Folders within folders.
pub const DEPTH_MAX: u32 = 64;
/// Bytes of all its files together.
pub const BYTES_MAX: u64 = 4 << 30;
/// Bytes hashed at a time.
const CHUNK_BYTES: usize = 64 * 1024;
/// What a folder's sum begins with.
const FORM: &[u8] = b"stockade folder 1\0";
/// A file that was changed within this time may be changed again without a new time stamp: those
/// have the resolution of a timer tick.
const SETTLED_AFTER: Duration = Duration::from_secs(2);

/// SHA-256.
pub type Sum = [u8; 32];

/// What identifies a file's content without reading it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Identity {
    device: u64,
    inode: u64,
    size: i64,
    modified: (i64, i64),
    changed: (i64, i64),
}

/// A folder that was summed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Folder {
    /// Its sum.
    pub sum: Sum,
    /// Everything in it, itself included, by its path from it.
    pub entries: Vec<(PathBuf, Identity)>,
}

impl Identity {
    /// Of an open file.
    pub fn of(file: impl AsFd) -> io::Result<Self> {
        Ok(Self::from(&fstat(file)?))
    }

    /// Whether a later change will show: one of this very moment might not.
    pub fn is_settled(&self) -> bool {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let now = now.unwrap_or_default().as_secs();
        let changed = u64::try_from(self.changed.0).unwrap_or(u64::MAX);
        changed.saturating_add(SETTLED_AFTER.as_secs()) <= now
    }
}

impl From<&FileStat> for Identity {
    fn from(stat: &FileStat) -> Self {
        Self {
            device: stat.st_dev,
            inode: stat.st_ino,
            size: stat.st_size,
            modified: (stat.st_mtime, stat.st_mtime_nsec),
            changed: (stat.st_ctime, stat.st_ctime_nsec),
        }
    }
}

/// Sums a file from its beginning, where it is left again.
pub fn file(file: &mut File) -> io::Result<(Sum, Identity)> {
    file_of(file, &mut AtIt::default())
}

/// The same, for somebody who wants to hear of it.
pub fn file_of(file: &mut File, at_it: &mut AtIt) -> io::Result<(Sum, Identity)> {
    let before = Identity::of(&*file)?;
    let mut sum = Sha256::new();
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        match file.read(&mut chunk)? {
            0 => break,
            length => {
                sum.update(chunk.get(..length).unwrap_or_default());
                at_it.did(length)?;
            }
        }
    }
    file.rewind()?;
    if Identity::of(&*file)? != before {
        return Err(changed());
    }
    Ok((sum.finalize().into(), before))
}

/// Sums a folder and all below it.
pub fn folder(folder: &File) -> io::Result<Folder> {
    folder_of(folder, &mut AtIt::default())
}

/// The same, for somebody who wants to hear of it.
pub fn folder_of(folder: &File, at_it: &mut AtIt) -> io::Result<Folder> {
    let mut walk = Walk {
        at_it,
        entries: Vec::new(),
        bytes: 0,
    };
    let own = folder.as_fd().try_clone_to_owned()?;
    let sum = walk.folder(&own, Path::new(""), 0)?;
    Ok(Folder {
        sum,
        entries: walk.entries,
    })
}

impl Folder {
    /// Whether everything that was summed is as it was. A folder whose times are the same has the
    /// same names.
    pub fn is_unchanged(&self, folder: &File, at_it: &mut AtIt) -> io::Result<bool> {
        for (path, known) in &self.entries {
            at_it.did(0)?;
            let found = if path.as_os_str().is_empty() {
                fstat(folder)
            } else {
                fstatat(folder, path, AtFlags::AT_SYMLINK_NOFOLLOW)
            };
            match found {
                Ok(found) if Identity::from(&found) == *known => {}
                Ok(_) | Err(Errno::ENOENT | Errno::ENOTDIR) => return Ok(false),
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(true)
    }

    /// Whether a later change of anything in it will show.
    pub fn is_settled(&self) -> bool {
        self.entries.iter().all(|(_, known)| known.is_settled())
    }
}

struct Walk<'sum> {
    at_it: &'sum mut AtIt,
    entries: Vec<(PathBuf, Identity)>,
    bytes: u64,
}

impl Walk<'_> {
    fn folder(&mut self, fd: &OwnedFd, at: &Path, depth: u32) -> io::Result<Sum> {
        if depth > DEPTH_MAX {
            return Err(io::Error::other(format!(
                "`{}`: more than {DEPTH_MAX} folders deep",
                at.display()
            )));
        }
        let before = Identity::of(fd)?;
        self.note(at, before)?;
        let mut sum = Sha256::new();
        sum.update(FORM);
        for name in names(fd, ENTRIES_MAX)? {
            let path = at.join(OsStr::from_bytes(name.as_bytes()));
            let (kind, entry) = self.entry(fd, &name, &path, depth)?;
            sum.update([kind]);
            sum.update(
                u64::try_from(name.as_bytes().len())
                    .unwrap_or(u64::MAX)
                    .to_le_bytes(),
            );
            sum.update(name.as_bytes());
            sum.update(entry);
        }
        if Identity::of(fd)? != before {
            return Err(changed());
        }
        Ok(sum.finalize().into())
    }

    fn entry(
        &mut self,
        fd: &OwnedFd,
        name: &CString,
        path: &Path,
        depth: u32,
    ) -> io::Result<(u8, Sum)> {
        let found = fstatat(fd, name.as_c_str(), AtFlags::AT_SYMLINK_NOFOLLOW)?;
        let identity = Identity::from(&found);
        // A FIFO would wait for a writer; nothing but what was just seen is opened.
        let open = |extra: OFlag| -> io::Result<OwnedFd> {
            let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
            let opened = openat(fd, name.as_c_str(), flags | extra, Mode::empty())?;
            if Identity::of(&opened)? == identity {
                Ok(opened)
            } else {
                Err(changed())
            }
        };
        match SFlag::from_bits_truncate(found.st_mode & SFlag::S_IFMT.bits()) {
            SFlag::S_IFDIR => {
                let opened = open(OFlag::O_DIRECTORY)?;
                Ok((b'd', self.folder(&opened, path, depth.saturating_add(1))?))
            }
            SFlag::S_IFREG => {
                self.note(path, identity)?;
                let size = u64::try_from(found.st_size).unwrap_or(u64::MAX);
                self.bytes = self.bytes.saturating_add(size);
                if self.bytes > BYTES_MAX {
                    return Err(io::Error::other(format!("more than {BYTES_MAX} bytes")));
                }
                let (sum, _) = file_of(&mut File::from(open(OFlag::empty())?), self.at_it)?;
                let executable = found.st_mode & 0o111 != 0;
                Ok((if executable { b'x' } else { b'f' }, sum))
            }
            SFlag::S_IFLNK => {
                self.note(path, identity)?;
                let target = readlinkat(fd, name.as_c_str())?;
                Ok((b'l', Sha256::digest(target.as_bytes()).into()))
            }
            _ => Err(io::Error::other(format!(
                "`{}`: neither file, folder nor link",
                path.display()
            ))),
        }
    }

    fn note(&mut self, path: &Path, identity: Identity) -> io::Result<()> {
        // A folder of many small files takes its time as well, on a disk that is cold.
        self.at_it.did(0)?;
        if self.entries.len() >= ENTRIES_MAX {
            return Err(io::Error::other(format!("more than {ENTRIES_MAX} entries")));
        }
        self.entries.push((path.to_owned(), identity));
        Ok(())
    }
}

/// The names in a folder, ordered by bytes; `EOVERFLOW` where there are more than `most`.
pub(super) fn names(folder: impl AsFd, most: usize) -> io::Result<Vec<CString>> {
    // Its own position: the descriptor may be read again.
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let own = openat(folder, c".", flags, Mode::empty())?;
    let mut names = Vec::new();
    for entry in Dir::from_fd(own)?.iter() {
        let name = entry?.file_name().to_owned();
        if name.as_bytes() == b"." || name.as_bytes() == b".." {
            continue;
        }
        if names.len() >= most {
            return Err(io::Error::from_raw_os_error(libc::EOVERFLOW));
        }
        names.push(name);
    }
    names.sort_unstable();
    Ok(names)
}

fn changed() -> io::Error {
    io::Error::other("changed while it was read")
}

#[cfg(test)]
mod tests {
    use std::{
        fs::{self, File},
        os::unix::fs::{PermissionsExt, symlink},
        path::Path,
    };

    use sha2::{Digest, Sha256};

    use super::{AtIt, FORM, Folder, Sum, folder};

    fn sum(path: &Path) -> Sum {
        folder(&File::open(path).unwrap()).unwrap().sum
    }

    fn is_unchanged(folder: &Folder, path: &Path) -> bool {
        let file = File::open(path).unwrap();
        folder.is_unchanged(&file, &mut AtIt::default()).unwrap()
    }

    fn by_hand(entries: &[(u8, &str, Sum)]) -> Sum {
        let mut sum = Sha256::new();
        sum.update(FORM);
        for (kind, name, entry) in entries {
            sum.update([*kind]);
            sum.update((name.len() as u64).to_le_bytes());
            sum.update(name.as_bytes());
            sum.update(entry);
        }
        sum.finalize().into()
    }

    #[test]
    fn a_folder_has_the_documented_sum_and_every_change_shows() {
        let scratch = tempfile::tempdir().unwrap();
        let root = scratch.path();
        fs::create_dir(root.join("b")).unwrap();
        fs::write(root.join("a"), "one").unwrap();
        fs::write(root.join("b/run"), "two").unwrap();
        fs::set_permissions(root.join("b/run"), fs::Permissions::from_mode(0o755)).unwrap();
        symlink("a", root.join("c")).unwrap();
        let hash = |text: &str| -> Sum { Sha256::digest(text).into() };
        let inner = by_hand(&[(b'x', "run", hash("two"))]);
        let whole = by_hand(&[
            (b'f', "a", hash("one")),
            (b'd', "b", inner),
            (b'l', "c", hash("a")),
        ]);
        assert_eq!(sum(root), whole);

        let seen = folder(&File::open(root).unwrap()).unwrap();
        assert!(is_unchanged(&seen, root));
        assert_eq!(seen.entries.len(), 5);
        fs::set_permissions(root.join("b/run"), fs::Permissions::from_mode(0o644)).unwrap();
        assert!(!is_unchanged(&seen, root));
        assert_ne!(sum(root), whole);
        fs::set_permissions(root.join("b/run"), fs::Permissions::from_mode(0o700)).unwrap();
        assert_eq!(sum(root), whole);
        fs::write(root.join("b/new"), "").unwrap();
        assert_ne!(sum(root), whole);
        fs::remove_file(root.join("b/new")).unwrap();
        fs::remove_file(root.join("c")).unwrap();
        symlink("b", root.join("c")).unwrap();
        assert_ne!(sum(root), whole);
    }

    #[test]
    fn what_has_no_content_has_no_sum() {
        let scratch = tempfile::tempdir().unwrap();
        let pipe = scratch.path().join("pipe");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let error = folder(&File::open(scratch.path()).unwrap()).unwrap_err();
        assert_eq!(error.to_string(), "`pipe`: neither file, folder nor link");
        fs::remove_file(&pipe).unwrap();
        let mut deep = scratch.path().to_owned();
        for _ in 0..70 {
            deep.push("d");
        }
        fs::create_dir_all(&deep).unwrap();
        let error = folder(&File::open(scratch.path()).unwrap()).unwrap_err();
        assert!(error.to_string().contains("folders deep"), "{error}");
    }
}
