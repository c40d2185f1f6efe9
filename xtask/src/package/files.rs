//! Which files are installed, and where.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use anyhow::Context as _;

use super::{NAME, Parts, gzip};
use crate::tree;

/// Files of the tree and their places. Those below `/etc` are the operator's to change.
const FILES: &[(&str, &str)] = &[
    (
        "xtask/package/systemd/stockade.service",
        "lib/systemd/system/stockade.service",
    ),
    (
        "xtask/package/systemd/stockade-workers.service",
        "lib/systemd/system/stockade-workers.service",
    ),
    (
        "xtask/package/systemd/stockade-workers.slice",
        "lib/systemd/system/stockade-workers.slice",
    ),
    (
        "xtask/package/systemd/stockade-resolver.socket",
        "lib/systemd/system/stockade-resolver.socket",
    ),
    (
        "xtask/package/systemd/stockade-broker.socket",
        "lib/systemd/system/stockade-broker.socket",
    ),
    (
        "xtask/package/stockade.sysusers",
        "usr/lib/sysusers.d/stockade.conf",
    ),
    (
        "xtask/package/stockade.tmpfiles",
        "usr/lib/tmpfiles.d/stockade.conf",
    ),
    ("xtask/package/stockade.toml", "etc/stockade/stockade.toml"),
    (
        "policies/default.toml",
        "etc/stockade/policies.d/default.toml",
    ),
    ("README.md", "usr/share/doc/stockade/README.md"),
    ("SECURITY.md", "usr/share/doc/stockade/SECURITY.md"),
    ("CHANGELOG.md", "usr/share/doc/stockade/NEWS.md"),
];

/// Folders of which every file goes to a folder.
const FOLDERS: &[(&str, &str)] = &[
    ("docs", "usr/share/doc/stockade"),
    ("docs/prometheus", "usr/share/doc/stockade/prometheus"),
    ("docs/examples", "usr/share/doc/stockade/examples/callers"),
];

/// The worked examples: whole, as policies name their schemas by paths below them.
const POLICIES: (&str, &str) = ("policies", "usr/share/doc/stockade/examples/policies");

/// Completions by the name that their generator gives them.
const COMPLETIONS: &[(&str, &str)] = &[
    (
        "stockade.bash",
        "usr/share/bash-completion/completions/stockade",
    ),
    (
        "stockade.fish",
        "usr/share/fish/vendor_completions.d/stockade.fish",
    ),
    ("_stockade", "usr/share/zsh/vendor-completions/_stockade"),
];

const READABLE: u32 = 0o644;
const EXECUTABLE: u32 = 0o755;

/// The files that keep an operator's changes over upgrades.
pub(super) fn configuration() -> impl Iterator<Item = &'static str> {
    let places = FILES.iter().map(|(_, place)| *place);
    places.filter(|place| place.starts_with("etc/"))
}

/// Fills an empty root.
pub(super) fn lay_out(parts: &Parts, root: &Path, version: &str) -> anyhow::Result<()> {
    let tree = tree::root();
    put(&parts.binary, &root.join("usr/bin").join(NAME), EXECUTABLE)?;
    for (from, to) in FILES {
        put(&tree.join(from), &root.join(to), READABLE)?;
    }
    for (from, to) in FOLDERS {
        for file in files(&tree.join(from))? {
            put(&file, &place(root, to, &file), READABLE)?;
        }
    }
    let (from, to) = POLICIES;
    put_tree(&tree.join(from), &root.join(to))?;
    for (from, to) in COMPLETIONS {
        let from = parts.pages.join("completions").join(from);
        put(&from, &root.join(to), READABLE)?;
    }
    for page in files(&parts.pages.join("man"))? {
        let page = {
            let to = place(root, "usr/share/man/man1", &page);
            put(&page, &to, READABLE)?;
            to
        };
        gzip(&page)?;
    }
    super::control::documents(parts, root, version)
}

/// Copies a file; folders on the way are made.
fn put(from: &Path, to: &Path, mode: u32) -> anyhow::Result<()> {
    let content = fs::read(from).with_context(|| format!("{} can not be read", from.display()))?;
    write(to, &content, mode)
}

/// Copies a folder with everything below it. Nothing gets to be executable: the examples name the
/// interpreter of a worker.
fn put_tree(from: &Path, to: &Path) -> anyhow::Result<()> {
    for entry in entries(from)? {
        let to = to.join(entry.file_name().unwrap_or_default());
        if entry.is_dir() {
            put_tree(&entry, &to)?;
        } else {
            put(&entry, &to, READABLE)?;
        }
    }
    Ok(())
}

/// Writes a file with its mode; folders on the way are made.
pub(super) fn write(to: &Path, content: &[u8], mode: u32) -> anyhow::Result<()> {
    let written = (|| {
        let folders = to.ancestors().skip(1);
        let missing: Vec<_> = folders.take_while(|folder| !folder.exists()).collect();
        for folder in missing.into_iter().rev() {
            fs::create_dir(folder)?;
            fs::set_permissions(folder, fs::Permissions::from_mode(EXECUTABLE))?;
        }
        fs::write(to, content)?;
        fs::set_permissions(to, fs::Permissions::from_mode(mode))
    })();
    written.with_context(|| format!("{} can not be written", to.display()))
}

/// The plain files of a folder, sorted by name.
fn files(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut files = entries(folder)?;
    files.retain(|path| path.is_file());
    Ok(files)
}

/// What lies in a folder, sorted by name.
fn entries(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let unread = || format!("{} can not be read", folder.display());
    let mut entries = Vec::new();
    for entry in fs::read_dir(folder).with_context(unread)? {
        entries.push(entry.with_context(unread)?.path());
    }
    entries.sort();
    Ok(entries)
}

fn place(root: &Path, folder: &str, file: &Path) -> PathBuf {
    root.join(folder).join(file.file_name().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use std::{env, fs, os::unix::fs::PermissionsExt as _, path::Path, process};

    use super::{POLICIES, READABLE, entries, put_tree};
    use crate::tree;

    /// Every file below a folder, by its path from there.
    fn below(root: &Path, folder: &Path, found: &mut Vec<String>) {
        for entry in entries(folder).unwrap() {
            if entry.is_dir() {
                below(root, &entry, found);
            } else {
                let name = entry.strip_prefix(root).unwrap();
                found.push(name.display().to_string());
            }
        }
    }

    #[test]
    fn the_examples_are_installed_with_all_that_they_name() {
        let from = tree::root().join(POLICIES.0);
        let to = env::temp_dir().join(format!("stockade-examples-{}", process::id()));
        put_tree(&from, &to).unwrap();
        let (mut here, mut there) = (Vec::new(), Vec::new());
        below(&from, &from, &mut here);
        below(&to, &to, &mut there);
        let worker = fs::metadata(to.join("workers/invoice.py")).unwrap();
        fs::remove_dir_all(&to).unwrap();
        assert_eq!(here, there);
        let schema = "schemas/invoice/create.json".to_owned();
        assert!(there.contains(&schema), "{there:?}");
        assert_eq!(worker.permissions().mode() & 0o777, READABLE);
    }
}
