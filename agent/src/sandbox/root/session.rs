//! A session's own mounts in a copy of its policy's root: `/workdir`, `/tmp`, `/proc`, the user
//! database.

use std::{
    ffi::CString,
    fs, io,
    os::{
        fd::{AsFd, OwnedFd},
        unix::fs::OpenOptionsExt,
    },
    path::Path,
};

use nix::{
    fcntl::AtFlags,
    mount::MsFlags,
    unistd::{Gid, Uid, fchownat},
};

use super::{COVER_FILE, COVER_FOLDER, SEALED, USERS, mount_at};
use crate::{
    sandbox::{
        error::{At, Step, StepError},
        landlock::{PROC, Rules},
        output::{self, Left},
        plan::{HOST_NAME, Plan, Space, TMPDIR, WORKDIR},
        procfs::Masked,
    },
    sys::mount::{Restrictions, attach, copy_tree, new_tmpfs, restrict},
};

/// What one session will have and nobody has yet: made while nobody waits for it.
#[derive(Debug)]
pub struct Ready {
    /// `/workdir` and `/tmp`, root's, attached nowhere.
    folders: [(&'static str, OwnedFd); 2],
    /// What is handed out, where the policy has that.
    pub output: Option<Left>,
    /// Landlock's rules, those for the two folders included.
    pub rules: OwnedFd,
}

impl Ready {
    /// Makes one.
    pub fn new(plan: &Plan, rules: &Rules) -> Result<Self, StepError> {
        let set = rules.set()?;
        let folder = |path: &'static str, space| {
            let folder = tmpfs(space).at(Step::Mounts, path)?;
            rules.add(&set, path, &folder)?;
            Ok::<_, StepError>((path, folder))
        };
        Ok(Self {
            folders: [folder(WORKDIR, plan.workdir)?, folder(TMPDIR, plan.tmp)?],
            // Beneath the workdir, whose rule covers it.
            output: plan
                .output
                .map(|space| tmpfs(space).at(Step::Mounts, output::FOLDER))
                .transpose()?
                .map(Left::from),
            rules: set,
        })
    }

    /// Gives the folders to the session's user.
    pub fn give_to(&self, uid: u32) -> Result<(), StepError> {
        let (user, group) = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(uid)));
        let folders = self.folders.iter();
        let folders = folders.map(|(path, folder)| (*path, folder.as_fd()));
        let output = self
            .output
            .iter()
            .map(|left| (output::FOLDER, left.as_fd()));
        for (path, folder) in folders.chain(output) {
            fchownat(folder, "", user, group, AtFlags::AT_EMPTY_PATH).at(Step::Mounts, path)?;
        }
        Ok(())
    }
}

fn tmpfs(space: Space) -> io::Result<OwnedFd> {
    let Space { size, inodes } = space;
    let [size, inodes] = [size, inodes].map(|number| CString::new(number.to_string()));
    let options = [
        (c"mode", c"0700"),
        (c"size", &size?),
        (c"nr_inodes", &inodes?),
    ];
    let private = Restrictions {
        read_only: false,
        no_devices: true,
        no_exec: true,
    };
    new_tmpfs(&options, private)
}

/// Mounts what is a session's own. The caller is process 1 of the session's namespaces.
pub fn session(plan: &Plan, uid: u32, ready: &Ready) -> Result<(), StepError> {
    for (path, folder) in &ready.folders {
        attach(folder, Path::new(path)).at(Step::Mounts, *path)?;
    }
    if let Some(output) = &ready.output {
        output.attach().at(Step::Mounts, output::FOLDER)?;
    }
    users(uid).at(Step::Mounts, USERS)?;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount_at(
        Some("proc"),
        Path::new(PROC),
        Some("proc"),
        flags,
        Some("hidepid=invisible"),
    )
    .at(Step::Mounts, PROC)?;
    if plan.memfd_noexec {
        fs::write("/proc/sys/vm/memfd_noexec", "2").at(Step::MemfdNoexec, "vm.memfd_noexec")?;
    }
    for mask in &plan.masks {
        let cover = match mask.by {
            Masked::File => COVER_FILE,
            Masked::Folder => COVER_FOLDER,
            Masked::Mode => continue,
        };
        let covered = mount_at(Some(cover), &mask.path, None, MsFlags::MS_BIND, None);
        if covered.is_err() {
            return covered.at(Step::Mounts, super::name(&mask.path));
        }
    }
    Ok(())
}

/// Names the session's user: runtimes and tools look it up.
fn users(uid: u32) -> io::Result<()> {
    let file = Path::new(TMPDIR).join(".passwd");
    let content = format!("{HOST_NAME}:x:{uid}:{uid}::{WORKDIR}:/bin/sh\n");
    let mut options = fs::File::options();
    // Root's, and for everybody to read: the template's mask takes nothing away.
    options.write(true).create_new(true).mode(0o444);
    io::Write::write_all(&mut options.open(&file)?, content.as_bytes())?;
    let tree = copy_tree(&file, false)?;
    let sealed = Restrictions {
        no_exec: true,
        ..SEALED
    };
    restrict(tree.as_fd(), sealed)?;
    attach(tree.as_fd(), Path::new(USERS))?;
    // The file lives on in the mount; its name in the worker's folder must not.
    fs::remove_file(&file)
}
