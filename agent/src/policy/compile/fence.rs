//! `[filesystem]`, `[syscalls]` and `[limits]`: what a worker may touch and use.

use std::{
    path::{Component, Path, PathBuf},
    time::Duration,
};

use super::{
    super::{
        compiled::{Filesystem, Limits, Profile, Syscalls},
        error::Code,
        profile::{self, NameError},
        quantity,
        raw::{Field, List, Located, RawFilesystem, RawLimits, RawProfile, RawSyscalls},
    },
    Context, or,
};

/// Bytes of a path (Linux's `PATH_MAX` less the final NUL).
const PATH_BYTES_MAX: usize = 4_095;
/// Paths of one list.
const PATHS_MAX: usize = 256;
/// Names of one list of system calls.
const SYSCALLS_MAX: usize = 512;
/// Folders that no list may hold, nor anything below them, and why.
const NEVER_BELOW: &[(&str, &str)] = &[
    ("/proc", "a session has a masked /proc of its own"),
    ("/sys", "the kernel's settings are never shown to a worker"),
    ("/dev", "a session has a minimal /dev of its own"),
    ("/run", "the host's sockets are never shown to a worker"),
    ("/var/run", "the host's sockets are never shown to a worker"),
];
/// Folders that no list may hold, and why.
const NEVER: &[(&str, &str)] = &[
    (
        "/",
        "a fence that holds everything is none: list the folders the tool needs",
    ),
    ("/tmp", "a session has a private /tmp of its own"),
];

