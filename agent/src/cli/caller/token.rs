//! Where a caller's access token comes from. It is never an argument: those are seen by every process.

use std::{
    fs::File,
    io::{self, Read as _},
    path::{Path, PathBuf},
    process::Stdio,
    sync::{Mutex, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use clap::Args;
use serde_json::Value;
use tokio::{process::Command, time::timeout};

use crate::{cli::Failure, exit::Code, secret::Secret};

/// Longest token, bytes.
const TOKEN_BYTES_MAX: u64 = 16 * 1_024;
/// Time that a command has to print one.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(30);
/// A token that lives shorter than this is not shown any more.
const LIFE_LEFT: Duration = Duration::from_secs(10);

/// Where the token comes from; one of them.
#[derive(Debug, Args)]
#[group(id = "token_source", multiple = false)]
#[expect(clippy::struct_field_names, reason = "the names of the options")]
pub(in crate::cli) struct Arguments {
    /// Read the token from this descriptor, once.
    #[arg(long, value_name = "NUMBER")]
    token_fd: Option<u32>,
    /// Read the token from this file, each time.
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Run this (by `sh -c`) for a token, again when the last one ends.
    #[arg(long, value_name = "COMMAND")]
    token_command: Option<String>,
}

impl Arguments {
    /// Whether one is named.
    pub(in crate::cli) fn is_given(&self) -> bool {
        let Self {
            token_fd,
            token_file,
            token_command,
        } = self;
        token_fd.is_some() || token_file.is_some() || token_command.is_some()
    }
}

/// A source of tokens.
pub(in crate::cli) enum Source {
    /// One token and no other.
    Given(Secret<String>),
    /// A file whose content others renew.
    File(PathBuf),
    /// A command, and what it printed last.
    Command {
        line: String,
        last: Mutex<Option<Secret<String>>>,
    },
}

impl Source {
    /// The source that options name.
    pub(in crate::cli) fn of(arguments: Arguments) -> Result<Self, Failure> {
        let Arguments {
            token_fd,
            token_file,
            token_command,
        } = arguments;
        if let Some(number) = token_fd {
            // The process's own descriptor by the name that the kernel gives it (proc(5)).
            let path = format!("/proc/self/fd/{number}");
            return Ok(Self::Given(read(Path::new(&path))?));
        }
        if let Some(file) = token_file {
            return Ok(Self::File(file));
        }
        if let Some(line) = token_command {
            let last = Mutex::default();
            return Ok(Self::Command { line, last });
        }
        let message = "access token: none is named\nhint: `--token-file`, `--token-fd` or `--token-command`; `stockade token issue` makes one";
        Err(Failure::said(Code::Usage, message))
    }

    /// The token to show now.
    pub(in crate::cli) async fn token(&self) -> Result<Secret<String>, Failure> {
        match self {
            Self::Given(token) => Ok(copy(token)),
            Self::File(path) => read(path),
            Self::Command { line, last } => {
                let kept = {
                    let last = last.lock().unwrap_or_else(PoisonError::into_inner);
                    last.as_ref()
                        .filter(|token| lives(token.expose()))
                        .map(copy)
                };
                if let Some(token) = kept {
                    return Ok(token);
                }
                let token = run(line).await?;
                let mut last = last.lock().unwrap_or_else(PoisonError::into_inner);
                *last = Some(copy(&token));
                Ok(token)
            }
        }
    }

    /// Forgets what the broker refused; tells whether there may be another.
    pub(in crate::cli) fn forget(&self) -> bool {
        match self {
            Self::Given(_) => false,
            Self::File(_) => true,
            Self::Command { last, .. } => {
                *last.lock().unwrap_or_else(PoisonError::into_inner) = None;
                true
            }
        }
    }
}

/// The one audience of a token: what its proofs must be for. The token is the caller's own, so its
/// words need no check here; the broker checks them.
pub(super) fn audience(token: &str) -> Option<String> {
    match claims(token)?.get("aud")? {
        Value::String(audience) => Some(audience.clone()),
        Value::Array(audiences) => match audiences.as_slice() {
            [Value::String(audience)] => Some(audience.clone()),
            _ => None,
        },
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => None,
    }
}

fn claims(token: &str) -> Option<Value> {
    let payload = token.split('.').nth(1)?;
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).ok()?).ok()
}

