//! `stockade token issue`: a token of the embedded issuer.

use std::{
    fs::File,
    io::{self, Read, Write as _},
    path::{Path, PathBuf},
};

use clap::{ArgGroup, Args};

use super::{ask_token, key};
use crate::{
    broker::{jose::base64url, proof::Signer},
    cli::{Failure, Target},
    daemon::control::token::{TokenReply, TokenRequest},
    exit::Code,
    json::{self, Limits},
    policy::quantity,
};

/// Issues a token and prints it: whoever has it and the proof key may do what it names.
#[derive(Debug, Args)]
#[command(
    group = ArgGroup::new("holder").required(true).args(["jkt", "key"]),
    after_help = "Examples:\n  stockade token issue --tool invoice --scope invoice:read --subject alice --client orchestrator --key proof.pem\n  stockade token issue --tool invoice --scope invoice:create --subject alice --client orchestrator --key proof.pem --ttl 1m --arguments call.json"
)]
pub(in crate::cli) struct Issue {
    #[command(flatten)]
    target: Target,
    /// The user.
    #[arg(long, value_name = "NAME")]
    subject: String,
    /// The caller's software.
    #[arg(long, value_name = "NAME")]
    client: String,
    /// What it is for; may be given more than once.
    #[arg(long = "scope", value_name = "SCOPE", required = true)]
    scopes: Vec<String>,
    /// The one tool that it is for.
    #[arg(long, value_name = "TOOL")]
    tool: Option<String>,
    /// Thumbprint of the holder's proof key, as `token key` prints it.
    #[arg(long, value_name = "THUMBPRINT", allow_hyphen_values = true)]
    jkt: Option<String>,
    /// The holder's proof key, instead of its thumbprint.
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// How long it lives, like `90s` or `5m`.
    #[arg(long, value_name = "TIME", value_parser = quantity::seconds)]
    ttl: Option<u64>,
    /// What the user wants done.
    #[arg(long, value_name = "TEXT")]
    purpose: Option<String>,
    /// Hash of the session of the caller.
    #[arg(long, value_name = "HASH")]
    session_hash: Option<String>,
    /// Only for these arguments: a JSON file, or `-`.
    #[arg(long, value_name = "FILE", conflicts_with = "arguments_digest")]
    arguments: Option<PathBuf>,
    /// Only for arguments with this digest: SHA-256 of their canonical JSON, base64url.
    #[arg(long, value_name = "DIGEST", allow_hyphen_values = true)]
    arguments_digest: Option<String>,
    /// Print JSON, with id and expiry.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(asked: Issue) -> Result<(), Failure> {
    let Issue {
        target,
        subject,
        client,
        scopes,
        tool,
        jkt,
        key,
        ttl,
        purpose,
        session_hash,
        arguments,
        arguments_digest,
        json,
    } = asked;
    let jkt = match (jkt, key) {
        (Some(jkt), _) => jkt,
        (None, Some(file)) => {
            let signer = Signer::load(&file);
            signer.map_err(|error| key::failure(&error))?.jkt()
        }
        (None, None) => return Err(Failure::said(Code::Usage, "token: no key of the holder")),
    };
    let arguments_digest = match arguments {
        Some(file) => Some(digest_of(&file)?),
        None => arguments_digest,
    };
    let request = TokenRequest::Issue {
        subject,
        client,
        scopes,
        tool,
        seconds: ttl,
        jkt,
        purpose,
        session_hash,
        arguments_digest,
    };
    let TokenReply::Issued(issued) = ask_token(&target, request)? else {
        return Err(Failure::odd_answer());
    };
    let mut stdout = io::stdout().lock();
    if json {
        serde_json::to_writer_pretty(&mut stdout, &issued)?;
        writeln!(stdout)?;
    } else {
        writeln!(stdout, "{}", issued.access_token)?;
    }
    Ok(())
}

/// The digest of arguments as the broker computes it.
fn digest_of(file: &Path) -> Result<String, Failure> {
    let limits = Limits::default();
    let bound = u64::try_from(limits.bytes)
        .unwrap_or(u64::MAX)
        .saturating_add(1);
    let mut bytes = Vec::new();
    let read = if file == Path::new("-") {
        io::stdin().lock().take(bound).read_to_end(&mut bytes)
    } else {
        File::open(file).and_then(|open| open.take(bound).read_to_end(&mut bytes))
    };
    let name = file.display();
    read.map_err(|error| Failure::said(Code::Usage, format!("arguments `{name}`: {error}")))?;
    let value = json::parse(&bytes, limits)
        .map_err(|error| Failure::said(Code::Usage, format!("arguments `{name}`: {error}")))?;
    if !value.is_object() {
        let message = format!("arguments `{name}`: no JSON object");
        return Err(Failure::said(Code::Usage, message));
    }
    Ok(base64url(&json::digest(&value)))
}