impl Context<'_> {
    pub(super) fn filesystem(&mut self, raw: Option<RawFilesystem>) -> Filesystem {
        let (read, execute, write, workdir_size) = match raw {
            Some(RawFilesystem {
                read,
                execute,
                write,
                workdir_size,
            }) => (read, execute, write, workdir_size),
            None => (Field::Absent, Field::Absent, Field::Absent, Field::Absent),
        };
        let read = self.paths("read", read);
        let execute = self.paths("execute", execute);
        let write = self.paths("write", write);
        for written in &write {
            let nested = execute.iter().find(|executable| {
                written.value.starts_with(&executable.value)
                    || executable.value.starts_with(&written.value)
            });
            if let Some(executable) = nested {
                let message = format!(
                    "`{}` is writable and `{}` executable",
                    written.value.display(),
                    executable.value.display()
                );
                let hint = "a worker could drop a program there and run it: keep the two apart";
                self.findings
                    .hinted(Code::Conflict, written.span, message, hint);
            }
        }
        Filesystem {
            read: ordered(read),
            execute: ordered(execute),
            write: ordered(write),
            workdir_size: self.size(
                "workdir_size",
                workdir_size,
                quantity::WORKDIR_BYTES,
                quantity::WORKDIR_BYTES_DEFAULT,
            ),
        }
    }

    fn paths(&mut self, key: &str, field: Field<List<String>>) -> List<PathBuf> {
        let raw = or(field, Vec::new());
        if let Some(path) = raw.get(PATHS_MAX) {
            let message = format!("`{key}` has more than {PATHS_MAX} paths");
            self.findings.add(Code::OutOfBounds, path.span, message);
        }
        let mut paths: List<PathBuf> = Vec::with_capacity(raw.len());
        for text in raw {
            let Some(path) = self.path(&text) else {
                continue;
            };
            self.refuse_never(&text, &path);
            if paths.iter().any(|other| other.value == path) {
                let message = format!("`{}` is listed twice", text.value);
                self.findings.add(Code::Duplicate, text.span, message);
            }
            paths.push(Located {
                value: path,
                span: text.span,
            });
        }
        paths
    }

    fn refuse_never(&mut self, text: &Located<String>, path: &Path) {
        let below = NEVER_BELOW
            .iter()
            .find(|(folder, _)| path.starts_with(folder));
        let exact = NEVER.iter().find(|(folder, _)| path == Path::new(folder));
        if let Some((_, why)) = below.or(exact) {
            let message = format!("`{}` can not be listed", text.value);
            self.findings
                .hinted(Code::BadPath, text.span, message, *why);
        }
    }

    /// An absolute path without `.`, `..`, doubled or trailing slashes.
    pub(super) fn path(&mut self, text: &Located<String>) -> Option<PathBuf> {
        let Located { value, span } = text;
        if !value.starts_with('/') {
            let message = format!("`{}` is not absolute", value.escape_debug());
            let hint = "a path begins with `/`; `~` and variables are not expanded";
            self.findings.hinted(Code::BadPath, *span, message, hint);
            return None;
        }
        if value.len() > PATH_BYTES_MAX || value.chars().any(char::is_control) {
            let message = "path is too long or holds control characters";
            self.findings.add(Code::BadPath, *span, message);
            return None;
        }
        let normal = normalised(value);
        if normal.as_deref() != Some(value.as_str()) {
            let message = format!("`{value}` is not normalised");
            let hint = normal.map_or_else(
                || "write it without `.` and `..`".to_owned(),
                |normal| format!("write it \"{normal}\""),
            );
            self.findings.hinted(Code::BadPath, *span, message, hint);
            return None;
        }
        Some(PathBuf::from(value))
    }

    pub(super) fn syscalls(&mut self, raw: Option<RawSyscalls>) -> Syscalls {
        let (profile, allow, deny) = match raw {
            Some(RawSyscalls {
                profile,
                allow,
                deny,
            }) => (profile, allow, deny),
            None => (Field::Absent, Field::Absent, Field::Absent),
        };
        let allow = self.names("allow", allow, profile::allowable);
        let deny = self.names("deny", deny, profile::known);
        for name in &deny {
            if allow.iter().any(|other| other.value == name.value) {
                let message = format!("`{}` is allowed and denied", name.value);
                let hint = "drop it from one of the two lists";
                self.findings
                    .hinted(Code::Conflict, name.span, message, hint);
            }
        }
        Syscalls {
            profile: match or(profile, RawProfile::Default) {
                RawProfile::Default => Profile::Default,
                RawProfile::Interpreter => Profile::Interpreter,
                RawProfile::Strict => Profile::Strict,
            },
            allow: ordered(allow),
            deny: ordered(deny),
        }
    }

    fn names(
        &mut self,
        key: &str,
        field: Field<List<String>>,
        judge: impl Fn(&str) -> Result<(), NameError>,
    ) -> List<String> {
        let raw = or(field, Vec::new());
        if let Some(name) = raw.get(SYSCALLS_MAX) {
            let message = format!("`{key}` has more than {SYSCALLS_MAX} names");
            self.findings.add(Code::OutOfBounds, name.span, message);
        }
        for name in &raw {
            if let Err(error) = judge(&name.value) {
                self.findings
                    .hinted(Code::BadValue, name.span, error.to_string(), error.hint());
            }
        }
        raw
    }

    pub(super) fn limits(&mut self, raw: Option<RawLimits>) -> Limits {
        let RawLimits {
            memory,
            processes,
            cpus,
            open_files,
            cpu_time,
            output,
        } = raw.unwrap_or_default();
        let (memory_bounds, memory_default) =
            (quantity::MEMORY_BYTES, quantity::MEMORY_BYTES_DEFAULT);
        let processes_default = quantity::PROCESSES_DEFAULT.into();
        let files_default = quantity::OPEN_FILES_DEFAULT.into();
        let output_default = quantity::OUTPUT_BYTES_DEFAULT;
        Limits {
            memory: self.size("memory", memory, memory_bounds, memory_default),
            processes: narrow(self.count(
                "processes",
                processes,
                quantity::PROCESSES,
                processes_default,
            )),
            cpus_milli: self.cpus(cpus),
            open_files: narrow(self.count(
                "open_files",
                open_files,
                quantity::OPEN_FILES,
                files_default,
            )),
            cpu_time: self.timeout("cpu_time", cpu_time, Duration::MAX),
            output: self.size("output", output, quantity::OUTPUT_BYTES, output_default),
        }
    }

    fn cpus(&mut self, field: Field<f64>) -> u32 {
        let Some(Located { value, span }) = field.given() else {
            return quantity::CPUS_MILLI_DEFAULT;
        };
        let milli = (value * 1_000.0).round();
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "the range is checked in the condition; NaN is in no range"
        )]
        let milli = (1.0..=1e9).contains(&milli).then_some(milli as u64);
        let text = |milli: u64| format!("{}.{:03}", milli / 1_000, milli % 1_000);
        let default = quantity::CPUS_MILLI_DEFAULT.into();
        narrow(self.within("cpus", milli, span, quantity::CPUS_MILLI, text, default))
    }
}

/// The numbers that come here were held to bounds below 2³².
fn narrow(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

fn ordered<T: Ord>(list: List<T>) -> Vec<T> {
    let mut values: Vec<T> = list.into_iter().map(|located| located.value).collect();
    values.sort();
    values.dedup();
    values
}

/// The path without doubled and trailing slashes and `.`; `None` where `..` stands in it.
fn normalised(path: &str) -> Option<String> {
    let mut out = String::with_capacity(path.len());
    for component in Path::new(path).components() {
        match component {
            Component::Normal(part) => {
                out.push('/');
                out.push_str(part.to_str()?);
            }
            Component::RootDir | Component::CurDir => {}
            Component::ParentDir | Component::Prefix(_) => return None,
        }
    }
    Some(if out.is_empty() { "/".to_owned() } else { out })
}
