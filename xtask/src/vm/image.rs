//! The root and the kernels of the machines: made once, kept in the cache, made again when the
//! recipe has changed. Knows Debian; not what is run in the machine.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, bail};

use super::Kernel;
use crate::{
    needs::{For, NEEDS},
    process, tree,
};

const SUITE: &str = "bookworm";
const MIRROR: &str = "http://deb.debian.org/debian";
const SECURITY_MIRROR: &str = "http://deb.debian.org/debian-security";

/// What makes a system that boots and that can be looked at. The lab's own needs come on top.
const BASE: &[&str] = &[
    "bpftool",
    "ca-certificates",
    "dbus",
    "initramfs-tools",
    "kmod",
    "systemd-sysv",
    "udev",
    "zstd",
];

/// The files that go into the root, by name.
const GUEST: [(&str, &str); 3] = [
    ("prepare.sh", include_str!("guest/prepare.sh")),
    ("stockade-vm", include_str!("guest/stockade-vm")),
    (
        "stockade-vm.service",
        include_str!("guest/stockade-vm.service"),
    ),
];

/// A sparse file: only what is written takes room.
const ROOT_SIZE: &str = "4G";

/// A finished image.
pub(crate) struct Image {
    folder: PathBuf,
}

impl Image {
    /// The image of the recipe of today, made if it is not there.
    pub(crate) fn ensure() -> anyhow::Result<Self> {
        let cache = tree::cache()?;
        fs::create_dir_all(&cache)?;
        let lock = File::create(cache.join("vm.lock"))?;
        lock.lock()
            .context("the lock of the cache can not be taken")?;
        let image = Self {
            folder: cache.join("vm"),
        };
        let recipe = recipe();
        if fs::read_to_string(image.folder.join("recipe")).is_ok_and(|made| made == recipe) {
            return Ok(image);
        }
        image.make(&recipe)?;
        Ok(image)
    }

    /// The disk of the root. Machines must not write to it.
    pub(crate) fn root(&self) -> PathBuf {
        self.folder.join("root.ext4")
    }

    /// The kernel's file.
    pub(crate) fn kernel(&self, kernel: Kernel) -> PathBuf {
        self.folder.join(format!("vmlinuz-{}", kernel.name()))
    }

    /// The first root, in memory, that finds the disk.
    pub(crate) fn initrd(&self, kernel: Kernel) -> PathBuf {
        self.folder.join(format!("initrd-{}", kernel.name()))
    }

    fn make(&self, recipe: &str) -> anyhow::Result<()> {
        remove(&self.folder)?;
        fs::create_dir_all(&self.folder)?;
        let log = self.folder.join("log");
        eprintln!(
            "vm: makes a Debian 12 with the kernels to test on (minutes; {})",
            log.display()
        );
        let root = self.folder.join("root");
        self.fill(&root, &log).with_context(|| {
            format!("the machine's root can not be made, see {}", log.display())
        })?;
        for kernel in Kernel::ALL {
            let release = release(&root, kernel)?;
            let boot = root.join("boot");
            fs::copy(boot.join(format!("vmlinuz-{release}")), self.kernel(kernel))?;
            fs::copy(
                boot.join(format!("initrd.img-{release}")),
                self.initrd(kernel),
            )?;
        }
        // Nothing outlives the machine: a journal would only cost time.
        let disk = self.root();
        disk_of(&root, &disk, ROOT_SIZE)?;
        remove(&root)?;
        // Written last: an image without it is made again.
        fs::write(self.folder.join("recipe"), recipe)?;
        Ok(())
    }

    fn fill(&self, root: &Path, log: &Path) -> anyhow::Result<()> {
        let guest = self.folder.join("guest");
        fs::create_dir_all(&guest)?;
        for (name, text) in GUEST {
            fs::write(guest.join(name), text)?;
        }
        let log = File::create(log)?;
        let mut command = Command::new("unshare");
        command
            .args(["--mount", "--propagation", "private", "sh"])
            .arg(guest.join("prepare.sh"))
            .arg(root)
            .arg(BASE.join(","))
            .args(packages())
            .env("SUITE", SUITE)
            .env("MIRROR", MIRROR)
            .env("SECURITY_MIRROR", SECURITY_MIRROR)
            .env("GUEST", &guest)
            .stdout(log.try_clone()?)
            .stderr(log);
        process::run(&mut command)
    }
}

/// A file with an ext4 of what is in the folder.
pub(crate) fn disk_of(folder: &Path, disk: &Path, size: &str) -> anyhow::Result<()> {
    remove(disk)?;
    let mut command = Command::new("mkfs.ext4");
    command
        .args(["-q", "-F", "-m", "0", "-O", "^has_journal", "-d"])
        .args([folder, disk])
        .arg(size);
    process::run(&mut command)
}

/// Removes a file or a folder with all that is in it, if it is there.
pub(crate) fn remove(path: &Path) -> anyhow::Result<()> {
    let removed = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => Err(error),
        Ok(found) if found.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
    };
    removed.with_context(|| format!("{} can not be removed", path.display()))
}

/// The kernels, and what tests and workers call.
fn packages() -> Vec<&'static str> {
    let kernels = Kernel::ALL.into_iter().map(Kernel::package);
    let lab = NEEDS
        .iter()
        .filter(|need| need.of == For::Lab)
        .map(|need| need.package);
    kernels.chain(lab).collect()
}

/// All that an image depends on.
fn recipe() -> String {
    let mut recipe = format!("{SUITE} {MIRROR} {SECURITY_MIRROR} {ROOT_SIZE}\n");
    recipe.push_str(&BASE.join(" "));
    recipe.push('\n');
    recipe.push_str(&packages().join(" "));
    for (name, text) in GUEST {
        recipe.push_str("\n--- ");
        recipe.push_str(name);
        recipe.push('\n');
        recipe.push_str(text);
    }
    recipe
}

/// What `uname -r` says in the machine: the name under which the kernel's files lie in the root.
fn release(root: &Path, kernel: Kernel) -> anyhow::Result<String> {
    let start = format!("vmlinuz-{}.", kernel.name());
    for entry in fs::read_dir(root.join("boot"))? {
        let name = entry?.file_name();
        let name = name.to_string_lossy();
        if name.starts_with(&start) {
            return Ok(name.trim_start_matches("vmlinuz-").to_owned());
        }
    }
    bail!(
        "package `{}` brought no kernel {}",
        kernel.package(),
        kernel.name()
    )
}
