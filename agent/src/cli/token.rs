//! `stockade token`: access tokens of the embedded issuer, revocation, and the keys of their holders.

mod issue;
mod key;

use std::{
    io::{self, Write as _},
    process::ExitCode,
};

use clap::{ArgGroup, Args, Subcommand};

use super::{
    Failure, Target, ask,
    terminal::{harmless, table},
};
use crate::{
    broker::issuer::{self, Revocation},
    daemon::control::{
        protocol::{Reply, Request},
        token::{TokenReply, TokenRequest},
    },
    exit::Code,
    timestamp::Timestamp,
};

/// What to do with access tokens.
#[derive(Debug, Subcommand)]
pub(super) enum TokenCommand {
    /// Issue a token, bound to the key of its holder
    Issue(issue::Issue),
    /// Make a proof key, or show the thumbprint of one
    Key(key::Arguments),
    /// Give the embedded issuer another key
    Rotate(Rotate),
    /// Refuse tokens that were issued
    Revoke(Revoke),
    /// List what was revoked
    Revocations(Revocations),
    /// Print the public keys of the embedded issuer as a JWK set
    Keys(Keys),
}

/// Gives the embedded issuer another key. Tokens of the old one live to their end, unless forced.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  stockade token rotate --force")]
pub(super) struct Rotate {
    #[command(flatten)]
    target: Target,
    /// Refuse every token of the old keys from now on.
    #[arg(long)]
    force: bool,
}

/// Refuses tokens that were issued; in force at once, and over restarts.
///
/// A token or key is revoked for good. For a subject, client or tool every token that was issued up to
/// this second is refused, later ones are not.
#[derive(Debug, Args)]
#[command(
    group = ArgGroup::new("what").required(true).args(["id", "subject", "client", "tool", "key"]),
    after_help = "Example:\n  stockade token revoke --subject alice"
)]
pub(super) struct Revoke {
    #[command(flatten)]
    target: Target,
    /// The token of this id (`jti`).
    #[arg(long, value_name = "ID", allow_hyphen_values = true)]
    id: Option<String>,
    /// The tokens of this user.
    #[arg(long, value_name = "NAME")]
    subject: Option<String>,
    /// The tokens of this software.
    #[arg(long, value_name = "NAME")]
    client: Option<String>,
    /// The tokens for this tool.
    #[arg(long, value_name = "TOOL")]
    tool: Option<String>,
    /// The tokens that this key signed (`kid`). One of the embedded issuer is replaced.
    #[arg(long, value_name = "ID", allow_hyphen_values = true)]
    key: Option<String>,
}

/// Lists what was revoked.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  stockade token revocations --json")]
pub(super) struct Revocations {
    #[command(flatten)]
    target: Target,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Prints the public keys of the embedded issuer.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  stockade token keys > stockade.jwks")]
pub(super) struct Keys {
    #[command(flatten)]
    target: Target,
}

impl TokenCommand {
    pub(super) fn run(self) -> Result<ExitCode, Failure> {
        match self {
            Self::Issue(arguments) => issue::run(arguments)?,
            Self::Key(arguments) => key::run(&arguments)?,
            Self::Rotate(arguments) => rotate(&arguments)?,
            Self::Revoke(arguments) => revoke(arguments)?,
            Self::Revocations(arguments) => revocations(&arguments)?,
            Self::Keys(arguments) => keys(&arguments)?,
        }
        Ok(Code::Ok.into())
    }
}

/// Asks the agent something about tokens.
fn ask_token(target: &Target, ask_for: TokenRequest) -> Result<TokenReply, Failure> {
    let Reply::Token(reply) = ask(target, &Request::Token { ask: ask_for })? else {
        return Err(Failure::odd_answer());
    };
    Ok(reply)
}

fn rotate(arguments: &Rotate) -> Result<(), Failure> {
    let force = arguments.force;
    let reply = ask_token(&arguments.target, TokenRequest::Rotate { force })?;
    let TokenReply::Rotated { key_id } = reply else {
        return Err(Failure::odd_answer());
    };
    writeln!(io::stdout(), "{key_id} signs from now on")?;
    Ok(())
}

fn revoke(arguments: Revoke) -> Result<(), Failure> {
    let Revoke {
        target: agent,
        id,
        subject,
        client,
        tool,
        key,
    } = arguments;
    let named = [
        id.map(issuer::Target::Token),
        subject.map(issuer::Target::Subject),
        client.map(issuer::Target::Client),
        tool.map(issuer::Target::Tool),
        key.map(issuer::Target::Key),
    ];
    let Some(target) = named.into_iter().flatten().next() else {
        return Err(Failure::said(Code::Usage, "token: nothing named to revoke"));
    };
    let said = match &target {
        issuer::Target::Token(name) => format!("token `{name}` is refused"),
        issuer::Target::Key(name) => format!("tokens of key `{name}` are refused"),
        issuer::Target::Subject(name)
        | issuer::Target::Client(name)
        | issuer::Target::Tool(name) => {
            format!("tokens of `{name}` that were issued until now are refused")
        }
    };
    let TokenReply::Revoked { new_key_id } = ask_token(&agent, TokenRequest::Revoke { target })?
    else {
        return Err(Failure::odd_answer());
    };
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "{}", harmless(&said))?;
    if let Some(key_id) = new_key_id {
        writeln!(stdout, "{key_id} signs from now on")?;
    }
    Ok(())
}

fn revocations(arguments: &Revocations) -> Result<(), Failure> {
    let reply = ask_token(&arguments.target, TokenRequest::Revocations {})?;
    let TokenReply::Revocations { revocations } = reply else {
        return Err(Failure::odd_answer());
    };
    let mut stdout = io::stdout().lock();
    if arguments.json {
        serde_json::to_writer_pretty(&mut stdout, &revocations)?;
        writeln!(stdout)?;
    } else {
        let rows: Vec<_> = revocations.iter().map(row).collect();
        stdout.write_all(table(&["since", "what", "name"], &rows).as_bytes())?;
    }
    Ok(())
}

fn row(revocation: &Revocation) -> Vec<String> {
    let kind = match &revocation.target {
        issuer::Target::Token(_) => "token",
        issuer::Target::Subject(_) => "subject",
        issuer::Target::Client(_) => "client",
        issuer::Target::Tool(_) => "tool",
        issuer::Target::Key(_) => "key",
    };
    let since = std::time::Duration::from_secs(revocation.at);
    let since = std::time::UNIX_EPOCH
        .checked_add(since)
        .unwrap_or(std::time::UNIX_EPOCH);
    vec![
        Timestamp::from(since).to_string(),
        kind.to_owned(),
        harmless(revocation.target.name()),
    ]
}

fn keys(arguments: &Keys) -> Result<(), Failure> {
    let TokenReply::Keys { jwks, .. } = ask_token(&arguments.target, TokenRequest::Keys {})? else {
        return Err(Failure::odd_answer());
    };
    let mut stdout = io::stdout().lock();
    serde_json::to_writer_pretty(&mut stdout, &jwks)?;
    writeln!(stdout)?;
    Ok(())
}
