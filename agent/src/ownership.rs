//! Whether anybody but root and the agent's own user could have written a file that the agent
//! believes: owner and mode of the file, and of every folder on the way to it.
//!
//! It looks through the descriptor that is read, so that what was looked at is what is read; where the
//! path was a link, the folders are those of the file behind it.

use std::{
    fs::{self, File, Metadata},
    io,
    os::{fd::AsRawFd as _, unix::fs::MetadataExt as _},
    path::{Path, PathBuf},
};

/// Write permission of the group and of all others.
const GROUP_OR_OTHERS: u32 = 0o022;
/// Write permission of all others.
const OTHERS: u32 = 0o002;
/// In such a folder only its owner and a file's owner remove or rename the file (`inode(7)`).
const STICKY: u32 = 0o1000;

/// Why a file is not believed.
#[derive(Debug, thiserror::Error)]
pub enum Distrust {
    /// It belongs to somebody else.
    #[error(
        "`{}`: it belongs to uid {uid}, who could change it\nhint: chown root:root {}",
        path.display(), path.display()
    )]
    Owner {
        /// The file or folder.
        path: PathBuf,
        /// Whose it is.
        uid: u32,
    },
    /// Others may write it.
    #[error(
        "`{}`: mode {mode:04o} lets others than its owner write it\nhint: chmod go-w {}",
        path.display(), path.display()
    )]
    Writable {
        /// The file or folder.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Owner and mode can not be had.
    #[error("`{}`: owner and mode can not be read", path.display())]
    Unseen {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl Distrust {
    /// What it is about.
    #[must_use]
    pub fn path(&self) -> &Path {
        match self {
            Self::Owner { path, .. } | Self::Writable { path, .. } | Self::Unseen { path, .. } => {
                path
            }
        }
    }
}

/// Refuses an open file that others could have written or put in the place of another. `path` names it
/// in messages.
pub fn file(path: &Path, file: &File) -> Result<(), Distrust> {
    let metadata = file.metadata().map_err(unseen(path))?;
    judge(path, &metadata, GROUP_OR_OTHERS)?;
    above(path, file)
}

/// Refuses a folder in which others could have put files.
pub fn folder(path: &Path) -> Result<(), Distrust> {
    let open = File::open(path).map_err(unseen(path))?;
    file(path, &open)
}

/// Refuses a file that everybody may write. For files that a person names: whose they are is that
/// person's choice.
pub fn named_file(path: &Path) -> Result<(), Distrust> {
    let metadata = fs::metadata(path).map_err(unseen(path))?;
    let mode = metadata.mode() & 0o7777;
    if metadata.is_file() && mode & OTHERS != 0 {
        return Err(writable(path, mode));
    }
    Ok(())
}

/// The folders on the way to an open file. One that is sticky may be written by all: nobody else can
/// take our file away there.
fn above(path: &Path, file: &File) -> Result<(), Distrust> {
    let link = format!("/proc/self/fd/{}", file.as_raw_fd());
    let real = fs::read_link(link).map_err(unseen(path))?;
    for folder in real.ancestors().skip(1) {
        let metadata = fs::metadata(folder).map_err(unseen(folder))?;
        let refused = if metadata.mode() & STICKY == 0 {
            GROUP_OR_OTHERS
        } else {
            0
        };
        judge(folder, &metadata, refused)?;
    }
    Ok(())
}

fn judge(path: &Path, metadata: &Metadata, refused: u32) -> Result<(), Distrust> {
    let uid = metadata.uid();
    if uid != 0 && uid != nix::unistd::geteuid().as_raw() {
        let path = path.to_owned();
        return Err(Distrust::Owner { path, uid });
    }
    let mode = metadata.mode() & 0o7777;
    if mode & refused == 0 {
        Ok(())
    } else {
        Err(writable(path, mode))
    }
}

fn writable(path: &Path, mode: u32) -> Distrust {
    let path = path.to_owned();
    Distrust::Writable { path, mode }
}

fn unseen(path: &Path) -> impl Fn(io::Error) -> Distrust {
    |source| Distrust::Unseen {
        path: path.to_owned(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use std::{
        fs::{self, File, Permissions},
        os::unix::fs::{PermissionsExt as _, chown, symlink},
        path::Path,
    };

    use super::{Distrust, file, folder, named_file};

    fn mode(path: &Path, mode: u32) {
        fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    }

    fn look(path: &Path) -> Result<(), Distrust> {
        file(path, &File::open(path).unwrap())
    }

    #[test]
    fn only_what_its_owner_alone_writes_is_believed() {
        let home = tempfile::tempdir_in("/var/tmp").unwrap();
        let path = home.path().join("a.toml");
        fs::write(&path, "").unwrap();
        for (bits, good) in [
            (0o644, true),
            (0o600, true),
            (0o640, true),
            (0o664, false),
            (0o646, false),
            (0o666, false),
        ] {
            mode(&path, bits);
            assert_eq!(look(&path).is_ok(), good, "{bits:o}");
            assert_eq!(named_file(&path).is_ok(), bits & 2 == 0, "{bits:o}");
        }
        mode(&path, 0o644);
        for (bits, good) in [(0o755, true), (0o775, false), (0o757, false)] {
            mode(home.path(), bits);
            assert_eq!(look(&path).is_ok(), good, "{bits:o}");
            assert_eq!(folder(home.path()).is_ok(), good, "{bits:o}");
        }
        // Others can not move our file out of a sticky folder, but put theirs beside it.
        mode(home.path(), 0o1777);
        assert!(look(&path).is_ok());
        assert!(folder(home.path()).is_err());
    }

    #[test]
    fn a_link_is_judged_by_what_it_leads_to() {
        let home = tempfile::tempdir_in("/var/tmp").unwrap();
        let (good, open) = (home.path().join("good"), home.path().join("open"));
        fs::create_dir(&good).unwrap();
        fs::create_dir(&open).unwrap();
        mode(&good, 0o755);
        mode(&open, 0o777);
        fs::write(open.join("a.toml"), "").unwrap();
        mode(&open.join("a.toml"), 0o644);
        let link = good.join("a.toml");
        symlink(open.join("a.toml"), &link).unwrap();
        let refused = look(&link).unwrap_err().to_string();
        assert!(refused.contains("/open`: mode 0777"), "{refused}");
        mode(&open, 0o755);
        look(&link).unwrap();
    }

    #[test]
    fn somebody_elses_file_is_refused() {
        let home = tempfile::tempdir_in("/var/tmp").unwrap();
        let path = home.path().join("a.toml");
        fs::write(&path, "").unwrap();
        chown(&path, Some(65_534), None).unwrap();
        let refused = look(&path).unwrap_err().to_string();
        assert!(refused.contains("uid 65534"), "{refused}");
        assert!(refused.contains("hint: chown root:root"), "{refused}");
    }
}
