//! What can be attached: a cgroup by its path, or a unit by its name.

use std::{
    fs, io,
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::kernel::cgroup;

/// Bytes of a unit's name that systemd takes (`UNIT_NAME_MAX`).
const NAME_BYTES_MAX: usize = 255;
/// Ends of the names of units that have processes of their own making in a cgroup of their own.
const KINDS: [&str; 2] = [".service", ".scope"];
/// Slices below it are their users': whoever has one makes cgroups of any name in it.
const OF_USERS: &str = "user.slice";
/// How deep slices may lie in each other.
const SLICES_DEEP_MAX: usize = 6;
/// Slices that are looked into.
const SLICES_MAX: usize = 1_024;

/// What is to be fenced.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Target {
    /// The cgroup with this folder.
    Cgroup(PathBuf),
    /// The cgroup of this unit of the system's service manager.
    Unit(String),
}

/// A target's cgroup can not be told.
#[derive(Debug, thiserror::Error)]
pub enum TargetError {
    /// No name of a unit.
    #[error("unit `{0}`: no name of a service or scope\nhint: `NAME.service`")]
    Name(String),
    /// A path that says different things in different places.
    #[error("cgroup `{}`: not an absolute path", .0.display())]
    Relative(PathBuf),
    /// Several cgroups have the name.
    #[error(
        "unit `{name}`: {found} cgroups have this name\nhint: `--cgroup` with one of their paths"
    )]
    Several {
        /// The unit.
        name: String,
        /// How many.
        found: usize,
    },
    /// The hierarchy can not be read.
    #[error("cgroup hierarchy: can not be read")]
    Unreadable(#[from] io::Error),
    /// There is none.
    #[error(transparent)]
    Kernel(#[from] crate::kernel::Error),
}

impl Target {
    /// Refuses what names nothing.
    pub(super) fn check(&self) -> Result<(), TargetError> {
        match self {
            Self::Cgroup(path) if !path.is_absolute() => Err(TargetError::Relative(path.clone())),
            Self::Unit(name) if !is_unit(name) => Err(TargetError::Name(name.clone())),
            Self::Cgroup(_) | Self::Unit(_) => Ok(()),
        }
    }

    /// Its folder; nothing where there is none now.
    pub(super) fn folder(&self) -> Result<Option<PathBuf>, TargetError> {
        match self {
            Self::Cgroup(path) => Ok(path.is_dir().then(|| path.clone())),
            Self::Unit(name) => {
                let mut found: Vec<_> = slices()?
                    .into_iter()
                    .map(|slice| slice.join(name))
                    .filter(|folder| folder.is_dir())
                    .collect();
                match found.len() {
                    0 | 1 => Ok(found.pop()),
                    several => Err(TargetError::Several {
                        name: name.clone(),
                        found: several,
                    }),
                }
            }
        }
    }
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Cgroup(path) => write!(f, "cgroup {}", path.display()),
            Self::Unit(name) => write!(f, "unit {name}"),
        }
    }
}

/// Whether this is the name of a unit that has a cgroup with processes.
pub(super) fn is_unit(name: &str) -> bool {
    let known = |byte: u8| byte.is_ascii_alphanumeric() || b":-_.\\@".contains(&byte);
    name.len() <= NAME_BYTES_MAX
        && name.bytes().all(known)
        && KINDS
            .iter()
            .any(|kind| name.strip_suffix(kind).is_some_and(|stem| !stem.is_empty()))
}

/// The root of the hierarchy and the slices of the system's service manager: units lie in these, and in
/// nothing that somebody else made.
pub(super) fn slices() -> Result<Vec<PathBuf>, TargetError> {
    let mut slices = vec![cgroup::mount_point()?];
    let mut from = 0;
    for _ in 0..SLICES_DEEP_MAX {
        let level: Vec<_> = slices.get(from..).unwrap_or_default().to_vec();
        from = slices.len();
        for folder in level {
            collect(&folder, &mut slices)?;
        }
    }
    Ok(slices)
}

fn collect(folder: &Path, slices: &mut Vec<PathBuf>) -> io::Result<()> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let is_slice = name != OF_USERS && name.as_bytes().ends_with(b".slice");
        if !is_slice || !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            continue;
        }
        if slices.len() >= SLICES_MAX {
            return Err(io::Error::other(format!("more than {SLICES_MAX} slices")));
        }
        slices.push(entry.path());
    }
    Ok(())
}

/// The units that have a cgroup now.
pub(super) fn units() -> Result<Vec<String>, TargetError> {
    let mut units = Vec::new();
    for slice in slices()? {
        let Ok(entries) = fs::read_dir(&slice) else {
            continue;
        };
        for entry in entries.flatten() {
            let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
            if let Some(name) = entry
                .file_name()
                .to_str()
                .filter(|name| is_folder && is_unit(name))
            {
                units.push(name.to_owned());
            }
        }
    }
    units.sort();
    units.dedup();
    Ok(units)
}

#[cfg(test)]
mod tests {
    use super::{Target, is_unit};

    #[test]
    fn names_of_units_are_names() {
        for good in ["weather-a.service", "app@1.service", "docker-77.scope"] {
            assert!(is_unit(good), "{good}");
        }
        let long = format!("{}.service", "x".repeat(255));
        for bad in [
            "weather",
            ".service",
            "../a.service",
            "a b.service",
            "x.slice",
            &long,
        ] {
            assert!(!is_unit(bad), "{bad}");
            assert!(Target::Unit(bad.to_owned()).check().is_err(), "{bad}");
        }
        assert!(Target::Cgroup("a/b".into()).check().is_err());
    }
}
