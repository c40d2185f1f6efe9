//! `stockade token key`: makes the key with which a client proves that a token is its own.

use std::{
    io::{self, Write as _},
    path::PathBuf,
};

use clap::{Args, ValueEnum};
use serde_json::json;

use crate::{
    broker::{
        jose::Algorithm,
        proof::{Signer, SignerError},
    },
    cli::Failure,
    exit::Code,
};

/// Makes a proof key in a file of mode 0600 and prints its thumbprint, which `token issue` wants. A file
/// that is there is not touched.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  stockade token key ~/.config/stockade/proof.pem\n  stockade token key --show ~/.config/stockade/proof.pem"
)]
pub(in crate::cli) struct Arguments {
    /// The key's file: PKCS#8, PEM.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Make nothing; print the thumbprint of the key that is there.
    #[arg(long)]
    show: bool,
    /// Kind of the key.
    #[arg(long, value_enum, default_value = "es256", conflicts_with = "show")]
    algorithm: Kind,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Kind {
    /// P-256.
    Es256,
    /// Ed25519.
    Ed25519,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let signer = if arguments.show {
        Signer::load(&arguments.file)
    } else {
        let algorithm = match arguments.algorithm {
            Kind::Es256 => Algorithm::Es256,
            Kind::Ed25519 => Algorithm::EdDsa,
        };
        Signer::generate(algorithm).and_then(|signer| {
            signer.save(&arguments.file)?;
            Ok(signer)
        })
    };
    let jkt = signer.map_err(|error| failure(&error))?.jkt();
    let mut stdout = io::stdout().lock();
    if arguments.json {
        writeln!(stdout, "{}", json!({ "jkt": jkt }))?;
    } else {
        writeln!(stdout, "{jkt}")?;
    }
    Ok(())
}

/// A proof key can not be used.
pub(super) fn failure(error: &SignerError) -> Failure {
    let code = match error {
        SignerError::File(_) | SignerError::Absent | SignerError::Pem => Code::CanNotCreate,
        SignerError::Pair(_) | SignerError::Algorithm => Code::Software,
    };
    Failure::new(code, error)
}
