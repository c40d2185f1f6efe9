//! A set written into the policy folder: every file beside its place first, on the disk, and only then
//! renamed. Up to the end each step can be taken back by a rename, which needs no room.
//!
//! No link below the folder is followed: a link in the place of a file is replaced, not what it leads
//! to, and one in the place of a folder is refused.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::{
        fd::AsFd as _,
        unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _},
    },
    path::{Path, PathBuf},
};

use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};

use crate::{
    ownership,
    policy::{
        bundle::{Bundle, is_of_host},
        store,
    },
};

/// How the names of files end that are about to take a place, and of those that have left theirs.
/// Both begin with a dot: nothing reads them as policies.
const COMING: &str = ".coming";
const LEAVING: &str = ".leaving";
const FILE_MODE: u32 = 0o644;
const FOLDER_MODE: u32 = 0o755;

/// The policy folder can not be written.
#[derive(Debug, thiserror::Error)]
#[error("policy folder: `{}` can not be {action}", path.display())]
pub struct FolderError {
    path: PathBuf,
    action: &'static str,
    source: io::Error,
}

/// A set beside the files in force. Dropped, it takes itself away.
#[derive(Debug)]
pub(super) struct Staged {
    folder: PathBuf,
    coming: Vec<PathBuf>,
    leaving: Vec<PathBuf>,
    /// Those that have left their place, and those that have taken one.
    left: Vec<PathBuf>,
    taken: Vec<PathBuf>,
}

/// Whether the folder holds exactly the files of a set.
pub(super) fn holds(folder: &Path, set: &Bundle) -> bool {
    let Ok(listed) = store::list(folder) else {
        return false;
    };
    let listed: Vec<_> = listed.iter().filter_map(|path| path.file_name()).collect();
    let same = |name: &str, bytes: &[u8]| {
        let place = folder.join(name);
        is_of_host(name) || (place.is_file() && fs::read(place).is_ok_and(|there| there == bytes))
    };
    let lock_is_new = |name: &str| {
        let lock = store::lock_path(Path::new(name));
        let known = lock.to_str().is_some_and(|lock| set.get(lock).is_some());
        !known && folder.join(lock).exists()
    };
    listed.len() == set.policies().count()
        && listed
            .iter()
            .all(|name| name.to_str().is_some_and(|name| set.get(name).is_some()))
        && set.iter().all(|(name, bytes)| same(name, bytes))
        && !set.policies().any(lock_is_new)
}

/// Writes the files of `new` that the folder lacks beside their places. `old`: the set in force, whose
/// files that `new` does not have are to go.
pub(super) fn stage(folder: &Path, new: &Bundle, old: &Bundle) -> Result<Staged, FolderError> {
    let mut staged = Staged {
        folder: folder.to_owned(),
        coming: Vec::new(),
        leaving: Vec::new(),
        left: Vec::new(),
        taken: Vec::new(),
    };
    for (name, bytes) in new.iter().filter(|(name, _)| !is_of_host(name)) {
        let place = folder.join(name);
        staged.make_folders(name)?;
        if is_believed(&place) && fs::read(&place).is_ok_and(|there| there == bytes) {
            continue;
        }
        staged.coming.push(place.clone());
        let beside = beside(&place, COMING);
        write(&beside, bytes, mode_of(&place)).map_err(failed(&beside, "written"))?;
    }
    let known = old
        .iter()
        .map(|(name, _)| name)
        .filter(|name| !is_of_host(name));
    let known = known.map(|name| folder.join(name));
    let mut leaving: Vec<PathBuf> = known.collect();
    let listed = store::list(folder).unwrap_or_default();
    leaving.extend(listed.iter().map(|policy| store::lock_path(policy)));
    leaving.extend(listed);
    // A lock whose policy keeps its name and has none any more.
    leaving.extend(
        new.policies()
            .map(|name| store::lock_path(&folder.join(name))),
    );
    leaving.sort();
    leaving.dedup();
    leaving.retain(|path| {
        let name = path.strip_prefix(folder).ok().and_then(Path::to_str);
        let stays = name.is_some_and(|name| new.get(name).is_some());
        !stays && fs::symlink_metadata(path).is_ok()
    });
    staged.leaving = leaving;
    Ok(staged)
}

/// Removes what a change that was cut short left beside the files.
pub(super) fn sweep(folder: &Path) {
    let files = fs::read_dir(folder).into_iter().flatten().flatten();
    for path in files.map(|file| file.path()) {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let ours = name.starts_with('.') && (name.ends_with(COMING) || name.ends_with(LEAVING));
        if ours && let Err(error) = fs::remove_file(&path) {
            tracing::warn!(path = %path.display(), %error, "left over file not removed");
        }
    }
}

