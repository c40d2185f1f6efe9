//! Servers from `PyPI` and npm that are workers of the tests, and clients that call the broker in them:
//! every file pinned by its hash, installed into the cache. No code of theirs runs while they are
//! installed.

use std::{fs, path::PathBuf, process::Command};

use anyhow::Context as _;

use crate::{process, tree};

/// The servers of a registry.
pub(crate) struct Servers {
    /// The registry, and the folder's name.
    pub(crate) registry: &'static str,
    /// What they are.
    pub(crate) why: &'static str,
    /// The files that say what is installed, in `tests/data/servers`. The last pins it.
    pins: &'static [&'static str],
    install: fn(&mut Command),
    program: &'static str,
}

/// All of them.
pub(crate) const SERVERS: &[Servers] = &[
    Servers {
        registry: "pypi",
        why: "servers and clients in Python, for the tests",
        pins: &["requirements.txt"],
        program: "/usr/bin/python3",
        install: |command| {
            command
                .args([
                    "-m",
                    "pip",
                    "install",
                    "--quiet",
                    "--disable-pip-version-check",
                ])
                .args(["--no-deps", "--require-hashes", "--only-binary", ":all:"])
                .args(["--no-compile", "--root-user-action", "ignore"])
                .args(["--target", ".", "--requirement", "requirements.txt"]);
        },
    },
    Servers {
        registry: "npm",
        why: "servers and clients for Node, for the tests",
        pins: &["package.json", "package-lock.json"],
        program: "npm",
        install: |command| {
            command.args(["ci", "--ignore-scripts", "--no-audit", "--no-fund"]);
        },
    },
];

impl Servers {
    /// Whether what is there was installed whole, by these pins.
    pub(crate) fn is_installed(&self) -> anyhow::Result<bool> {
        let record = fs::read_to_string(self.record()?).unwrap_or_default();
        Ok(!record.is_empty() && record == self.wanted()?)
    }

    /// Installs them anew.
    pub(crate) fn install(&self) -> anyhow::Result<()> {
        let folder = tree::servers()?.join(self.registry);
        eprintln!("setup: installs {} into {}", self.why, folder.display());
        if folder.exists() {
            fs::remove_dir_all(&folder)?;
        }
        fs::create_dir_all(&folder)?;
        for pin in self.pins {
            fs::copy(pins().join(pin), folder.join(pin)).with_context(|| (*pin).to_owned())?;
        }
        let mut command = Command::new(self.program);
        command.current_dir(&folder);
        (self.install)(&mut command);
        process::run(&mut command)?;
        // Last: without it the installation was broken off.
        fs::write(self.record()?, self.wanted()?)?;
        Ok(())
    }

    fn record(&self) -> anyhow::Result<PathBuf> {
        Ok(tree::servers()?.join(format!("{}.installed", self.registry)))
    }

    fn wanted(&self) -> anyhow::Result<String> {
        self.pins
            .iter()
            .map(|pin| fs::read_to_string(pins().join(pin)).with_context(|| (*pin).to_owned()))
            .collect()
    }
}

fn pins() -> PathBuf {
    tree::root().join("tests/data/servers")
}
