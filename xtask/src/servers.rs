//! Servers from `PyPI` and npm that are workers, clients and peers of the tests: every file pinned by
//! its hash, installed into the cache. No code of theirs runs while they are installed.

use std::{fs, path::PathBuf, process::Command};

use anyhow::Context as _;

use crate::{process, tree};

/// The servers of a registry.
pub(crate) struct Servers {
    /// The registry, and the folder's name.
    pub(crate) registry: &'static str,
    /// What they are.
    pub(crate) why: &'static str,
    /// Folder of the pins, in `tests/data`.
    folder: &'static str,
    /// The files that say what is installed. The last pins it.
    pins: &'static [&'static str],
    install: fn(&mut Command),
    program: &'static str,
}

/// All of them.
pub(crate) const SERVERS: &[Servers] = &[
    Servers {
        registry: "pypi",
        why: "servers and clients in Python, for the tests",
        folder: "servers",
        pins: PIP_PINS,
        program: "/usr/bin/python3",
        install: pip,
    },
    Servers {
        registry: "npm",
        why: "servers and clients for Node, for the tests",
        folder: "servers",
        pins: NPM_PINS,
        program: "npm",
        install: npm,
    },
    Servers {
        registry: "issuer",
        why: "an OpenID provider for Node, an issuer of the tests",
        folder: "issuer",
        pins: NPM_PINS,
        program: "npm",
        install: npm,
    },
    Servers {
        registry: "contract",
        why: "a checker of OpenAPI documents in Python, a caller of the tests",
        folder: "contract",
        pins: PIP_PINS,
        program: "/usr/bin/python3",
        install: pip,
    },
    Servers {
        registry: "schemas",
        why: "the JSON Schema Test Suite, an oracle of the tests",
        folder: "schemas",
        pins: PIP_PINS,
        program: "/bin/sh",
        install: unpack,
    },
];

const PIP_PINS: &[&str] = &["requirements.txt"];
const NPM_PINS: &[&str] = &["package.json", "package-lock.json"];

fn pip(command: &mut Command) {
    command
        .args(["-m", "pip", "install", "--quiet"])
        .arg("--disable-pip-version-check")
        .args(["--no-deps", "--require-hashes", "--only-binary", ":all:"])
        .args(["--no-compile", "--root-user-action", "ignore"])
        .args(["--target", ".", "--requirement", "requirements.txt"]);
}

/// Only the tests out of the archive. (To say what an archive is, pip runs its build backend.)
const UNPACK: &str = "/usr/bin/python3 -m pip download --quiet --disable-pip-version-check \
    --no-deps --require-hashes --no-binary jsonschema --requirement requirements.txt && \
    tar xzf jsonschema-*.tar.gz --strip-components=2 --wildcards '*/json/tests'";

fn unpack(command: &mut Command) {
    command.args(["-ec", UNPACK]);
}

fn npm(command: &mut Command) {
    command.args(["ci", "--ignore-scripts", "--no-audit", "--no-fund"]);
}

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
            fs::copy(self.pins_folder().join(pin), folder.join(pin))
                .with_context(|| (*pin).to_owned())?;
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
            .map(|pin| {
                fs::read_to_string(self.pins_folder().join(pin)).with_context(|| (*pin).to_owned())
            })
            .collect()
    }

    fn pins_folder(&self) -> PathBuf {
        tree::root().join("tests/data").join(self.folder)
    }
}
