//! `stockade policy explain`: one destination, the verdict, and why.

use std::{collections::BTreeSet, net::IpAddr};

use anyhow::Context as _;
use clap::Args;
use common::{
    flow::{Address, Place},
    verdict::{Outcome, Reason, Verdict},
};
use nix::{ifaddrs::getifaddrs, sys::socket::SockaddrStorage};
use serde_json::{Value, json};

use super::{
    look::{LookError, Source},
    print::{Answer, Colour, paint},
};
use crate::{
    exit::Code,
    policy::{
        compiled::CompiledPolicy,
        digest::{mode_text, protocol_text},
        explain::{Destination, Explanation, explain},
        model::Model,
    },
};

/// Which policy, and where to.
#[derive(Args, Debug)]
#[command(
    after_help = "Exit codes: 0 it passes, 1 it is refused, 65 the policy is wrong.\n\n\
                        Examples:\n  \
                        stockade policy explain weather 185.199.109.7:443\n  \
                        stockade policy explain ./weather.toml '[2001:4860:4860::8888]:443/udp'"
)]
pub struct Arguments {
    #[command(flatten)]
    source: Source,
    /// `ADDRESS:PORT` or `[ADDRESS]:PORT`, with `/tcp` (the default) or `/udp`
    #[arg(value_name = "DESTINATION")]
    destination: String,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<Answer> {
    let destination = match arguments.destination.parse::<Destination>() {
        Ok(destination) => destination,
        Err(error) => return Ok(Answer::usage(&error)),
    };
    let policy = match arguments.source.policy() {
        Ok(policy) => policy,
        Err(LookError::Refused(error)) => {
            return Answer::refused(Code::Policy, &error, arguments.json);
        }
        Err(error) => return Ok(Answer::usage(&error)),
    };
    let model = Model::new(&policy, addresses_of_this_host()?);
    let answer = explain(&policy, &model, destination);
    let code = if answer.verdict.passes() {
        Code::Ok
    } else {
        Code::Finding
    };
    if arguments.json {
        return Answer::json(code, &object(&policy, &answer));
    }
    Ok(Answer::text(code, words(&policy, &answer)))
}

/// A destination on this host is refused whatever a public rule says, so `explain` must know them.
fn addresses_of_this_host() -> anyhow::Result<BTreeSet<Address>> {
    let addresses = getifaddrs().context("addresses of this host can not be read")?;
    Ok(addresses
        .filter_map(|interface| interface.address.as_ref().and_then(ip_of))
        .map(Address::from)
        .collect())
}

fn ip_of(storage: &SockaddrStorage) -> Option<IpAddr> {
    let v4 = storage.as_sockaddr_in().map(|v4| IpAddr::V4(v4.ip()));
    v4.or_else(|| storage.as_sockaddr_in6().map(|v6| IpAddr::V6(v6.ip())))
}

fn outcome(verdict: Verdict) -> (Outcome, Reason) {
    (verdict.outcome(), verdict.reason())
}

fn destination_text(answer: &Explanation<'_>) -> String {
    let protocol = protocol_text(answer.flow.protocol);
    let port = answer.flow.port;
    match IpAddr::from(answer.flow.address) {
        IpAddr::V4(v4) => format!("{v4}:{port}/{protocol}"),
        IpAddr::V6(v6) => format!("[{v6}]:{port}/{protocol}"),
    }
}

fn words(policy: &CompiledPolicy, answer: &Explanation<'_>) -> String {
    let (outcome, reason) = outcome(answer.verdict);
    let colour = match outcome {
        Outcome::Allow => Colour::Green,
        Outcome::Observe => Colour::Yellow,
        Outcome::Deny => Colour::Red,
    };
    let mut out = format!(
        "{}  {}  {}\n",
        paint(colour, outcome.label()),
        destination_text(answer),
        reason.label()
    );
    let mut field = |name: &str, text: &str| {
        let text = text.replace('\n', "\n          ");
        out.push_str(&paint(Colour::Dim, &format!("  {name:<8}")));
        out.push_str(&text);
        out.push('\n');
    };
    field("why", reason.sentence());
    if let Some(rule) = answer.rule {
        field("rule", &format!("{} (line {})", rule.text, rule.line));
        if !rule.reason.is_empty() {
            field("reason", &rule.reason);
        }
    }
    if let Some(range) = answer.range {
        field("range", range);
    }
    if answer.flow.place == Place::Host {
        field("place", "an address of this host");
    }
    if outcome == Outcome::Observe {
        field(
            "mode",
            "observe: it passes and is reported; enforce would refuse it",
        );
    }
    if let Some(hint) = &answer.hint {
        field("hint", hint);
    }
    field("policy", &format!("{} {}", policy.tool, policy.digest));
    out
}

fn object(policy: &CompiledPolicy, answer: &Explanation<'_>) -> Value {
    let (outcome, reason) = outcome(answer.verdict);
    json!({
        "tool": policy.tool.as_str(),
        "digest": policy.digest.to_string(),
        "mode": mode_text(policy.mode),
        "destination": destination_text(answer),
        "verdict": outcome.label(),
        "reason": reason.label(),
        "sentence": reason.sentence(),
        "rule": answer.rule.map(|rule| json!({
            "id": format!("{:016x}", rule.id.0),
            "text": rule.text,
            "line": rule.line,
            "reason": rule.reason,
        })),
        "range": answer.range,
        "on_this_host": answer.flow.place == Place::Host,
        "hint": answer.hint,
    })
}
