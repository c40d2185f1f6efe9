//! The pinned files and folders of a policy: compared with their sums before each launch, in the
//! root of the worker, through descriptors.
//!
//! A sum is kept as long as device, inode, size and times stay; of a folder, as long as those of
//! everything in it do. What was changed only just now is not kept.

use std::{
    collections::HashMap,
    fs::File,
    io,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use nix::fcntl::OFlag;

use super::{
    error::{At, Step, StepError},
    plan::Pinned,
    sum::{self, AtIt, Folder, Identity, Sum},
};
use crate::policy::compiled::Digest;

/// The pins of a policy, and what was summed already.
#[derive(Debug, Default)]
pub struct Pins {
    expected: Vec<Pinned>,
    files: HashMap<PathBuf, (Identity, Sum)>,
    folders: HashMap<PathBuf, Folder>,
    at_it: AtIt,
}

/// The pinned files as they were opened to be checked: what was checked is what is executed.
#[derive(Debug, Default)]
pub(super) struct Checked {
    files: Vec<(Identity, File)>,
    /// Their paths.
    pub(super) seen: Vec<(PathBuf, Identity)>,
    /// Folders were checked as well, by more than their own identity.
    pub(super) folders: bool,
}

impl Checked {
    /// The file of this identity, if it was checked.
    pub(super) fn take(&mut self, identity: &Identity) -> Option<File> {
        let position = self.files.iter().position(|(known, _)| known == identity)?;
        Some(self.files.swap_remove(position).1)
    }
}

impl Pins {
    /// Pins of a plan; whom it tells of a check that takes long.
    #[must_use]
    pub fn new(expected: Vec<Pinned>, at_it: AtIt) -> Self {
        Self {
            expected,
            at_it,
            ..Self::default()
        }
    }

    /// Checks every pin.
    pub(super) fn check(&mut self) -> Result<Checked, StepError> {
        let mut checked = Checked::default();
        self.at_it.begin();
        for pin in &self.expected {
            let on = || format!("pinned {} `{}`", kind(pin), pin.path.display());
            let mut opened = open(pin).at(Step::Pin, on())?;
            let found = if pin.folder {
                folder(&mut self.folders, &pin.path, &opened, &mut self.at_it)
            } else {
                file(&mut self.files, &pin.path, &mut opened, &mut self.at_it)
            };
            let found = found.at(Step::Pin, on())?;
            if found != pin.sha256 {
                return Err(StepError::new(
                    Step::Pin,
                    format!(
                        "{}: its sum is {}, pinned is {}\n\
                         hint: if the change is wanted, `stockade policy pin` writes the lock file \
                         anew; a `worker.pin` is changed by hand",
                        on(),
                        Digest(found),
                        Digest(pin.sha256),
                    ),
                ));
            }
            if pin.folder {
                checked.folders = true;
            } else {
                let identity = Identity::of(&opened).at(Step::Pin, on())?;
                checked.seen.push((pin.path.clone(), identity));
                checked.files.push((identity, opened));
            }
        }
        Ok(checked)
    }
}

fn kind(pin: &Pinned) -> &'static str {
    if pin.folder { "folder" } else { "file" }
}

fn open(pin: &Pinned) -> io::Result<File> {
    let mut flags = OFlag::O_CLOEXEC | OFlag::O_NONBLOCK;
    if pin.folder {
        flags |= OFlag::O_DIRECTORY;
    }
    let file = File::options()
        .read(true)
        .custom_flags(flags.bits())
        .open(&pin.path)?;
    if !pin.folder && !file.metadata()?.is_file() {
        return Err(io::Error::other("not a regular file"));
    }
    Ok(file)
}

fn file(
    known: &mut HashMap<PathBuf, (Identity, Sum)>,
    path: &Path,
    file: &mut File,
    at_it: &mut AtIt,
) -> io::Result<Sum> {
    let identity = Identity::of(&*file)?;
    if let Some((same, sum)) = known.get(path)
        && *same == identity
    {
        return Ok(*sum);
    }
    let (sum, identity) = sum::file_of(file, at_it)?;
    if identity.is_settled() {
        known.insert(path.to_owned(), (identity, sum));
    }
    Ok(sum)
}

fn folder(
    known: &mut HashMap<PathBuf, Folder>,
    path: &Path,
    folder: &File,
    at_it: &mut AtIt,
) -> io::Result<Sum> {
    if let Some(same) = known.get(path)
        && same.is_unchanged(folder, at_it)?
    {
        return Ok(same.sum);
    }
    let found = sum::folder_of(folder, at_it)?;
    let sum = found.sum;
    if found.is_settled() {
        known.insert(path.to_owned(), found);
    } else {
        known.remove(path);
    }
    Ok(sum)
}
