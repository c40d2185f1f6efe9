//! `stockade call`: one call through the broker's plain face, for people and scripts. It goes the way of
//! every call; for an operator without a token the agent issues one that is good for this call alone.

use std::{
    io::{self, Read as _, Write as _},
    process::ExitCode,
};

use clap::Args;
use hyper::{HeaderMap, StatusCode, body::Bytes, header::HeaderValue};
use serde_json::{Map, Value, json};

use super::{
    Failure, ask,
    caller::{Caller, Post, Shown, Source, load, whole},
    runtime,
};
use crate::{
    broker::{
        jose::{Algorithm, base64url},
        proof::Signer,
    },
    daemon::control::{
        protocol::{Reply, Request},
        token::{TokenReply, TokenRequest},
    },
    exit::Code,
    json::{self, Limits},
    secret::Secret,
};

/// Life of a token for one call, seconds.
const TOKEN_SECONDS: u64 = 60;
/// What such a token says of the caller's software.
const CLIENT: &str = "stockade-call";

/// Calls one operation of a tool and prints its result.
///
/// Without a token, root and the members of the control group get one for this call, bound to its
/// arguments.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  stockade call invoice read --arguments '{\"id\": \"INV-0A1B2C3D\"}'
  stockade call invoice create --arguments - --idempotency-key order-4711 < invoice.json
  stockade call invoice read --arguments '{\"id\": \"INV-0A1B2C3D\"}' --key proof.pem --token-file token")]
pub(super) struct Arguments {
    /// The tool.
    tool: String,
    /// The operation.
    verb: String,
    /// The arguments: a JSON object, or `-` for stdin.
    #[arg(long = "arguments", value_name = "JSON", default_value = "{}")]
    values: String,
    /// The same key and arguments get the same answer; what ran does not run again.
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<String>,
    /// The scope of the token that is issued, where it is not `TOOL:VERB`.
    #[arg(long, value_name = "SCOPE")]
    scope: Option<String>,
    /// What the call is for; the token that is issued says so.
    #[arg(long, value_name = "TEXT")]
    purpose: Option<String>,
    /// Print JSON: the result, or the refusal.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    shown: Shown,
}

pub(super) fn run(arguments: Arguments) -> Result<ExitCode, Failure> {
    let values = read(&arguments.values)?;
    let call = json!({ "tool": arguments.tool, "verb": arguments.verb, "arguments": values });
    let mut headers = HeaderMap::new();
    if let Some(key) = &arguments.idempotency_key {
        let key = HeaderValue::from_str(key).map_err(|_odd| {
            Failure::said(Code::Usage, "idempotency key: holds what no header may")
        })?;
        headers.insert("idempotency-key", key);
    }
    let as_json = arguments.json;
    let caller = if arguments.shown.token.is_given() {
        Caller::of(arguments.shown)?
    } else {
        issued(arguments, &values)?
    };
    let post = Post {
        path: "/v1/calls",
        headers,
        body: Bytes::from(call.to_string()),
    };
    let (status, body) = runtime()?.block_on(async {
        let response = caller.send(&post).await?;
        let status = response.status();
        Ok::<_, Failure>((status, whole(response).await?))
    })?;
    let answer: Value = serde_json::from_slice(&body).map_err(|_no_json| {
        Failure::said(
            Code::Unavailable,
            format!("broker: answered with HTTP {status}"),
        )
    })?;
    if as_json {
        let mut stdout = io::stdout().lock();
        serde_json::to_writer_pretty(&mut stdout, &answer)?;
        writeln!(stdout)?;
        return Ok(code(status, &answer).into());
    }
    if status != StatusCode::OK {
        return Err(refused(status, &answer));
    }
    print(&answer)?;
    Ok(code(status, &answer).into())
}

/// The arguments, as strictly read as the broker reads them: what is hashed here must be what is
/// hashed there.
fn read(text: &str) -> Result<Value, Failure> {
    let limits = Limits::default();
    let mut bytes = Vec::new();
    if text == "-" {
        let bound = u64::try_from(limits.bytes)
            .unwrap_or(u64::MAX)
            .saturating_add(1);
        let read = io::stdin().lock().take(bound).read_to_end(&mut bytes);
        read.map_err(|error| Failure::said(Code::Usage, format!("arguments: {error}")))?;
    } else {
        bytes.extend_from_slice(text.as_bytes());
    }
    let value = json::parse(&bytes, limits)
        .map_err(|error| Failure::said(Code::Usage, format!("arguments: {error}")))?;
    if value.is_object() {
        Ok(value)
    } else {
        Err(Failure::said(Code::Usage, "arguments: no JSON object"))
    }
}

