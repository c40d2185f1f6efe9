//! `[worker]`: the program, its environment, its time and its pins.

use std::{collections::BTreeMap, path::Path, time::Duration};

use super::{
    super::{
        compiled::{Filesystem, LockRule, Pin, PinKind, Reuse, Worker, WorkerProtocol},
        error::Code,
        quantity,
        raw::{
            Field, List, Located, RawLockRule, RawPin, RawPinKind, RawReuse, RawWorker,
            RawWorkerProtocol,
        },
    },
    Context, or,
};

/// Program and arguments of a command.
const COMMAND_WORDS_MAX: usize = 256;
/// Bytes of one of them.
const COMMAND_WORD_BYTES_MAX: usize = 4_096;
/// Variables of an environment.
const VARIABLES_MAX: usize = 256;
/// Bytes of a variable's name and value together.
const VARIABLE_BYTES_MAX: usize = 32_768;
/// Pinned files and folders of a policy.
pub(in crate::policy) const PINS_MAX: usize = 256;
/// Hexadecimal digits of a SHA-256.
const SHA256_DIGITS: usize = 64;
/// Folders that are links into `/usr` on systems with merged `/usr`.
const MERGED_USR: &[&str] = &["/bin", "/sbin", "/lib", "/lib64"];

impl Context<'_> {
    pub(super) fn worker(&mut self, raw: Option<RawWorker>, filesystem: &Filesystem) -> Worker {
        let Some(RawWorker {
            command,
            protocol,
            environment,
            idle_timeout,
            wall_timeout,
            pin,
            lock,
            reuse,
        }) = raw
        else {
            return Worker {
                command: Vec::new(),
                protocol: WorkerProtocol::Exec,
                environment: BTreeMap::new(),
                idle_timeout: quantity::WALL_TIMEOUT_DEFAULT,
                wall_timeout: quantity::WALL_TIMEOUT_DEFAULT,
                pins: Vec::new(),
                lock: LockRule::Optional,
                reuse: Reuse::Never,
            };
        };
        let protocol = match or(protocol, RawWorkerProtocol::Exec) {
            RawWorkerProtocol::Exec => WorkerProtocol::Exec,
            RawWorkerProtocol::Json => WorkerProtocol::Json,
            RawWorkerProtocol::Mcp => WorkerProtocol::Mcp,
        };
        let wall_default = quantity::WALL_TIMEOUT_DEFAULT;
        let wall_timeout = self.timeout("wall_timeout", wall_timeout, wall_default);
        // A plain program that waits for a slow answer is at work; one that waits for the next call
        // is idle.
        let idle_default = match protocol {
            WorkerProtocol::Exec => wall_timeout,
            WorkerProtocol::Json | WorkerProtocol::Mcp => quantity::IDLE_TIMEOUT_DEFAULT,
        };
        Worker {
            command: self.command(command, filesystem),
            protocol,
            environment: self.environment(or(environment, Vec::new())),
            idle_timeout: self.timeout("idle_timeout", idle_timeout, idle_default),
            wall_timeout,
            pins: self.pins(or(pin, Vec::new())),
            lock: match or(lock, RawLockRule::Optional) {
                RawLockRule::Optional => LockRule::Optional,
                RawLockRule::Required => LockRule::Required,
            },
            reuse: self.reuse(protocol, reuse),
        }
    }

    /// Only an MCP server is a worker that takes more than one call.
    fn reuse(&mut self, protocol: WorkerProtocol, field: Field<RawReuse>) -> Reuse {
        let mcp = protocol == WorkerProtocol::Mcp;
        let Some(Located { value, span }) = field.given() else {
            return if mcp { Reuse::Session } else { Reuse::Never };
        };
        if !mcp && value != RawReuse::Never {
            let message = "a worker that is no MCP server takes one call";
            let hint = "drop `reuse`, or write `protocol = \"mcp\"`";
            self.findings.hinted(Code::Conflict, span, message, hint);
        }
        match value {
            RawReuse::Session => Reuse::Session,
            RawReuse::Principal => Reuse::Principal,
            RawReuse::Never => Reuse::Never,
        }
    }

    fn command(&mut self, field: Field<List<String>>, filesystem: &Filesystem) -> Vec<String> {
        let Some(Located { value: words, span }) = field.given() else {
            return Vec::new();
        };
        if words.is_empty() {
            let hint =
                "name the program, or drop the key where `run --policy FILE -- cmd` names it";
            self.findings
                .hinted(Code::BadValue, span, "`command` is empty", hint);
        }
        if words.len() > COMMAND_WORDS_MAX {
            let message = format!("`command` has more than {COMMAND_WORDS_MAX} words");
            self.findings.add(Code::OutOfBounds, span, message);
        }
        for word in &words {
            if word.value.len() > COMMAND_WORD_BYTES_MAX {
                let message =
                    format!("a word of `command` has more than {COMMAND_WORD_BYTES_MAX} bytes");
                self.findings.add(Code::OutOfBounds, word.span, message);
            }
            if word.value.contains('\0') {
                let message = "a word of `command` holds a NUL byte";
                self.findings.add(Code::BadValue, word.span, message);
            }
        }
        if let Some(program) = words.first() {
            self.program(program, filesystem);
        }
        words.into_iter().map(|word| word.value).collect()
    }

    fn program(&mut self, program: &Located<String>, filesystem: &Filesystem) {
        let Some(path) = self.path(program) else {
            return;
        };
        let executable = filesystem
            .execute
            .iter()
            .any(|folder| path.starts_with(folder) || through_usr(&path, folder));
        if !executable {
            let message = format!("`{}` is in no path of `filesystem.execute`", program.value);
            let folder = path.parent().unwrap_or(&path).display();
            let hint = format!("add \"{folder}\" to `filesystem.execute`");
            self.findings
                .hinted(Code::Conflict, program.span, message, hint);
        }
    }

    fn environment(
        &mut self,
        pairs: Vec<(Located<String>, Located<String>)>,
    ) -> BTreeMap<String, String> {
        if let Some((name, _)) = pairs.get(VARIABLES_MAX) {
            let message = format!("`environment` has more than {VARIABLES_MAX} variables");
            self.findings.add(Code::OutOfBounds, name.span, message);
        }
        for (name, value) in &pairs {
            let shaped = !name.value.is_empty()
                && !name.value.starts_with(|c: char| c.is_ascii_digit())
                && name
                    .value
                    .chars()
                    .all(|c| c.is_ascii_alphanumeric() || c == '_');
            if !shaped {
                let message = format!("`{}` is no name of a variable", name.value.escape_debug());
                let hint = "letters, digits and `_`, not beginning with a digit";
                self.findings
                    .hinted(Code::BadValue, name.span, message, hint);
            }
            if value.value.contains('\0') {
                let message = format!("`{}` holds a NUL byte", name.value.escape_debug());
                self.findings.add(Code::BadValue, value.span, message);
            }
            if name.value.len().saturating_add(value.value.len()) > VARIABLE_BYTES_MAX {
                let message = format!("a variable has more than {VARIABLE_BYTES_MAX} bytes");
                self.findings.add(Code::OutOfBounds, value.span, message);
            }
        }
        pairs
            .into_iter()
            .map(|(name, value)| (name.value, value.value))
            .collect()
    }

    pub(super) fn timeout(
        &mut self,
        key: &str,
        field: Field<String>,
        default: Duration,
    ) -> Duration {
        let Some(Located { value, span }) = field.given() else {
            return default;
        };
        match quantity::seconds(&value) {
            Ok(seconds) => Duration::from_secs(self.within(
                key,
                Some(seconds),
                span,
                quantity::TIMEOUT_SECONDS,
                quantity::seconds_text,
                default.as_secs(),
            )),
            Err(error) => {
                self.findings
                    .hinted(Code::BadValue, span, error.to_string(), error.hint());
                default
            }
        }
    }

    fn pins(&mut self, raw: List<RawPin>) -> Vec<Pin> {
        if let Some(pin) = raw.get(PINS_MAX) {
            let message = format!("policy has more than {PINS_MAX} pins");
            self.findings.add(Code::OutOfBounds, pin.span, message);
        }
        let mut pins: Vec<Pin> = Vec::new();
        for Located {
            value: RawPin { path, kind, sha256 },
            span,
        } in raw
        {
            let place = self.required("worker.pin", "path", path, span);
            let digits = self.required("worker.pin", "sha256", sha256, span);
            let path = place.as_ref().and_then(|place| self.path(place));
            let sha256 = digits.and_then(|digits| self.sha256(&digits));
            let (Some(path), Some(sha256)) = (path, sha256) else {
                continue;
            };
            if pins.iter().any(|pin| pin.path == path) {
                let message = format!("`{}` is pinned twice", path.display());
                self.findings
                    .hinted(Code::Duplicate, span, message, "drop one of the two pins");
            }
            let kind = match or(kind, RawPinKind::File) {
                RawPinKind::File => PinKind::File,
                RawPinKind::Directory => PinKind::Directory,
            };
            pins.push(Pin { path, kind, sha256 });
        }
        pins.sort_by(|a, b| a.path.cmp(&b.path));
        pins
    }

    fn sha256(&mut self, digits: &Located<String>) -> Option<[u8; 32]> {
        let hash = from_hex(&digits.value);
        if hash.is_none() {
            let message = format!("`sha256` is not {SHA256_DIGITS} hexadecimal digits");
            let hint =
                "`sha256sum FILE` prints it; `stockade policy pin` writes a lock file instead";
            self.findings
                .hinted(Code::BadValue, digits.span, message, hint);
        }
        hash
    }
}

pub(in crate::policy) fn from_hex(text: &str) -> Option<[u8; 32]> {
    if text.len() != SHA256_DIGITS || !text.is_ascii() {
        return None;
    }
    let mut hash = [0; 32];
    for (byte, pair) in hash.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        let [high, low] = pair else { return None };
        let high = char::from(*high).to_digit(16)?;
        let low = char::from(*low).to_digit(16)?;
        *byte = u8::try_from(high << 4 | low).ok()?;
    }
    Some(hash)
}

/// Whether the program is named by a link of merged `/usr` and lies in the folder all the same.
fn through_usr(path: &Path, folder: &Path) -> bool {
    let merged = |path: &Path| {
        MERGED_USR
            .iter()
            .any(|link| path.starts_with(link))
            .then(|| Path::new("/usr").join(path.strip_prefix("/").unwrap_or(path)))
    };
    merged(path).is_some_and(|path| path.starts_with(folder))
        || merged(folder).is_some_and(|folder| path.starts_with(folder))
}
