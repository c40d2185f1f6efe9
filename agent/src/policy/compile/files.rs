//! `[filesystem]`: the lists of paths, the worker's own folders and what is handed out, and whether
//! they contradict each other.

use std::path::{Component, Path, PathBuf};

use super::{
    super::{
        compiled::{Filesystem, Output},
        error::{Code, Related},
        quantity,
        raw::{Field, List, Located, RawFilesystem, RawOutput},
    },
    Claim, Context,
    fence::{narrow, ordered},
    or,
};

/// Bytes of a path (Linux's `PATH_MAX` less the final NUL).
const PATH_BYTES_MAX: usize = 4_095;
/// Paths of one list.
const PATHS_MAX: usize = 256;
/// Folders that no list may hold, nor anything below them, and why.
const NEVER_BELOW: &[(&str, &str)] = &[
    ("/proc", "a session has a masked /proc of its own"),
    ("/sys", "the kernel's settings are never shown to a worker"),
    ("/dev", "a session has a minimal /dev of its own"),
    ("/run", "the host's sockets are never shown to a worker"),
    ("/var/run", "the host's sockets are never shown to a worker"),
    ("/tmp", "a session has a private /tmp of its own"),
    ("/workdir", "a session has a /workdir of its own"),
];
/// Folders that no list may hold, and why.
const NEVER: &[(&str, &str)] = &[(
    "/",
    "a fence that holds everything is none: list the folders the tool needs",
)];

/// Bits of a umask.
const UMASK_MAX: u32 = 0o777;