impl Staged {
    /// Puts every file in its place. On an error the folder is as it was.
    pub(super) fn exchange(&mut self) -> Result<(), FolderError> {
        let exchanged = self.put_in_place();
        if exchanged.is_err() {
            self.put_back();
        }
        exchanged
    }

    /// What was exchanged stays so.
    pub(super) fn keep(mut self) {
        for path in self.left.drain(..) {
            // Out of place already: one that stays is removed by the next change.
            drop(fs::remove_file(beside(&path, LEAVING)));
        }
        self.taken.clear();
    }

    /// The folder is to be as it was.
    pub(super) fn take_back(mut self) {
        self.put_back();
    }

    fn put_in_place(&mut self) -> Result<(), FolderError> {
        for place in std::mem::take(&mut self.leaving) {
            self.leave(place)?;
        }
        for place in self.coming.clone() {
            if fs::symlink_metadata(&place).is_ok() {
                self.leave(place.clone())?;
            }
            fs::rename(beside(&place, COMING), &place).map_err(failed(&place, "put in place"))?;
            self.taken.push(place);
        }
        self.sync()
    }

    fn leave(&mut self, place: PathBuf) -> Result<(), FolderError> {
        let metadata = fs::symlink_metadata(&place).map_err(failed(&place, "looked at"))?;
        if metadata.is_dir() {
            let source = io::ErrorKind::IsADirectory.into();
            return Err(failed(&place, "replaced")(source));
        }
        fs::rename(&place, beside(&place, LEAVING)).map_err(failed(&place, "taken away"))?;
        self.left.push(place);
        Ok(())
    }

    fn put_back(&mut self) {
        let mut done = Ok(());
        let (taken, left) = (
            std::mem::take(&mut self.taken),
            std::mem::take(&mut self.left),
        );
        for place in taken.iter().rev() {
            done = done.and(fs::remove_file(place));
        }
        for place in left.iter().rev() {
            done = done.and(fs::rename(beside(place, LEAVING), place));
        }
        if let Err(error) = done.and_then(|()| self.sync().map_err(|error| error.source)) {
            tracing::error!(%error, "policy folder not put back: `policy rollback` writes it anew");
        }
    }

    fn sync(&self) -> Result<(), FolderError> {
        let mut folders = vec![self.folder.clone()];
        let places = self.taken.iter().chain(&self.left);
        folders.extend(
            places
                .filter_map(|place| place.parent())
                .map(Path::to_owned),
        );
        folders.sort();
        folders.dedup();
        for folder in folders {
            let synced = File::open(&folder).and_then(|folder| folder.sync_all());
            synced.map_err(failed(&folder, "synced"))?;
        }
        Ok(())
    }

    /// Makes the folders of a name below the policy folder; a link among them is refused.
    fn make_folders(&self, name: &str) -> Result<(), FolderError> {
        let Some(parent) = Path::new(name)
            .parent()
            .filter(|path| *path != Path::new(""))
        else {
            return Ok(());
        };
        let path = self.folder.join(parent);
        let mut builder = fs::DirBuilder::new();
        let made = builder.recursive(true).mode(FOLDER_MODE).create(&path);
        made.map_err(failed(&path, "made"))?;
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let root = nix::fcntl::open(&self.folder, flags, nix::sys::stat::Mode::empty());
        let root = root.map_err(|errno| failed(&self.folder, "opened")(errno.into()))?;
        let how = OpenHow::new().flags(flags);
        let how = how.resolve(ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS);
        let opened = openat2(root.as_fd(), parent, how);
        opened.map_err(|errno| failed(&path, "entered")(errno.into()))?;
        Ok(())
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        for place in &self.coming {
            // Some were not written.
            drop(fs::remove_file(beside(place, COMING)));
        }
    }
}

fn write(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(mode);
    let mut file = options.open(path)?;
    // The mask of whoever started the agent does not count.
    file.set_permissions(fs::Permissions::from_mode(mode))?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// Whether a file may stay as it is: one that others could write is written anew.
fn is_believed(place: &Path) -> bool {
    let is_file = fs::symlink_metadata(place).is_ok_and(|there| there.is_file());
    is_file && File::open(place).is_ok_and(|file| ownership::file(place, &file).is_ok())
}

/// A file that is replaced stays as hidden as it was.
fn mode_of(place: &Path) -> u32 {
    match fs::symlink_metadata(place) {
        Ok(there) if there.is_file() => there.permissions().mode() & FILE_MODE,
        Ok(_) | Err(_) => FILE_MODE,
    }
}

fn beside(place: &Path, ending: &str) -> PathBuf {
    let name = place.file_name().unwrap_or_default().to_string_lossy();
    place.with_file_name(format!(".{name}{ending}"))
}

fn failed(path: &Path, action: &'static str) -> impl Fn(io::Error) -> FolderError {
    move |source| FolderError {
        path: path.to_owned(),
        action,
        source,
    }
}

#[cfg(test)]
mod tests;
