//! The lock file of a policy: what the files that it runs were when `stockade policy pin` saw them.
//!
//! Text in, pins out, and back; which file lies where is `store`'s.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::{
    compile::{PINS_MAX, from_hex, normalised},
    compiled::{CompiledPolicy, Digest, Pin, PinKind, ToolName},
    digest,
    error::{Lines, printable},
};

/// The version of the lock file that this agent reads and writes.
pub const VERSION: i64 = 1;

/// Why a path is in the lock file.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// The program of the policy's command.
    Program,
    /// A file among the words of the command.
    Argument,
    /// What runs another file: a script's interpreter, or the loader of an ELF file.
    Interpreter,
    /// Somebody asked for it.
    Asked,
}

impl Role {
    /// The word of the lock file.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Program => "program",
            Self::Argument => "argument",
            Self::Interpreter => "interpreter",
            Self::Asked => "asked",
        }
    }
}

/// One path of a lock file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Locked {
    /// Path, kind and sum.
    pub pin: Pin,
    /// Why it is there.
    pub role: Role,
}

/// A lock file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Lock {
    /// The tool of its policy.
    pub tool: String,
    /// By path, each once.
    pub pins: Vec<Locked>,
}

/// Why a lock file does not count. The policy is refused then.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{message}\nhint: `stockade policy pin` writes it")]
pub struct LockError {
    /// Line of the file, where it is about one.
    pub line: Option<u32>,
    /// What is wrong.
    pub message: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawLock {
    version: i64,
    tool: String,
    #[serde(default)]
    pin: Vec<RawLocked>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawLocked {
    path: toml::Spanned<String>,
    kind: String,
    role: Role,
    sha256: String,
}

impl Lock {
    /// Reads the text of a lock file.
    pub fn parse(text: &str) -> Result<Self, LockError> {
        let lines = Lines::of(text);
        let at = |offset: usize| Some(lines.line(offset));
        let RawLock { version, tool, pin } = toml::from_str(text).map_err(|error| LockError {
            line: error.span().and_then(|span| at(span.start)),
            message: printable(error.message()),
        })?;
        if version != VERSION {
            return Err(LockError::new(format!("version {version} is unknown")));
        }
        let mut pins: Vec<Locked> = Vec::new();
        for RawLocked {
            path,
            kind,
            role,
            sha256,
        } in pin
        {
            let line = at(path.span().start);
            let path = path.into_inner();
            let refused = |what: &str| LockError {
                line,
                message: printable(&format!("`{path}`: {what}")),
            };
            if normalised(&path).as_deref() != Some(path.as_str()) {
                return Err(refused("not an absolute path without `.` and `..`"));
            }
            if pins.iter().any(|other| other.pin.path == Path::new(&path)) {
                return Err(refused("there twice"));
            }
            let kind = PinKind::from_word(&kind)
                .ok_or_else(|| refused("its kind is neither `file` nor `directory`"))?;
            let sha256 = from_hex(&sha256)
                .ok_or_else(|| refused("its sha256 is not 64 hexadecimal digits"))?;
            let path = PathBuf::from(path);
            pins.push(Locked {
                pin: Pin { path, kind, sha256 },
                role,
            });
        }
        if pins.len() > PINS_MAX {
            return Err(LockError::new(format!("more than {PINS_MAX} pins")));
        }
        pins.sort_by(|a, b| a.pin.path.cmp(&b.pin.path));
        Ok(Self { tool, pins })
    }

    /// The text of the file: the same for the same pins.
    #[must_use]
    pub fn text(&self, policy_file: &str) -> String {
        let quoted = |text: &str| toml::Value::String(text.to_owned()).to_string();
        let head = format!(
            "# Written by `stockade policy pin {}`: a session is refused while one of these is not as\n\
             # it was. A folder's sum covers names, kinds, links, executable bits and contents.\n\
             version = {VERSION}\ntool = {}\n",
            printable(policy_file).replace('\n', "?"),
            quoted(&self.tool)
        );
        let pins = self.pins.iter().map(|Locked { pin, role }| {
            let Pin { path, kind, sha256 } = pin;
            let (path, sum) = (quoted(&path.display().to_string()), Digest(*sha256));
            let (kind, role) = (kind.word(), role.word());
            format!(
                "\n[[pin]]\npath = {path}\nkind = \"{kind}\"\nrole = \"{role}\"\nsha256 = \"{sum}\"\n"
            )
        });
        std::iter::once(head).chain(pins).collect()
    }

    /// Adds the pins to their policy.
    pub(super) fn apply(&self, policy: &mut CompiledPolicy) -> Result<(), LockError> {
        if ToolName::parse(&self.tool).ok().as_ref() != Some(&policy.tool) {
            let tool = printable(&self.tool);
            let message = format!("it is for the tool `{tool}`, not for `{}`", policy.tool);
            return Err(LockError::new(message));
        }
        let pins = &mut policy.worker.pins;
        for Locked { pin, .. } in &self.pins {
            match pins.iter().find(|other| other.path == pin.path) {
                None => pins.push(pin.clone()),
                Some(same) if same == pin => {}
                Some(_) => {
                    let path = pin.path.display();
                    let message = format!("`{path}`: `worker.pin` of the policy says another sum");
                    return Err(LockError::new(message));
                }
            }
        }
        if pins.len() > PINS_MAX {
            let message = format!("more than {PINS_MAX} pins, those of the policy among them");
            return Err(LockError::new(message));
        }
        pins.sort_by(|a, b| a.path.cmp(&b.path));
        policy.digest = digest::of(policy);
        Ok(())
    }
}

impl LockError {
    fn new(message: String) -> Self {
        Self {
            line: None,
            message,
        }
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::{Lock, Locked, Role};
    use crate::policy::{
        compile,
        compiled::{Pin, PinKind},
    };

    fn lock() -> Lock {
        let locked = |path: &str, kind, role| Locked {
            pin: Pin {
                path: path.into(),
                kind,
                sha256: [0xab; 32],
            },
            role,
        };
        Lock {
            tool: "t".to_owned(),
            pins: vec![
                locked("/opt/t/bin/\"w\"", PinKind::File, Role::Program),
                locked("/opt/t/lib", PinKind::Directory, Role::Asked),
            ],
        }
    }

    fn refused(text: &str, expected: &Expect) {
        let error = Lock::parse(text).unwrap_err();
        expected.assert_eq(&format!("{:?}: {}", error.line, error.message));
    }

    #[test]
    fn a_lock_survives_its_text() {
        let lock = lock();
        let text = lock.text("t.toml");
        assert_eq!(Lock::parse(&text).unwrap(), lock);
        assert_eq!(Lock::parse(&text).unwrap().text("t.toml"), text);
        expect![[r#"
            # Written by `stockade policy pin t.toml`: a session is refused while one of these is not as
            # it was. A folder's sum covers names, kinds, links, executable bits and contents.
            version = 1
            tool = "t"

            [[pin]]
            path = '/opt/t/bin/"w"'
            kind = "file"
            role = "program"
            sha256 = "abababababababababababababababababababababababababababababababab"

            [[pin]]
            path = "/opt/t/lib"
            kind = "directory"
            role = "asked"
            sha256 = "abababababababababababababababababababababababababababababababab"
        "#]]
        .assert_eq(&text);
    }

    #[test]
    fn a_lock_that_can_not_be_read_is_refused() {
        refused(
            "version = 2\ntool = \"t\"\n",
            &expect!["None: version 2 is unknown"],
        );
        refused(
            "version = 1\ntool = \"t\"\npins = []\n",
            &expect!["Some(3): unknown field `pins`, expected one of `version`, `tool`, `pin`"],
        );
        let pin = |path: &str, kind: &str, sum: &str| {
            format!(
                "version = 1\ntool = \"t\"\n[[pin]]\npath = \"{path}\"\nkind = \"{kind}\"\n\
                 role = \"asked\"\nsha256 = \"{sum}\"\n"
            )
        };
        let sum = "ab".repeat(32);
        refused(
            &pin("/a/../b", "file", &sum),
            &expect!["Some(4): `/a/../b`: not an absolute path without `.` and `..`"],
        );
        refused(
            &pin("/a", "socket", &sum),
            &expect!["Some(4): `/a`: its kind is neither `file` nor `directory`"],
        );
        refused(
            &pin("/a", "file", "ab"),
            &expect!["Some(4): `/a`: its sha256 is not 64 hexadecimal digits"],
        );
        let twice = format!("{}{}", pin("/a", "file", &sum), {
            let one = pin("/a", "file", &sum);
            one.split_once("[[pin]]")
                .map(|(_, rest)| format!("[[pin]]{rest}"))
                .unwrap()
        });
        refused(&twice, &expect!["Some(9): `/a`: there twice"]);
    }

    #[test]
    fn a_lock_is_of_one_policy_and_says_what_the_policy_says() {
        let text = "version = 1\ntool = \"t\"\n";
        let policy = compile("t.toml", text).unwrap();
        let mut pinned = policy.clone();
        lock().apply(&mut pinned).unwrap();
        assert_eq!(pinned.worker.pins.len(), 2);
        assert_ne!(pinned.digest, policy.digest);
        let mut other = compile("u.toml", "version = 1\ntool = \"u\"\n").unwrap();
        let error = lock().apply(&mut other).unwrap_err();
        assert_eq!(error.message, "it is for the tool `t`, not for `u`");
        let inline = format!(
            "{text}[[worker.pin]]\npath = \"/opt/t/lib\"\nkind = \"directory\"\nsha256 = \"{}\"\n",
            "cd".repeat(32)
        );
        let mut inline = compile("t.toml", &inline).unwrap();
        let error = lock().apply(&mut inline).unwrap_err();
        assert_eq!(
            error.message,
            "`/opt/t/lib`: `worker.pin` of the policy says another sum"
        );
    }
}
