//! The program of process 1: a few hundred bytes that `build.rs` compiled, in a file of the launcher's.

use std::{
    fs::File,
    io::{self, Write},
    os::{fd::OwnedFd, unix::fs::PermissionsExt},
};

use nix::{
    fcntl::{OFlag, openat},
    sys::stat::Mode,
};

use crate::sys::{
    mount::{Restrictions, new_tmpfs},
    process::Vectors,
};

const PROGRAM: &[u8] = include_bytes!(env!("STOCKADE_INIT"));
/// To execute, not to read: so the kernel makes whoever executes it without being root undumpable
/// from its first instruction on, and the worker, which has the same user, never sees into it.
const MODE: u32 = 0o111;

/// The program of process 1, and what it is executed with.
#[derive(Debug)]
pub(super) struct ProcessOne {
    pub(super) file: OwnedFd,
    pub(super) arguments: Vectors,
    pub(super) environment: Vectors,
}

impl ProcessOne {
    /// Puts it into a file system of its own: not every host lets memory files or those of `/run` be
    /// executed. It is attached nowhere.
    pub(super) fn new() -> io::Result<Self> {
        let folder = new_tmpfs(
            &[(c"mode", c"0700"), (c"size", c"1m"), (c"nr_inodes", c"4")],
            Restrictions {
                read_only: false,
                no_devices: true,
                no_exec: false,
            },
        )?;
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_CLOEXEC;
        let mut file = File::from(openat(&folder, "init", flags, Mode::empty())?);
        file.write_all(PROGRAM)?;
        file.set_permissions(PermissionsExt::from_mode(MODE))?;
        drop(file);
        let flags = OFlag::O_PATH | OFlag::O_CLOEXEC;
        Ok(Self {
            file: openat(&folder, "init", flags, Mode::empty())?,
            arguments: Vectors::new(vec![c"init".to_owned()]),
            environment: Vectors::new(Vec::new()),
        })
    }
}
