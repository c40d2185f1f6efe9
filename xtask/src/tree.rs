//! Where things lie: the workspace, its target folder, the cache of tools.

use std::{
    env,
    path::{Path, PathBuf},
};

use anyhow::Context as _;

use crate::architecture::Architecture;

/// The workspace's root. `cargo run` says where the manifest is *now*; the path of the build is the
/// fallback for a binary started by hand.
pub(crate) fn root() -> PathBuf {
    let manifest = env::var_os("CARGO_MANIFEST_DIR")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
    manifest.parent().map(Path::to_path_buf).unwrap_or(manifest)
}

/// Cargo's target folder.
pub(crate) fn target() -> PathBuf {
    env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), |dir| root().join(dir))
}

/// The kernel object that `agent/build.rs` embeds: always under the root's `target`, so that a build
/// with another target folder (trybuild makes one) still finds it.
pub(crate) fn kernel_object(host: Architecture) -> PathBuf {
    root().join(format!("target/ebpf/{}.o", host.name()))
}

/// What outlives a `cargo clean` and is never in git.
pub(crate) fn cache() -> anyhow::Result<PathBuf> {
    let cache = match env::var_os("XDG_CACHE_HOME").filter(|dir| !dir.is_empty()) {
        Some(dir) => PathBuf::from(dir),
        None => PathBuf::from(env::var_os("HOME").context("HOME is not set")?).join(".cache"),
    };
    Ok(cache.join("stockade"))
}

/// The folder into which `cargo install` puts the tools that no package has.
pub(crate) fn tools() -> anyhow::Result<PathBuf> {
    Ok(cache()?.join("tools"))
}

/// The folder for servers from registries, which are workers of the tests.
pub(crate) fn servers() -> anyhow::Result<PathBuf> {
    Ok(cache()?.join("servers"))
}

/// A program in `PATH` or where an administrator's programs are.
pub(crate) fn program(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin"].map(PathBuf::from))
        .map(|folder| folder.join(name))
        .find(|file| file.is_file())
}