impl Context<'_> {
    pub(super) fn filesystem(&mut self, raw: Option<RawFilesystem>) -> Filesystem {
        let RawFilesystem {
            read,
            execute,
            write,
            workdir_size,
            tmp_size,
            inodes,
            output,
        } = raw.unwrap_or_default();
        let read = self.paths("read", read);
        let execute = self.paths("execute", execute);
        let write = self.paths("write", write);
        let output = output.given().and_then(|output| self.output(output));
        self.contradictions(&read, &execute, &write);
        if let Some((_, path)) = &output {
            self.output_apart(path, &execute, &write);
        }
        let (sizes, default) = (quantity::WORKDIR_BYTES, quantity::WORKDIR_BYTES_DEFAULT);
        let workdir_size = self.size("workdir_size", workdir_size, sizes, default);
        let tmp_size = self.size("tmp_size", tmp_size, sizes, workdir_size);
        let given = matches!(inodes, Field::Given(_));
        let least = quantity::INODES.min;
        let inodes = self.count("inodes", inodes, quantity::INODES, least);
        let inodes = |size: u64| {
            if given {
                inodes
            } else {
                size.div_ceil(quantity::BYTES_PER_INODE)
                    .max(quantity::INODES_LEAST)
            }
        };
        let (workdir_inodes, tmp_inodes) = (inodes(workdir_size), inodes(tmp_size));
        self.claim(&write, output.as_ref().map(|(_, path)| path));
        Filesystem {
            read: ordered(read),
            execute: ordered(execute),
            write: ordered(write),
            workdir_size,
            workdir_inodes,
            tmp_size,
            tmp_inodes,
            output: output.map(|(output, _)| output),
        }
    }

    fn output(&mut self, raw: Located<RawOutput>) -> Option<(Output, Located<PathBuf>)> {
        let Located {
            value:
                RawOutput {
                    path,
                    size,
                    entries,
                    depth,
                    umask,
                    owner,
                    group,
                },
            span,
        } = raw;
        let path = self.required("filesystem.output", "path", path, span);
        let (bytes, bytes_default) = (
            quantity::WORKDIR_BYTES,
            quantity::OUTPUT_FOLDER_BYTES_DEFAULT,
        );
        let size = self.size("size", size, bytes, bytes_default);
        let entries_default = quantity::OUTPUT_ENTRIES_DEFAULT;
        let entries = self.count(
            "entries",
            entries,
            quantity::OUTPUT_ENTRIES,
            entries_default,
        );
        let depth_default = quantity::OUTPUT_DEPTH_DEFAULT;
        let depth = self.count("depth", depth, quantity::OUTPUT_DEPTH, depth_default);
        let umask = self.umask(umask);
        let owner = self.count("owner", owner, quantity::IDS, 0);
        let group = self.count("group", group, quantity::IDS, 0);
        let text = path?;
        let path = self.path(&text)?;
        self.refuse_never(&text, &path);
        let output = Output {
            path: path.clone(),
            size,
            entries,
            depth: narrow(depth),
            umask,
            owner: narrow(owner),
            group: narrow(group),
        };
        let place = Located {
            value: path,
            span: text.span,
        };
        Some((output, place))
    }

    fn umask(&mut self, field: Field<String>) -> u32 {
        let Some(Located { value, span }) = field.given() else {
            return quantity::OUTPUT_UMASK_DEFAULT;
        };
        let octal = value.len() <= 4 && value.chars().all(|c| c.is_digit(8));
        let umask = u32::from_str_radix(&value, 8).ok();
        if let Some(umask) = umask.filter(|umask| octal && *umask <= UMASK_MAX) {
            return umask;
        }
        let message = format!("`{}` is no umask", value.escape_debug());
        let hint = "write three octal digits, like \"077\" or \"027\"";
        self.findings.hinted(Code::BadValue, span, message, hint);
        quantity::OUTPUT_UMASK_DEFAULT
    }

    /// Nothing is writable in one list and less than that in another: which of the two holds would
    /// depend on the order of mounts, and a reader would not see it.
    fn contradictions(
        &mut self,
        read: &List<PathBuf>,
        execute: &List<PathBuf>,
        write: &List<PathBuf>,
    ) {
        for written in write {
            if let Some(executable) = execute.iter().find(|other| nested(written, other)) {
                let hint = "a worker could drop a program there and run it: keep the two apart";
                self.apart(written, "writable", executable, "executable", hint);
            }
            if let Some(readable) = read.iter().find(|other| nested(written, other)) {
                let hint = if written.value == readable.value {
                    "drop it from `read`: what is writable is readable"
                } else if written.value.starts_with(&readable.value) {
                    "list the folders beside it under `read`, one by one"
                } else {
                    "list the folders beside it under `write`, one by one"
                };
                self.apart(written, "writable", readable, "only readable", hint);
            }
        }
    }

    fn output_apart(
        &mut self,
        path: &Located<PathBuf>,
        execute: &List<PathBuf>,
        write: &List<PathBuf>,
    ) {
        let hint = "what was handed out must stay as it was: keep the two apart";
        for (list, word) in [(write, "writable"), (execute, "executable")] {
            if let Some(other) = list.iter().find(|other| nested(path, other)) {
                self.apart(path, "the output", other, word, hint);
            }
        }
    }

    fn apart(
        &mut self,
        path: &Located<PathBuf>,
        is: &str,
        other: &Located<PathBuf>,
        other_is: &str,
        hint: &str,
    ) {
        let message = format!(
            "`{}` is {is} and `{}` {other_is}",
            path.value.display(),
            other.value.display()
        );
        let related = Related {
            span: other.span,
            label: format!("{other_is} here"),
        };
        self.findings
            .paired(Code::Conflict, path.span, message, hint, related);
    }

    /// Notes what tools must not share: judged where the whole set is known.
    fn claim(&mut self, write: &List<PathBuf>, output: Option<&Located<PathBuf>>) {
        let claim = |output| {
            move |place: &Located<PathBuf>| Claim {
                path: place.value.clone(),
                span: place.span,
                output,
            }
        };
        self.claims.extend(write.iter().map(claim(false)));
        self.claims.extend(output.map(claim(true)));
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
}

fn nested(path: &Located<PathBuf>, other: &Located<PathBuf>) -> bool {
    // `/` was refused already.
    let all = [path, other]
        .iter()
        .any(|path| path.value == Path::new("/"));
    !all && (path.value.starts_with(&other.value) || other.value.starts_with(&path.value))
}

/// The path without doubled and trailing slashes and `.`; `None` where `..` stands in it.
pub(in crate::policy) fn normalised(path: &str) -> Option<String> {
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
