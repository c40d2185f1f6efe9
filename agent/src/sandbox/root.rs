//! The root of a policy's workers, built from nothing on a tmpfs, once per policy, in a mount
//! namespace of its own that ends up holding nothing else: the listed paths read-only, `/dev`, `/etc`.
//! `/run`, `/sys` and the host's sockets and homes are not there. A session adds its own (`session`).

mod session;

use std::{
    fs, io,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
};

use nix::{
    mount::{MntFlags, MsFlags, mount, umount2},
    sched::{CloneFlags, unshare},
    unistd::{chdir, pivot_root},
};

use super::{
    error::{At, Step, StepError},
    path::reopen,
    plan::{Access, Link, Plan, TMPDIR, WORKDIR},
    sockets,
};
pub use session::{Ready, session};

use crate::sys::mount::{Restrictions, attach, copy_tree, copy_tree_of, restrict};

/// Devices of the worker.
const DEVICES: &[&str] = &["null", "zero", "full", "random", "urandom"];
const DEVICE_LINKS: &[(&str, &str)] = &[
    ("/dev/fd", "/proc/self/fd"),
    ("/dev/stdin", "/proc/self/fd/0"),
    ("/dev/stdout", "/proc/self/fd/1"),
    ("/dev/stderr", "/proc/self/fd/2"),
    ("/dev/shm", TMPDIR),
];
/// Files that are the same for every worker.
const GENERATED: &[(&str, &str)] = &[
    ("/etc/group", "root:x:0:\nnogroup:x:65534:\n"),
    (
        "/etc/hosts",
        "127.0.0.1 localhost\n::1 localhost\n127.0.1.1 worker\n",
    ),
    (
        "/etc/nsswitch.conf",
        "passwd: files\ngroup: files\nhosts: files dns\nnetworks: files\nservices: files\nprotocols: files\n",
    ),
    // Any address would do: port 53 of all of them is the agent's resolver. One that every client
    // takes, no search list (names are asked as they are written), and no longer a wait for a
    // resolver on this host than a stopped one deserves.
    (
        "/etc/resolv.conf",
        "nameserver 127.0.0.1\noptions edns0 timeout:2 attempts:2\n",
    ),
];
/// The user database; names the session's user.
const USERS: &str = "/etc/passwd";
/// Folders of a session.
const SESSION_FOLDERS: &[&str] = &["/proc", WORKDIR, TMPDIR];
/// An empty, unreadable folder and the device that cover entries of `/proc`.
const COVER_FOLDER: &str = "/dev/.covered";
const COVER_FILE: &str = "/dev/null";
/// Enough for the folders, links and small files of a root.
const ROOT_OPTIONS: &str = "mode=0755,size=4m,nr_inodes=16384";

const SEALED: Restrictions = Restrictions {
    read_only: true,
    no_devices: true,
    no_exec: false,
};

/// Builds the root and makes it this process's. Afterwards nothing of the host is reachable but the
/// listed paths.
pub fn enter(plan: &Plan) -> Result<(), StepError> {
    unshare(CloneFlags::CLONE_NEWNS).at(Step::MountNamespace, "unshare")?;
    mount_at(
        None,
        Path::new("/"),
        None,
        MsFlags::MS_REC | MsFlags::MS_PRIVATE,
        None,
    )
    .at(Step::MountNamespace, "`/`: private propagation")?;
    // Copied before the scaffold is mounted, so that it hides none of them.
    let trees = plan
        .binds
        .iter()
        .map(|bind| {
            let tree = reopen(&bind.path, bind.place).and_then(|held| copy_tree_of(held, true));
            Ok((bind, tree.at(Step::Root, name(&bind.path))?))
        })
        .collect::<Result<Vec<_>, StepError>>()?;
    let sockets = sockets::mounts(&plan.sockets)?;
    let root = plan.scaffold.as_path();
    fs::create_dir_all(root).at(Step::Root, name(root))?;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    mount_at(
        Some("tmpfs"),
        root,
        Some("tmpfs"),
        flags,
        Some(ROOT_OPTIONS),
    )
    .at(Step::Root, name(root))?;
    for (bind, tree) in trees {
        restrict(&tree, restrictions(bind.access)).at(Step::Root, name(&bind.path))?;
        let target = inside(root, &bind.path);
        make_mount_point(&target, bind.folder).at(Step::Root, name(&bind.path))?;
        attach(&tree, &target).at(Step::Root, name(&bind.path))?;
    }
    for (path, mount) in sockets {
        let target = inside(root, path);
        make_mount_point(&target, false).at(Step::Root, name(path))?;
        attach(&mount, &target).at(Step::Root, name(path))?;
    }
    devices(root)?;
    generated(root)?;
    for folder in SESSION_FOLDERS {
        make_mount_point(&inside(root, Path::new(folder)), true).at(Step::Root, *folder)?;
    }
    for link in &plan.links {
        make_link(root, link).at(Step::Root, name(&link.at))?;
    }
    pivot(root).at(Step::Root, "pivot_root")?;
    let tree_flags = MsFlags::MS_REMOUNT | MsFlags::MS_BIND | MsFlags::MS_RDONLY | flags;
    mount_at(None, Path::new("/"), None, tree_flags, None).at(Step::Root, "`/`: read-only")
}

