//! Which compiler builds the kernel object, and the command that does.
//!
//! `bpfel-unknown-none` has no prebuilt `core`: the source of the *same* compiler must be there.
//! rustup's toolchain is taken where it has `rust-src`, else Debian's `*-web` packages.

use std::{env, path::PathBuf, process::Command};

use anyhow::Context as _;

use crate::{architecture::Architecture, process, tree};

/// The major version of LLVM that the linker is built against; it reads bitcode up to that version.
const LLVM_MAJOR: u32 = 22;

/// Compiler flags of the kernel object, besides the processor that its host has.
const FLAGS: [&str; 2] = ["-Cdebuginfo=2", "-Clink-arg=--btf"];

/// What both `cargo build` and `cargo clippy` of the kernel object are told.
const SELECT: [&str; 7] = [
    "-p",
    "ebpf",
    "--release",
    "-Z",
    "build-std=core",
    "--target",
    "bpfel-unknown-none",
];

/// A compiler with the source of its `core`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Toolchain {
    /// The active toolchain of rustup.
    Rustup,
    /// Debian's packages under `/usr/bin`.
    Debian,
}

impl Toolchain {
    /// The one to use here. Debian's may not be installed yet.
    pub(crate) fn choose() -> anyhow::Result<Self> {
        let sysroot = process::output(rustc().args(["--print", "sysroot"]))?;
        let source = PathBuf::from(sysroot.trim()).join("lib/rustlib/src/rust/library/core");
        if source.is_dir() && llvm_major()? <= LLVM_MAJOR {
            return Ok(Self::Rustup);
        }
        Ok(Self::Debian)
    }

    /// For people.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Rustup => "rustup's toolchain with rust-src",
            Self::Debian => "Debian's rustc-web",
        }
    }

    /// `cargo VERB` for the kernel object, ready to run. The instructions are those of BPF everywhere;
    /// how loads are kept in order, and the layout of registers, are the host processor's.
    pub(crate) fn cargo(self, verb: &str, host: Architecture) -> anyhow::Result<Command> {
        let linker = tree::tools()?.join("bin");
        let mut command = match self {
            Self::Rustup => process::cargo(),
            Self::Debian => debian_cargo(verb),
        };
        let path = match self {
            Self::Rustup => env::var_os("PATH").unwrap_or_default(),
            Self::Debian => "/usr/bin:/bin".into(),
        };
        let path = env::join_paths(std::iter::once(linker).chain(env::split_paths(&path)))
            .context("PATH can not be extended")?;
        let host = format!("--cfg=bpf_target_arch=\"{}\"", host.name());
        let flags = [[host.as_str()].as_slice(), &FLAGS].concat();
        command
            .arg(verb)
            .args(SELECT)
            .env("PATH", path)
            .env("RUSTC_BOOTSTRAP", "1")
            .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\u{1f}"))
            .env_remove("RUSTFLAGS");
        Ok(command)
    }
}

/// Debian's cargo, without what rustup's proxy and `cargo run` put into the environment. Clippy is
/// called by its path: cargo itself would look for it in the user's folder of programs first.
fn debian_cargo(verb: &str) -> Command {
    let program = if verb == "clippy" {
        "/usr/bin/cargo-clippy"
    } else {
        "/usr/bin/cargo"
    };
    let mut command = Command::new(program);
    command
        .current_dir(tree::root())
        .env("CARGO", "/usr/bin/cargo")
        .env("RUSTC", "/usr/bin/rustc")
        .env_remove("LD_LIBRARY_PATH")
        .env_remove("RUSTC_WRAPPER")
        .env_remove("RUSTUP_TOOLCHAIN");
    command
}

fn rustc() -> Command {
    let mut command = Command::new(env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()));
    command.current_dir(tree::root());
    command
}

fn llvm_major() -> anyhow::Result<u32> {
    let version = process::output(rustc().arg("-vV"))?;
    version
        .lines()
        .find_map(|line| {
            line.strip_prefix("LLVM version: ")?
                .split('.')
                .next()?
                .parse()
                .ok()
        })
        .context("`rustc -vV` names no LLVM version")
}
