//! `package`: a Debian package and a plain tarball of what is installed. The same input gives the same
//! bytes: times are those of `SOURCE_DATE_EPOCH`, or of the last commit.

mod control;
mod files;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::Context as _;

use crate::{
    build, process,
    setup::{self, Scope},
    tree,
};

/// The name of package and binary.
const NAME: &str = "stockade";

/// How the binary is built.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Profile {
    /// Optimised, for installing.
    Release,
    /// Quick to build, for trying out a package.
    Dev,
}

/// What a package is made of, before it has a version.
pub(crate) struct Parts {
    binary: PathBuf,
    pages: PathBuf,
    epoch: u64,
    /// An option of `dpkg-deb`.
    compression: &'static str,
}

/// What was made.
pub(crate) struct Made {
    pub(crate) deb: PathBuf,
    pub(crate) tarball: PathBuf,
}

/// The verb.
pub(crate) fn run(dev: bool, version: Option<&str>) -> anyhow::Result<()> {
    let profile = if dev { Profile::Dev } else { Profile::Release };
    let parts = Parts::build(profile)?;
    let version = version.unwrap_or(env!("CARGO_PKG_VERSION"));
    let Made { deb, tarball } = parts.package(version)?;
    println!("{}\n{}", deb.display(), tarball.display());
    Ok(())
}

impl Parts {
    /// Builds the binary, its man pages and its completions.
    pub(crate) fn build(profile: Profile) -> anyhow::Result<Self> {
        setup::ensure(Scope::Build)?;
        build::kernel_object()?;
        // As the tests are built, so that after them there is nothing to build.
        let mut command = process::cargo();
        command.arg("build").args(build::WORKSPACE);
        process::run(command.args(["--bins", "--example", "pages"]))?;
        let folder = match profile {
            Profile::Release => {
                // The agent alone: test programs are not worth minutes of optimising.
                let mut command = process::cargo();
                command.args(["build", "--locked", "-p", "agent"]);
                process::run(command.args(["--bin", NAME, "--release"]))?;
                "release"
            }
            Profile::Dev => "debug",
        };
        let work = tree::target().join("package");
        let pages = work.join("pages");
        empty(&pages)?;
        let generator = tree::target().join("debug/examples/pages");
        process::run(Command::new(generator).arg(&pages))?;
        let binary = work.join(NAME);
        let mut strip = Command::new("strip");
        strip.args(["--strip-unneeded", "-o"]).arg(&binary);
        strip.arg(tree::target().join(folder).join(NAME));
        process::run(&mut strip)?;
        Ok(Self {
            binary,
            pages,
            epoch: epoch()?,
            compression: match profile {
                Profile::Release => "-Zxz",
                // An emulated machine takes longer to unpack than this one saves.
                Profile::Dev => "-Znone",
            },
        })
    }

    /// Makes package and tarball of this version.
    pub(crate) fn package(&self, version: &str) -> anyhow::Result<Made> {
        let root = self.lay_out(version)?;
        let tarball = format!("{NAME}-{version}-{}.tar.gz", architecture()?);
        let tarball = tree::target().join("package").join(tarball);
        self.tar(&root, &tarball, &format!("{NAME}-{version}"))?;
        let deb = self.deb_of(&root, version)?;
        Ok(Made { deb, tarball })
    }

    /// Makes the package alone.
    pub(crate) fn deb(&self, version: &str) -> anyhow::Result<PathBuf> {
        self.deb_of(&self.lay_out(version)?, version)
    }

    /// A folder with all that is installed.
    fn lay_out(&self, version: &str) -> anyhow::Result<PathBuf> {
        let root = tree::target()
            .join("package")
            .join(format!("{NAME}_{version}"));
        empty(&root)?;
        files::lay_out(self, &root, version)?;
        Ok(root)
    }

    fn deb_of(&self, root: &Path, version: &str) -> anyhow::Result<PathBuf> {
        let architecture = architecture()?;
        control::write_all(self, root, version, &architecture)?;
        let deb = format!("{NAME}_{version}_{architecture}.deb");
        let deb = tree::target().join("package").join(deb);
        let mut command = Command::new("dpkg-deb");
        command
            .args(["--root-owner-group", self.compression, "--build"])
            .args([root, &deb])
            // Each thread makes a block of its own, and a machine has as many as it has.
            .env("DPKG_DEB_THREADS_MAX", "1")
            .env("SOURCE_DATE_EPOCH", self.epoch.to_string());
        process::run(&mut command)?;
        Ok(deb)
    }

    fn tar(&self, root: &Path, tarball: &Path, top: &str) -> anyhow::Result<()> {
        let plain = tarball.with_extension("");
        let mut command = Command::new("tar");
        command
            .args(["--create", "--format=gnu", "--sort=name", "--numeric-owner"])
            .args(["--owner=0", "--group=0"])
            .arg(format!("--mtime=@{}", self.epoch))
            .arg(format!("--transform=s,^\\.,{top},"))
            .arg("--file")
            .arg(&plain)
            .arg("--directory")
            .arg(root)
            .arg(".");
        process::run(&mut command)?;
        gzip(&plain)
    }
}

/// As Debian names it.
fn architecture() -> anyhow::Result<String> {
    let said = process::output(Command::new("dpkg").arg("--print-architecture"))?;
    Ok(said.trim().to_owned())
}

/// Compresses a file in its place, without its name and time.
fn gzip(file: &Path) -> anyhow::Result<()> {
    process::run(Command::new("gzip").args(["-9nf"]).arg(file))
}

fn empty(folder: &Path) -> anyhow::Result<()> {
    if folder.exists() {
        fs::remove_dir_all(folder)
            .with_context(|| format!("{} can not be removed", folder.display()))?;
    }
    fs::create_dir_all(folder).with_context(|| format!("{} can not be made", folder.display()))
}

/// Seconds since 1970 that every file has for its time.
fn epoch() -> anyhow::Result<u64> {
    let said = std::env::var("SOURCE_DATE_EPOCH");
    let said = match said {
        Ok(said) => said,
        Err(_unset) => {
            let mut command = Command::new("git");
            command.args(["log", "-1", "--format=%ct"]);
            process::output(command.current_dir(tree::root()))?
        }
    };
    said.trim()
        .parse()
        .with_context(|| format!("SOURCE_DATE_EPOCH: `{}` is no number", said.trim()))
}
