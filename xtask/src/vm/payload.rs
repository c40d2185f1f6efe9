//! The second disk of a machine: this tree, what was built in it, and the command to run.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::Context as _;

use super::image::{disk_of, remove};
use crate::{process, tree};

/// Room beside the files, for what tests write. Sparse.
const SPARE_MIB: u64 = 512;

/// Before every script: the factor by which tests scale their waits, and a sign of life a minute.
const PREAMBLE: &str = "export STOCKADE_SLOW=10\n\
    (while sleep 60; do read -r up _ </proc/uptime; echo \"stockade-vm: on for $up s\"; done) &\n";

/// What a machine gets to see of this tree, at the same absolute paths as here.
pub(crate) struct Payload {
    folder: PathBuf,
    bytes: u64,
}

impl Payload {
    /// The sources: tests read policies and data by their paths.
    pub(crate) fn new() -> anyhow::Result<Self> {
        let folder = super::folder()?.join("payload");
        remove(&folder)?;
        fs::create_dir_all(folder.join("tree"))?;
        let mut payload = Self { folder, bytes: 0 };
        let mut command = Command::new("git");
        command.args([
            "ls-files",
            "--cached",
            "--others",
            "--exclude-standard",
            "-z",
        ]);
        let list = process::output(command.current_dir(tree::root()))?;
        for name in list.split('\0').filter(|name| !name.is_empty()) {
            let file = tree::root().join(name);
            // A file that was deleted, but not yet from the index, is not there.
            if file.is_file() {
                payload.add(&file)?;
            }
        }
        Ok(payload)
    }

    /// Adds a file of the tree, such as a program that was built.
    pub(crate) fn add(&mut self, file: &Path) -> anyhow::Result<()> {
        let name = file.strip_prefix(tree::root()).with_context(|| {
            format!(
                "{} lies outside of the workspace\nhint: run it without CARGO_TARGET_DIR",
                file.display()
            )
        })?;
        let place = self.folder.join("tree").join(name);
        if let Some(parent) = place.parent() {
            fs::create_dir_all(parent)?;
        }
        self.bytes += fs::copy(file, &place)
            .with_context(|| format!("{} can not be copied", file.display()))?;
        Ok(())
    }

    /// The disk, with the script that the machine runs.
    pub(crate) fn disk(&self, script: &str) -> anyhow::Result<PathBuf> {
        let place = tree::root();
        let place = place.to_str().context("the workspace's path is no UTF-8")?;
        fs::write(self.folder.join("place"), place)?;
        fs::write(self.folder.join("command"), format!("{PREAMBLE}{script}"))?;
        let disk = self.folder.with_extension("ext4");
        // Blocks, inodes and tables take a tenth at most.
        let mebibytes = self.bytes / (1 << 20) * 11 / 10 + SPARE_MIB;
        disk_of(&self.folder, &disk, &format!("{mebibytes}M"))?;
        Ok(disk)
    }
}