fn restrictions(access: Access) -> Restrictions {
    match access {
        Access::Read | Access::Execute => SEALED,
        Access::Write => Restrictions {
            read_only: false,
            no_devices: true,
            no_exec: true,
        },
    }
}

fn devices(root: &Path) -> Result<(), StepError> {
    for device in DEVICES {
        let source = Path::new("/dev").join(device);
        let target = inside(root, &source);
        let bind = || -> io::Result<()> {
            let tree = copy_tree(&source, false)?;
            let usable = Restrictions {
                read_only: false,
                no_devices: false,
                no_exec: true,
            };
            restrict(&tree, usable)?;
            make_mount_point(&target, false)?;
            attach(&tree, &target)
        };
        bind().at(Step::Root, name(&source))?;
    }
    for (at, to) in DEVICE_LINKS {
        symlink(to, inside(root, Path::new(at))).at(Step::Root, *at)?;
    }
    let cover = inside(root, Path::new(COVER_FOLDER));
    fs::create_dir(&cover).at(Step::Root, COVER_FOLDER)?;
    fs::set_permissions(&cover, fs::Permissions::from_mode(0o000)).at(Step::Root, COVER_FOLDER)
}

fn generated(root: &Path) -> Result<(), StepError> {
    let users = [(USERS, "root:x:0:0::/:/nonexistent\n")];
    for (path, content) in GENERATED.iter().chain(&users) {
        let target = inside(root, Path::new(path));
        let write = || match fs::symlink_metadata(&target) {
            // The policy lists `/etc` and the host's file is a link: it stays, and mostly dangles.
            Ok(found) if found.is_symlink() => Ok(()),
            Ok(_) => overlay(root, &target, content),
            Err(_) => {
                make_mount_point(&target, false)?;
                fs::write(&target, content)
            }
        };
        write().at(Step::Root, *path)?;
    }
    Ok(())
}

/// The policy lists `/etc` or this very file: the generated one lies over the host's.
fn overlay(root: &Path, target: &Path, content: &str) -> io::Result<()> {
    let folder = inside(root, Path::new("/dev/.etc"));
    fs::create_dir_all(&folder)?;
    let file = folder.join(target.file_name().unwrap_or_default());
    fs::write(&file, content)?;
    let tree = copy_tree(&file, false)?;
    restrict(&tree, SEALED)?;
    attach(&tree, target)
}

fn make_link(root: &Path, link: &Link) -> io::Result<()> {
    let at = inside(root, &link.at);
    if fs::symlink_metadata(&at).is_ok() {
        return Ok(());
    }
    let parent = link.at.parent().unwrap_or(Path::new("/"));
    if link.optional && !inside(root, &parent.join(&link.to)).exists() {
        return Ok(());
    }
    if let Some(parent) = at.parent() {
        fs::create_dir_all(parent)?;
    }
    symlink(&link.to, at)
}

fn make_mount_point(path: &Path, folder: bool) -> io::Result<()> {
    if fs::symlink_metadata(path).is_ok() {
        return Ok(());
    }
    if folder {
        return fs::create_dir_all(path);
    }
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    fs::File::create_new(path).map(drop)
}

fn pivot(root: &Path) -> nix::Result<()> {
    chdir(root)?;
    // The old root is stacked over the new one and taken off again: no folder needed for it.
    pivot_root(".", ".")?;
    umount2(".", MntFlags::MNT_DETACH)?;
    chdir("/")
}

fn mount_at(
    source: Option<&str>,
    target: &Path,
    kind: Option<&str>,
    flags: MsFlags,
    options: Option<&str>,
) -> nix::Result<()> {
    mount(source, target, kind, flags, options)
}

fn inside(root: &Path, path: &Path) -> PathBuf {
    root.join(path.strip_prefix("/").unwrap_or(path))
}

fn name(path: &Path) -> String {
    path.display().to_string()
}
