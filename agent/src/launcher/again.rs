//! A program that a template has found and checked, to be started again without asking the template: as
//! long as every path that led to it leads to the very same file, the template would find the same.
//!
//! The agent opens nothing for reading here and waits for no disk: a path that the kernel can not follow
//! at once, in the template's root, is the template's to look at.

use std::{
    ffi::{CString, OsStr, OsString},
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::ffi::OsStringExt,
    },
    path::{Path, PathBuf},
};

use nix::{errno::Errno, fcntl::ResolveFlag};

use super::protocol::Work;
use crate::sandbox::{path::open_at_once, program::Found, sum::Identity};

/// The program of a command.
#[derive(Debug)]
pub(super) struct Again {
    name: OsString,
    found: Found,
    file: OwnedFd,
}

impl Again {
    /// What a template told of a command.
    pub(super) fn new(work: &Work, found: Found, file: OwnedFd) -> Option<Self> {
        Some(Self {
            name: name(work)?.to_owned(),
            found,
            file,
        })
    }

    /// The file that is executed.
    pub(super) fn file(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    /// What the program is given for a command, if that still leads to it in this root.
    pub(super) fn arguments(&self, root: &OwnedFd, work: &Work) -> Option<Vec<CString>> {
        let Work::Command(command) = work else {
            return None;
        };
        if name(work)? != self.name || !self.found.seen.iter().all(|seen| is_same(root, seen)) {
            return None;
        }
        let words = self.found.before.iter().chain(command);
        words
            .map(|word| CString::new(word.clone().into_vec()).ok())
            .collect()
    }
}

fn name(work: &Work) -> Option<&OsStr> {
    match work {
        Work::Command(command) => command.first().map(OsString::as_os_str),
        Work::SelfTest => None,
    }
}

fn is_same(root: &OwnedFd, (path, known): &(PathBuf, Identity)) -> bool {
    look(root, path).is_ok_and(|found| found == *known)
}

fn look(root: &OwnedFd, path: &Path) -> Result<Identity, Errno> {
    let file = open_at_once(root, path, ResolveFlag::RESOLVE_IN_ROOT)?;
    Identity::of(&file).map_err(|error| {
        let errno = error.raw_os_error();
        errno.map_or(Errno::UnknownErrno, Errno::from_raw)
    })
}

#[cfg(test)]
mod tests;
