//! `stockade audit verify`: whether the journal is as it was written.

use std::{
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};

use serde_json::json;

use super::Which;
use crate::{
    audit::{Against, VerifierKey, VerifyError, Whole, notes, verify},
    cli::Failure,
    exit::Code,
};

/// Finds the first place of the journal that was edited, cut, moved, doubled or left out.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Exit codes: 0 it is whole; 1 it is not; 69 it can not be read.
Who can write the journal's folder can also replace the key and the checkpoint in it: keep copies of
journal.pub and, now and then, of journal.checkpoint elsewhere.

Example:
  stockade audit verify --key /mnt/kept/journal.pub --checkpoint /mnt/kept/journal.checkpoint
  journalctl -t stockade-checkpoint -o cat | stockade audit verify --checkpoint -")]
pub(in crate::cli) struct Arguments {
    #[command(flatten)]
    which: Which,
    /// The key that was kept, instead of the one that lies beside the journal.
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// Checkpoints that were kept, one or several one after another; `-` is the standard input. May be
    /// given more than once.
    #[arg(long, value_name = "FILE")]
    checkpoint: Vec<PathBuf>,
    /// Number of the first record, where older files were taken away on purpose.
    #[arg(long, value_name = "NUMBER")]
    from: Option<u64>,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: Arguments) -> Result<ExitCode, Failure> {
    let Arguments {
        which,
        key,
        checkpoint,
        from,
        json,
    } = arguments;
    let key = key.map(|path| read_key(&path)).transpose()?;
    let checkpoints = checkpoint.iter().map(|path| read_notes(path));
    let against = Against {
        key,
        from,
        checkpoints: checkpoints.collect::<Result<Vec<_>, _>>()?.concat(),
    };
    let path = which.path();
    let mut stdout = io::stdout();
    match verify(&path, &against) {
        Ok(whole) if json => {
            writeln!(stdout, "{}", object(&whole))?;
            Ok(Code::Ok.into())
        }
        Ok(whole) => {
            write!(stdout, "{}", text(&path, &whole))?;
            Ok(Code::Ok.into())
        }
        Err(VerifyError::Found(finding)) => {
            if json {
                let object = json!({"whole": false, "finding": finding.to_string()});
                writeln!(stdout, "{object}")?;
            } else {
                writeln!(stdout, "not whole: {finding}")?;
            }
            Ok(Code::Finding.into())
        }
        Err(VerifyError::Unreadable(error)) => Err(error.into()),
        Err(error @ (VerifyError::NoJournal(_) | VerifyError::NoKey(_))) => {
            Err(Failure::new(Code::Unavailable, &error))
        }
    }
}

fn read(path: &Path) -> Result<String, Failure> {
    fs::read_to_string(path).map_err(|error| {
        let message = format!("`{}`: can not be read: {error}", path.display());
        Failure::said(Code::Unavailable, message)
    })
}

fn read_notes(path: &Path) -> Result<Vec<String>, Failure> {
    let text = if path == Path::new("-") {
        io::read_to_string(io::stdin())?
    } else {
        read(path)?
    };
    let notes = notes(&text);
    if notes.is_empty() {
        // Held against nothing, every journal would be whole.
        let message = format!("`{}`: no checkpoint in it", path.display());
        return Err(Failure::said(Code::Unavailable, message));
    }
    Ok(notes)
}

fn read_key(path: &Path) -> Result<VerifierKey, Failure> {
    VerifierKey::read(&read(path)?).map_err(|error| {
        let message = format!(
            "`{}`: {error}\nhint: it is the journal.pub beside the journal",
            path.display()
        );
        Failure::said(Code::Unavailable, message)
    })
}

fn object(whole: &Whole) -> serde_json::Value {
    let Whole {
        key,
        files,
        first,
        last,
        signed,
        unfinished_bytes,
        open,
        plain_bytes,
    } = whole;
    json!({
        "whole": true,
        "key": key,
        "files": files,
        "first": first,
        "last": last,
        "signed": signed,
        "unfinished_bytes": unfinished_bytes,
        "open": open,
        "plain_bytes": plain_bytes,
    })
}

fn text(path: &Path, whole: &Whole) -> String {
    let Whole {
        key,
        files,
        first,
        last,
        signed,
        unfinished_bytes,
        open,
        plain_bytes,
    } = whole;
    let first_line = format!(
        "`{}`: whole: records {first} to {last} in {files} files, signed up to {signed} by {key}\n",
        path.display()
    );
    let unsigned = last.saturating_sub(*signed);
    let told = [
        (
            unsigned,
            "records are chained and not signed yet: a cut among them would not be seen",
        ),
        (
            *unfinished_bytes,
            "bytes of a record that is not finished: the agent writes it, or was killed",
        ),
        (*open, "things have begun and not ended"),
        (
            *plain_bytes,
            "bytes of an older file without a chain, unchanged since this journal goes on from it",
        ),
    ];
    let told = told.into_iter().filter(|(count, _)| *count > 0);
    std::iter::once(first_line)
        .chain(told.map(|(count, what)| format!("{count} {what}\n")))
        .collect()
}