/// A caller with a token of the agent's own, for a key that nobody else ever has.
fn issued(arguments: Arguments, values: &Value) -> Result<Caller, Failure> {
    let Arguments {
        tool,
        verb,
        scope,
        purpose,
        shown,
        ..
    } = arguments;
    let socket = shown.socket();
    let signer = match &shown.key {
        Some(key) => load(key)?,
        None => Signer::generate(Algorithm::EdDsa)
            .map_err(|error| Failure::new(Code::Software, &error))?,
    };
    let asked = TokenRequest::Issue {
        subject: subject(),
        client: CLIENT.to_owned(),
        scopes: vec![scope.unwrap_or_else(|| format!("{tool}:{verb}"))],
        tool: Some(tool),
        seconds: Some(TOKEN_SECONDS),
        jkt: signer.jkt(),
        purpose,
        session_hash: None,
        arguments_digest: Some(base64url(&json::digest(values))),
    };
    let reply = ask(&shown.target, &Request::Token { ask: asked })?;
    let Reply::Token(TokenReply::Issued(issued)) = reply else {
        return Err(Failure::odd_answer());
    };
    let source = Source::Given(Secret::new(issued.access_token));
    Ok(Caller::new(socket, signer, source, Some(issued.resource)))
}

/// Who calls: the name of the user, or the number where it has none.
fn subject() -> String {
    let uid = nix::unistd::getuid();
    let user = nix::unistd::User::from_uid(uid).ok().flatten();
    user.map_or_else(|| format!("uid:{uid}"), |user| user.name)
}

/// Prints what people read: the structured result, or the texts where there is none.
fn print(answer: &Value) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    if let Some(structured) = answer.get("structured").filter(|value| !value.is_null()) {
        let text = serde_json::to_string_pretty(structured)?;
        writeln!(stdout, "{}", visible(&text))?;
        return Ok(());
    }
    let blocks = answer.get("content").and_then(Value::as_array);
    for block in blocks.into_iter().flatten() {
        let other = || block.to_string();
        let text = block.get("text").and_then(Value::as_str);
        let text = text.map_or_else(other, str::to_owned);
        writeln!(stdout, "{}", visible(&text))?;
    }
    Ok(())
}

/// A worker's text without anything that moves a cursor, hides or turns letters around; its lines stay.
fn visible(text: &str) -> String {
    let hides = |c: char| {
        (c.is_control() && c != '\n' && c != '\t')
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{e0000}'..='\u{e007f}')
    };
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if hides(c) {
            shown.extend(c.escape_unicode());
        } else {
            shown.push(c);
        }
    }
    shown
}

/// A refusal in words: the sentence, the places, what to do.
fn refused(status: StatusCode, answer: &Value) -> Failure {
    let empty = Map::new();
    let facts = answer.as_object().unwrap_or(&empty);
    let text = |key: &str| facts.get(key).and_then(Value::as_str).unwrap_or_default();
    let mut message = format!("call refused: {} ({})", text("title"), text("reason"));
    let places = facts.get("places").and_then(Value::as_array);
    for place in places.into_iter().flatten() {
        let part = |key: &str| place.get(key).and_then(Value::as_str).unwrap_or_default();
        let at = if part("at").is_empty() {
            "(root)"
        } else {
            part("at")
        };
        message = format!("{message}\n  {}: {}", visible(at), visible(part("rule")));
    }
    if let Some(seconds) = facts.get("retryAfter").and_then(Value::as_u64) {
        message = format!("{message}\nhint: ask again in {seconds} s");
    } else if text("reason") == "unknown_or_forbidden" {
        message = format!(
            "{message}\nhint: `stockade policy show TOOL` names operations and their scopes; `--scope`"
        );
    }
    Failure::said(code(status, answer), message)
}

fn code(status: StatusCode, answer: &Value) -> Code {
    match status {
        StatusCode::OK if answer.get("isError").and_then(Value::as_bool) == Some(true) => {
            Code::Finding
        }
        StatusCode::OK => Code::Ok,
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Code::NoPermission,
        StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE | StatusCode::CONFLICT => {
            Code::TryAgain
        }
        status if status.is_client_error() => Code::Usage,
        _ => Code::Unavailable,
    }
}

#[cfg(test)]
mod tests {
    use super::visible;

    #[test]
    fn a_text_moves_no_cursor_and_keeps_its_lines() {
        assert_eq!(visible("{\"a\": 1}\n"), "{\"a\": 1}\n");
        assert_eq!(
            visible("a\u{1b}[2J\u{202e}b\r"),
            "a\\u{1b}[2J\\u{202e}b\\u{d}"
        );
    }
}
