//! What Debian wants to know of a package: control file, scripts, copyright, changelog.

use std::{env, fs, path::Path, process::Command};

use anyhow::{Context as _, bail};

use super::{
    NAME, Parts,
    files::{configuration, write},
    gzip,
};
use crate::{process, tree};

/// Who publishes the package says who it is (`debchange(1)`); what is built without is for this host.
const NAME_VARIABLE: &str = "DEBFULLNAME";
const ADDRESS_VARIABLE: &str = "DEBEMAIL";
const MAINTAINER: [&str; 2] = ["The Stockade contributors", "stockade@localhost"];
const SCRIPTS: [&str; 3] = ["postinst", "prerm", "postrm"];
/// Debian 12's.
const GLIBC_DEFAULT: u32 = 36;
const READABLE: u32 = 0o644;
const EXECUTABLE: u32 = 0o755;

/// Writes `DEBIAN` beside the files that are there already.
pub(super) fn write_all(
    parts: &Parts,
    root: &Path,
    version: &str,
    architecture: &str,
) -> anyhow::Result<()> {
    let size = kibibytes(root)?;
    let sums = sums(root)?;
    let folder = root.join("DEBIAN");
    let glibc = glibc(&fs::read(&parts.binary)?);
    let maintainer = maintainer()?;
    let control = format!(
        "Package: {NAME}\n\
         Version: {version}\n\
         Architecture: {architecture}\n\
         Maintainer: {maintainer}\n\
         Installed-Size: {size}\n\
         Depends: libc6 (>= {glibc}), libgcc-s1, systemd (>= 252)\n\
         Recommends: ca-certificates\n\
         Section: admin\n\
         Priority: optional\n\
         Description: starts tool workers inside a fence and shows what they tried\n \
         For hosts that run tools on behalf of language models. Each worker runs in a\n \
         fence of its own, reaches the names and addresses that its policy lists and\n \
         nothing else, and each call to it is checked and recorded. The kernel decides\n \
         over every packet (eBPF); policies are TOML, metrics are for Prometheus.\n"
    );
    write(&folder.join("control"), control.as_bytes(), READABLE)?;
    let conffiles = configuration().flat_map(|file| ["/", file, "\n"]);
    let conffiles: String = conffiles.collect();
    write(&folder.join("conffiles"), conffiles.as_bytes(), READABLE)?;
    write(&folder.join("md5sums"), sums.as_bytes(), READABLE)?;
    for script in SCRIPTS {
        let from = tree::root().join("xtask/package/debian").join(script);
        let text = fs::read(&from).with_context(|| from.display().to_string())?;
        write(&folder.join(script), &text, EXECUTABLE)?;
    }
    Ok(())
}

/// Name and address, as `deb-control(5)` wants them: on one line.
fn maintainer() -> anyhow::Result<String> {
    let [name, address] = MAINTAINER;
    let name = env::var(NAME_VARIABLE).unwrap_or_else(|_| name.to_owned());
    let address = env::var(ADDRESS_VARIABLE).unwrap_or_else(|_| address.to_owned());
    let odd = |text: &str| text.is_empty() || text.contains(['<', '>', '\n', '\r']);
    if odd(&name) || odd(&address) || !address.contains('@') {
        bail!("{NAME_VARIABLE} is no name or {ADDRESS_VARIABLE} no address: {name:?}, {address:?}");
    }
    Ok(format!("{name} <{address}>"))
}