/// Whether a token lives for some time yet; one that does not tell does.
fn lives(token: &str) -> bool {
    let expires = claims(token).and_then(|claims| claims.get("exp").and_then(Value::as_u64));
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    expires.is_none_or(|expires| expires > now.saturating_add(LIFE_LEFT).as_secs())
}

fn copy(token: &Secret<String>) -> Secret<String> {
    Secret::new(token.expose().clone())
}

fn read(path: &Path) -> Result<Secret<String>, Failure> {
    let mut text = String::new();
    File::open(path)
        .and_then(|file| file.take(TOKEN_BYTES_MAX).read_to_string(&mut text))
        .map_err(|error| unreadable(&path.display().to_string(), &error))?;
    token(&Secret::new(text))
}

async fn run(line: &str) -> Result<Secret<String>, Failure> {
    let mut command = Command::new("/bin/sh");
    // Its stdin is not ours: a host's messages come there.
    command
        .args(["-c", line])
        .stdin(Stdio::null())
        .stderr(Stdio::inherit());
    command.kill_on_drop(true);
    let output = timeout(COMMAND_TIMEOUT, command.output())
        .await
        .map_err(|_elapsed| unreadable("command", &io::ErrorKind::TimedOut.into()))?
        .map_err(|error| unreadable("command", &error))?;
    if !output.status.success() {
        let message = format!("access token: the command ended with {}", output.status);
        return Err(Failure::said(Code::Unavailable, message));
    }
    let text = String::from_utf8(output.stdout).unwrap_or_default();
    token(&Secret::new(text))
}

/// The token of what was read; neither empty nor more than one line.
fn token(text: &Secret<String>) -> Result<Secret<String>, Failure> {
    let trimmed = text.expose().trim();
    if trimmed.is_empty() || trimmed.contains(char::is_whitespace) {
        let message = "access token: what was read is not one token";
        return Err(Failure::said(Code::Unavailable, message));
    }
    Ok(Secret::new(trimmed.to_owned()))
}

fn unreadable(what: &str, error: &io::Error) -> Failure {
    let message = format!("access token `{what}`: can not be read: {error}");
    Failure::said(Code::Unavailable, message)
}

#[cfg(test)]
mod tests {
    use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};

    use super::{audience, lives, token};
    use crate::secret::Secret;

    fn with(claims: &str) -> String {
        format!("e30.{}.sig", URL_SAFE_NO_PAD.encode(claims))
    }

    #[test]
    fn proofs_are_for_the_one_audience() {
        let one = with(r#"{"aud":"https://a"}"#);
        assert_eq!(audience(&one).as_deref(), Some("https://a"));
        let list = with(r#"{"aud":["https://a"]}"#);
        assert_eq!(audience(&list).as_deref(), Some("https://a"));
        for none in [
            r#"{"aud":["https://a","https://b"]}"#,
            r#"{"aud":7}"#,
            "{}",
            "x",
        ] {
            assert_eq!(audience(&with(none)), None, "{none}");
        }
        assert_eq!(audience("opaque"), None);
    }

    #[test]
    fn a_token_that_ends_is_not_shown_again() {
        assert!(!lives(&with(r#"{"exp":1}"#)));
        assert!(lives(&with(r#"{"exp":99999999999}"#)));
        assert!(lives("opaque"));
    }

    #[test]
    fn what_is_no_token_is_refused() {
        let read = |text: &str| token(&Secret::new(text.to_owned())).is_ok();
        assert!(read("a.b.c\n"));
        for bad in ["", "\n", "a b", "a\nb"] {
            assert!(!read(bad), "{bad:?}");
        }
    }
}
