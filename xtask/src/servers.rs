//! Servers, clients and suites from `PyPI`, npm and crates.io that are workers, callers and peers of the
//! tests: every file pinned by its hash, installed into the cache. No code of theirs runs while they are
//! installed; of crates, what their builds run.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

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
    /// The files, from that folder, that say what is installed, or are built.
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
        registry: "node",
        why: "a newer Node than the distribution's, for the conformance suite",
        folder: "node",
        pins: PIP_PINS,
        program: "/usr/bin/python3",
        install: pip,
    },
    Servers {
        registry: "conformance",
        why: "the conformance suite of MCP, a caller of the tests",
        folder: "conformance",
        pins: NPM_PINS,
        program: "npm",
        install: npm,
    },
    Servers {
        registry: "rust",
        why: "clients in Rust, for the tests",
        folder: "rust",
        pins: &[
            "Cargo.toml",
            "Cargo.lock",
            "client.rs",
            "../../../docs/examples/call.rs",
            "../../../docs/examples/dpop.rs",
        ],
        program: "/bin/sh",
        install: cargo,
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

/// Cargo knows nothing of the workspace there. What it built besides is not kept.
const CARGO: &str = "\"$0\" install --quiet --locked --debug --path . --root . --target-dir target \
    && rm -r target";

fn cargo(command: &mut Command) {
    let cargo = process::cargo().get_program().to_owned();
    command.args(["-ec", CARGO]).arg(cargo);
    // Those of this program's own build, and what a caller says of where to build.
    for variable in ["CARGO_MANIFEST_DIR", "LD_LIBRARY_PATH", "RUSTFLAGS"] {
        command.env_remove(variable);
    }
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
            let name = Path::new(pin).file_name().context("a pin has no name")?;
            fs::copy(self.pins_folder().join(pin), folder.join(name))
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
