//! A session's own mounts in a copy of its policy's root: `/workdir`, `/tmp`, `/proc`, the user
//! database.

use std::{fs, io, os::unix::fs::PermissionsExt, path::Path};

use nix::mount::MsFlags;

use super::{COVER_FILE, COVER_FOLDER, SEALED, USERS, mount_at, name};
use crate::{
    sandbox::{
        error::{At, Step, StepError},
        output::{self, Left},
        plan::{HOST_NAME, Plan, Space, TMPDIR, WORKDIR},
    },
    sys::mount::{Restrictions, attach, copy_tree, restrict},
};

/// Mounts what is a session's own. The caller is process 1 of the session's namespaces.
pub fn session(plan: &Plan, output: Option<&Left>, uid: u32) -> Result<(), StepError> {
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    for (folder, space) in [(WORKDIR, plan.workdir), (TMPDIR, plan.tmp)] {
        let Space { size, inodes } = space;
        let options = format!("mode=0700,uid={uid},gid={uid},size={size},nr_inodes={inodes}");
        mount_at(
            Some("tmpfs"),
            Path::new(folder),
            Some("tmpfs"),
            flags,
            Some(&options),
        )
        .at(Step::Mounts, folder)?;
    }
    if let Some(output) = output {
        output.attach().at(Step::Mounts, output::FOLDER)?;
    }
    users(uid).at(Step::Mounts, USERS)?;
    mount_at(
        Some("proc"),
        Path::new("/proc"),
        Some("proc"),
        flags,
        Some("hidepid=invisible"),
    )
    .at(Step::Mounts, "/proc")?;
    if plan.memfd_noexec {
        fs::write("/proc/sys/vm/memfd_noexec", "2").at(Step::MemfdNoexec, "vm.memfd_noexec")?;
    }
    for mask in &plan.masks {
        cover(mask).at(Step::Mounts, name(mask))?;
    }
    Ok(())
}

/// Names the session's user: runtimes and tools look it up.
fn users(uid: u32) -> io::Result<()> {
    let file = Path::new(TMPDIR).join(".passwd");
    fs::write(
        &file,
        format!("{HOST_NAME}:x:{uid}:{uid}::{WORKDIR}:/bin/sh\n"),
    )?;
    fs::set_permissions(&file, fs::Permissions::from_mode(0o444))?;
    let tree = copy_tree(&file, false)?;
    let sealed = Restrictions {
        no_exec: true,
        ..SEALED
    };
    restrict(&tree, sealed)?;
    attach(&tree, Path::new(USERS))?;
    // The file lives on in the mount; its name in the worker's folder must not.
    fs::remove_file(&file)
}

fn cover(entry: &Path) -> io::Result<()> {
    let cover = if fs::metadata(entry)?.is_dir() {
        COVER_FOLDER
    } else {
        COVER_FILE
    };
    mount_at(Some(cover), entry, None, MsFlags::MS_BIND, None)?;
    Ok(())
}
