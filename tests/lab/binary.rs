//! Where the built binaries are, and a folder of a lab's own.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};

/// A binary of this build: beside the running one, or one folder up from a test.
pub fn built(name: &str) -> Result<PathBuf> {
    let own = std::env::current_exe()?;
    own.ancestors()
        .skip(1)
        .take(2)
        .map(|folder| folder.join(name))
        .find(|path| path.is_file())
        .with_context(|| {
            format!(
                "`{name}` is not beside {}; hint: cargo build --workspace --exclude ebpf",
                own.display()
            )
        })
}

/// The product's binary.
pub fn stockade() -> Result<PathBuf> {
    built("stockade")
}

/// Where `cargo xtask setup` has put the servers of a registry, `pypi` or `npm`.
pub fn servers(registry: &str) -> Result<PathBuf> {
    let cache = match std::env::var_os("XDG_CACHE_HOME").filter(|folder| !folder.is_empty()) {
        Some(folder) => PathBuf::from(folder),
        None => PathBuf::from(std::env::var_os("HOME").context("HOME is not set")?).join(".cache"),
    };
    let folder = cache.join("stockade/servers").join(registry);
    ensure!(
        folder.is_dir(),
        "{} is not there; hint: cargo xtask setup",
        folder.display()
    );
    Ok(folder)
}

/// A folder that any uid may enter, removed at the end.
#[derive(Debug)]
pub struct Scratch(tempfile::TempDir);

impl Scratch {
    /// Makes the folder.
    pub fn new() -> Result<Self> {
        let folder = tempfile::Builder::new()
            .prefix("stockade-test-")
            .tempdir_in("/var/tmp")?;
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755))?;
        Ok(Self(folder))
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// Writes a file that all may read.
    pub fn write(&self, name: &str, text: &str) -> Result<PathBuf> {
        let path = self.path().join(name);
        fs::write(&path, text).with_context(|| path.display().to_string())?;
        Ok(path)
    }

    /// Puts a copy of a built binary here, for workers that may not see the build folder.
    pub fn install(&self, name: &str) -> Result<PathBuf> {
        let path = self.path().join(name);
        fs::copy(built(name)?, &path)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
        Ok(path)
    }
}

/// Runs a command to its end and gives what it printed; a failure is an error.
pub fn output(command: &mut Command) -> Result<String> {
    let output = command
        .output()
        .with_context(|| format!("{} can not be started", command.get_program().display()))?;
    ensure!(
        output.status.success(),
        "{:?}: {}\n{}",
        command,
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
