//! Output of the policy verbs: colour only on a terminal, refused policies as pictures there and as
//! plain lines elsewhere. A reader that goes away (`| head`) is no error.

use std::{
    env,
    io::{self, ErrorKind, IsTerminal, Write},
    path::Path,
};

use serde_json::{Value, json};

use crate::{
    exit::Code,
    policy::store::{SetError, StoreError},
};

/// Columns of a picture where the terminal does not say.
const WIDTH: usize = 100;

/// Colours that the policy verbs use.
#[derive(Clone, Copy, Debug)]
pub(in crate::cli) enum Colour {
    /// Allowed, added.
    Green,
    /// Refused, removed.
    Red,
    /// Changed, observed.
    Yellow,
    /// Names of fields.
    Dim,
}

/// Text in a colour, if the standard output is a terminal that wants it.
pub(in crate::cli) fn paint(colour: Colour, text: &str) -> String {
    if !wants_colour(&io::stdout()) {
        return text.to_owned();
    }
    let code = match colour {
        Colour::Green => "32",
        Colour::Red => "31",
        Colour::Yellow => "33",
        Colour::Dim => "2",
    };
    format!("\u{1b}[{code}m{text}\u{1b}[0m")
}

/// <https://no-color.org>
fn wants_colour(stream: &impl IsTerminal) -> bool {
    let refused = env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    stream.is_terminal() && !refused
}

/// What a verb answers; printed by one place, so that tests read what a shell would.
#[derive(Debug)]
pub(in crate::cli) struct Answer {
    /// How the command ends.
    pub(in crate::cli) code: Code,
    /// For the standard output.
    pub(in crate::cli) out: String,
    /// For standard error.
    pub(in crate::cli) err: String,
}

impl Answer {
    /// An answer for the standard output.
    pub(in crate::cli) fn text(code: Code, out: String) -> Self {
        Self {
            code,
            out,
            err: String::new(),
        }
    }

    /// JSON, indented, with a final newline.
    pub(in crate::cli) fn json(code: Code, value: &Value) -> anyhow::Result<Self> {
        let text = serde_json::to_string_pretty(value)?;
        Ok(Self::text(code, format!("{text}\n")))
    }

    /// What is wrong with policies: on the standard output as JSON, else on standard error.
    pub(in crate::cli) fn refused(
        code: Code,
        error: &SetError,
        as_json: bool,
    ) -> anyhow::Result<Self> {
        if as_json {
            let value = json!({ "ok": false, "policies": [], "errors": objects(error) });
            return Self::json(code, &value);
        }
        let stderr = io::stderr();
        let (picture, colour) = (stderr.is_terminal(), wants_colour(&stderr));
        let texts: Vec<String> = error
            .0
            .iter()
            .map(|error| one(error, picture, colour))
            .collect();
        Ok(Self {
            code,
            out: String::new(),
            err: texts.concat(),
        })
    }

    /// The command line is at fault.
    pub(in crate::cli) fn usage(error: &dyn std::error::Error) -> Self {
        Self {
            code: Code::Usage,
            out: String::new(),
            err: format!("error: {error}\n"),
        }
    }

    /// Prints it.
    pub(in crate::cli) fn tell(self) -> io::Result<Code> {
        for done in [
            io::stdout().lock().write_all(self.out.as_bytes()),
            io::stderr().lock().write_all(self.err.as_bytes()),
        ] {
            match done {
                Err(error) if error.kind() == ErrorKind::BrokenPipe => {}
                other => other?,
            }
        }
        Ok(self.code)
    }
}

fn one(error: &StoreError, picture: bool, colour: bool) -> String {
    match error {
        StoreError::Policy(error) if picture => error.graphical(colour, width()),
        StoreError::Policy(error) => error.plain(),
        StoreError::Read { source, .. } => format!("error: {error}: {source}\n"),
        StoreError::TooLarge { .. }
        | StoreError::NotAFile { .. }
        | StoreError::NotText { .. }
        | StoreError::Lock { .. }
        | StoreError::Unlocked { .. }
        | StoreError::Distrusted(_)
        | StoreError::SetTooLarge { .. } => format!("error: {error}\n"),
    }
}

fn width() -> usize {
    let columns = env::var("COLUMNS").ok();
    columns
        .and_then(|columns| columns.parse().ok())
        .unwrap_or(WIDTH)
        .clamp(40, 200)
}

/// One object a finding; a file that could not be read has no line.
fn objects(error: &SetError) -> Vec<Value> {
    error
        .0
        .iter()
        .flat_map(|error| match error {
            StoreError::Policy(error) => error.json(),
            StoreError::Distrusted(distrust) => vec![object(distrust.path(), error)],
            StoreError::Read { path, .. }
            | StoreError::TooLarge { path }
            | StoreError::NotAFile { path }
            | StoreError::NotText { path, .. }
            | StoreError::Lock { path, .. }
            | StoreError::Unlocked { path, .. }
            | StoreError::SetTooLarge { path, .. } => vec![object(path, error)],
        })
        .collect()
}

fn object(path: &Path, error: &StoreError) -> Value {
    let chain = one(error, false, false);
    json!({
        "file": path.display().to_string(),
        "line": null,
        "column": null,
        "code": "file",
        "message": chain.trim_start_matches("error: ").trim_end(),
        "text": "",
        "hint": null,
        "related_line": null,
    })
}