/// Copyright, changelog, and the licences of what is linked in.
pub(super) fn documents(parts: &Parts, root: &Path, version: &str) -> anyhow::Result<()> {
    let folder = root.join("usr/share/doc").join(NAME);
    let licence = fs::read_to_string(tree::root().join("LICENSE-MIT"))?;
    let mit: String = licence
        .lines()
        .map(|line| match line.trim_end() {
            "" => " .\n".to_owned(),
            line => format!(" {line}\n"),
        })
        .collect();
    let copyright = format!(
        "Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\n\
         Upstream-Name: {NAME}\n\
         Comment: Licences of the crates that are linked in: crates.txt in this folder.\n\n\
         Files: *\n\
         Copyright: The Stockade contributors\n\
         License: Apache-2.0 or Expat\n\n\
         License: Apache-2.0\n \
         On Debian systems its text is in /usr/share/common-licenses/Apache-2.0.\n\n\
         License: Expat\n{mit}"
    );
    write(&folder.join("copyright"), copyright.as_bytes(), READABLE)?;
    write(&folder.join("crates.txt"), crates()?.as_bytes(), READABLE)?;
    let mut date = Command::new("date");
    date.args(["-u", "-R", "-d"])
        .arg(format!("@{}", parts.epoch));
    let date = process::output(date.env("LC_ALL", "C"))?;
    let changelog = format!(
        "{NAME} ({version}) unstable; urgency=medium\n\n  \
         * What has changed: NEWS.md in this folder.\n\n \
         -- {}  {}\n",
        maintainer()?,
        date.trim()
    );
    let file = folder.join("changelog");
    write(&file, changelog.as_bytes(), READABLE)?;
    gzip(&file)
}

/// One line a crate: name, version, licence.
fn crates() -> anyhow::Result<String> {
    let mut command = process::cargo();
    command.args(["tree", "--locked", "-p", "agent", "-e", "normal"]);
    command.args(["--prefix", "none", "--format", "{p}\t{l}"]);
    let tree = process::output(&mut command)?;
    // Crates of this tree come with their path; a star marks one that was listed before.
    let lines = tree.lines().map(|line| line.trim_end_matches(" (*)"));
    let mut lines: Vec<_> = lines
        .filter(|line| !line.contains(" (/") && !line.is_empty())
        .collect();
    lines.sort_unstable();
    lines.dedup();
    let mut text = lines.join("\n");
    text.push('\n');
    Ok(text)
}

/// `md5sums` of every installed file that is not the operator's.
fn sums(root: &Path) -> anyhow::Result<String> {
    let mut find = Command::new("find");
    find.args([".", "-type", "f", "-printf", "%P\\n"]);
    let listed = process::output(find.current_dir(root))?;
    let mut names: Vec<_> = listed
        .lines()
        .filter(|name| configuration().all(|file| file != *name))
        .collect();
    names.sort_unstable();
    let mut sums = Command::new("md5sum");
    process::output(sums.current_dir(root).args(names))
}

fn kibibytes(root: &Path) -> anyhow::Result<u64> {
    let mut find = Command::new("find");
    find.args([".", "-type", "f", "-printf", "%s\\n"]);
    let sizes = process::output(find.current_dir(root))?;
    let bytes: u64 = sizes
        .lines()
        .filter_map(|size| size.parse::<u64>().ok())
        .sum();
    Ok(bytes.div_ceil(1024))
}

/// The newest version of the C library whose symbols a program wants.
fn glibc(program: &[u8]) -> String {
    const MARK: &[u8] = b"GLIBC_2.";
    let minors = program.windows(MARK.len()).enumerate();
    let minors = minors.filter(|(_, bytes)| *bytes == MARK).map(|(at, _)| {
        let digits = program.iter().skip(at + MARK.len());
        let digits = digits.take_while(|byte| byte.is_ascii_digit());
        digits.fold(0_u32, |number, digit| {
            number
                .saturating_mul(10)
                .saturating_add(u32::from(digit - b'0'))
        })
    });
    format!("2.{}", minors.max().unwrap_or(GLIBC_DEFAULT))
}

#[cfg(test)]
mod tests {
    use super::glibc;

    #[test]
    fn the_newest_symbol_counts() {
        assert_eq!(glibc(b"..GLIBC_2.2.5\0GLIBC_2.34\0GLIBC_2.17\0"), "2.34");
        assert_eq!(glibc(b"GLIBC_2"), "2.36");
    }
}
