//! Installs what is missing, and says what. Quick when nothing is.

use std::{fs, path::Path, process::Command};

use anyhow::bail;

use crate::{
    needs::{For, LLVM, NEEDS, Need},
    privileges, process,
    servers::SERVERS,
    toolchain::Toolchain,
    tree,
};

/// A program that no package has: built by cargo into the cache.
pub(crate) struct Tool {
    pub(crate) name: &'static str,
    pub(crate) version: &'static str,
    pub(crate) why: &'static str,
    options: &'static [&'static str],
}

/// Links the kernel object.
pub(crate) const BPF_LINKER: Tool = Tool {
    name: "bpf-linker",
    version: "0.13.0",
    why: "links the kernel object",
    options: &["--no-default-features", "--features", "llvm-22"],
};

/// Checks the dependencies.
pub(crate) const CARGO_DENY: Tool = Tool {
    name: "cargo-deny",
    version: "0.20.2",
    why: "checks licences and sources of the dependencies",
    // Optimised it takes more than twice as long to build, to save seconds of a run.
    options: &["--debug"],
};

/// What a verb is going to do, and so what it needs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Scope {
    /// Build.
    Build,
    /// Build, and run in the lab.
    Lab,
    /// Build, and measure in the lab beside peers.
    Bench,
    /// Build, and run in emulated machines.
    Machine,
    /// Build for another processor.
    Cross,
    /// Everything but other processors and the bench's peers.
    All,
}

/// The verb: everything but other processors and the bench's peers, which come when they are asked for.
pub(crate) fn run() -> anyhow::Result<()> {
    ensure(Scope::All)?;
    eprintln!(
        "setup: everything is there (kernel object by {})",
        Toolchain::choose()?.name()
    );
    Ok(())
}

/// Installs what the scope needs and this machine lacks.
pub(crate) fn ensure(scope: Scope) -> anyhow::Result<()> {
    let toolchain = Toolchain::choose()?;
    let missing = missing(scope, toolchain);
    if !missing.is_empty() {
        packages(&missing)?;
    }
    for tool in tools(scope) {
        if !tool.is_installed()? {
            tool.install()?;
        }
    }
    if matches!(scope, Scope::Lab | Scope::All) {
        for servers in SERVERS {
            if !servers.is_installed()? {
                servers.install()?;
            }
        }
    }
    Ok(())
}

/// The packages of the scope that are not there.
pub(crate) fn missing(scope: Scope, toolchain: Toolchain) -> Vec<&'static Need> {
    let wanted = |need: &&Need| match need.of {
        For::AnyKernelObject => true,
        For::DebianKernelObject => toolchain == Toolchain::Debian,
        For::Lab => matches!(scope, Scope::Lab | Scope::Bench | Scope::All),
        For::Bench => scope == Scope::Bench,
        For::Machine => matches!(scope, Scope::Machine | Scope::All),
        For::Cross => scope == Scope::Cross,
    };
    NEEDS
        .iter()
        .filter(wanted)
        .filter(|need| !need.is_met())
        .collect()
}

/// The tools of the scope.
pub(crate) const fn tools(scope: Scope) -> &'static [Tool] {
    match scope {
        Scope::Build | Scope::Lab | Scope::Bench | Scope::Machine | Scope::Cross => &[BPF_LINKER],
        Scope::All => &[BPF_LINKER, CARGO_DENY],
    }
}

impl Tool {
    /// Whether cargo's own record of the cache names this version.
    pub(crate) fn is_installed(&self) -> anyhow::Result<bool> {
        let folder = tree::tools()?;
        let record = fs::read_to_string(folder.join(".crates.toml")).unwrap_or_default();
        let recorded = record.contains(&format!("\"{} {} (", self.name, self.version));
        Ok(recorded && folder.join("bin").join(self.name).is_file())
    }

    fn install(&self) -> anyhow::Result<()> {
        let folder = tree::tools()?;
        eprintln!(
            "setup: builds {} {} ({}) into {}",
            self.name,
            self.version,
            self.why,
            folder.display()
        );
        fs::create_dir_all(&folder)?;
        let mut command = process::cargo();
        // Outside of the workspace: its configuration and its target folder are not the tool's.
        command
            .current_dir(&folder)
            .args([
                "install",
                self.name,
                "--version",
                self.version,
                "--locked",
                "--root",
            ])
            .arg(&folder)
            .args(self.options)
            .env("LLVM_PREFIX", LLVM)
            .env("CARGO_PROFILE_DEV_DEBUG", "0")
            .env_remove("CARGO_TARGET_DIR")
            .env_remove("LD_LIBRARY_PATH");
        process::run(&mut command)
    }
}

fn packages(missing: &[&Need]) -> anyhow::Result<()> {
    let names: Vec<_> = missing.iter().map(|need| need.package).collect();
    let by_hand = format!(
        "apt-get install --no-install-recommends {}",
        names.join(" ")
    );
    if tree::program("apt-get").is_none() {
        bail!(
            "this machine lacks {}, and has no apt-get\nhint: install what these packages of \
             Debian 12 hold",
            names.join(", ")
        );
    }
    if !privileges::is_root() {
        bail!("packages are missing, and only root installs them\nhint: as root: {by_hand}");
    }
    eprintln!("setup: installs these packages");
    for need in missing {
        eprintln!("  {:<18}{}", need.package, need.why);
    }
    // A mirror in the middle of an update answers the second time.
    if install(&names).is_err() {
        eprintln!("setup: apt failed, tries once more");
        install(&names)?;
    }
    if let Some(need) = missing.iter().find(|need| !need.is_met()) {
        bail!(
            "package `{}` is installed, but what it brings is not found",
            need.package
        );
    }
    // Only `promtool` is wanted, and an `unbound` for the bench; nobody asked for servers.
    for service in ["prometheus", "unbound"] {
        if names.contains(&service) && Path::new("/run/systemd/system").is_dir() {
            process::run(Command::new("systemctl").args(["disable", "--now", service]))?;
        }
    }
    Ok(())
}

fn install(names: &[&str]) -> anyhow::Result<()> {
    process::run(apt().arg("update"))?;
    process::run(
        apt()
            .args(["install", "--yes", "--no-install-recommends"])
            .args(names),
    )
}

fn apt() -> Command {
    let mut command = Command::new("apt-get");
    // In run level 1 `invoke-rc.d` starts no service.
    command
        .arg("-q")
        .env("DEBIAN_FRONTEND", "noninteractive")
        .env("RUNLEVEL", "1");
    command
}
