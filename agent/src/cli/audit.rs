//! `stockade audit`: the journal, checked and asked. It reads files and needs no agent.

mod query;
mod verify;

use std::{path::PathBuf, process::ExitCode};

use clap::{Args, Subcommand};

use super::{Failure, Target};
use crate::{audit, exit::Code};

/// What is done with the journal.
#[derive(Debug, Subcommand)]
pub(super) enum AuditCommand {
    Verify(verify::Arguments),
    Query(query::Arguments),
}

/// Which journal is meant.
#[derive(Debug, Args)]
struct Which {
    #[command(flatten)]
    target: Target,
    /// Active file of a journal, instead of the instance's.
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
}

impl AuditCommand {
    pub(super) fn run(self) -> Result<ExitCode, Failure> {
        match self {
            Self::Verify(arguments) => verify::run(arguments),
            Self::Query(arguments) => query::run(arguments),
        }
    }
}

impl Which {
    fn path(&self) -> PathBuf {
        let file = self.file.clone();
        file.unwrap_or_else(|| self.target.instance.journal_file())
    }
}

impl From<audit::Error> for Failure {
    fn from(error: audit::Error) -> Self {
        Self::new(Code::Unavailable, &error)
    }
}
