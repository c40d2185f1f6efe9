//! `stockade policy explain`: one destination, the verdict, and why. Nothing is looked up in DNS.

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
    held,
    look::{LookError, Source},
    named,
    print::{Answer, Colour, paint},
    unix,
};
use crate::{
    cli::Target,
    exit::Code,
    policy::{
        compiled::{CompiledPolicy, Rule},
        digest::{mode_text, protocol_text},
        explain::{Asked, Explanation, explain, explain_name, explain_unix},
        model::Model,
    },
};

/// Which policy, and where to.
#[derive(Args, Debug)]
#[command(
    after_help = "Exit codes: 0 it passes, 1 it is refused, 65 the policy is wrong.\n\n\
                        Examples:\n  \
                        stockade policy explain weather https://api.weather.example/v1\n  \
                        stockade policy explain weather 185.199.109.7:443\n  \
                        stockade policy explain ledger /run/postgresql/.s.PGSQL.5432\n  \
                        stockade policy explain ./weather.toml '[2001:4860:4860::8888]:443/udp'"
)]
pub struct Arguments {
    #[command(flatten)]
    source: Source,
    #[command(flatten)]
    target: Target,
    /// `NAME:PORT`, `ADDRESS:PORT` or `[ADDRESS]:PORT`, with `/tcp` (the default) or `/udp`, a URL, or
    /// the path of a unix socket; names are not looked up
    #[arg(value_name = "DESTINATION")]
    destination: String,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<Answer> {
    let asked = match arguments.destination.parse::<Asked>() {
        Ok(asked) => asked,
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
    match asked {
        Asked::Address(destination) => {
            let answer = explain(&policy, &model, destination);
            let code = code(answer.verdict);
            if arguments.json {
                return Answer::json(code, &object(&policy, &answer));
            }
            Ok(Answer::text(code, words(&policy, &answer)))
        }
        Asked::Name(destination) => {
            // A file is not what an agent has in force.
            let held = if arguments.source.is_tool() {
                held::grants(&arguments.target, &policy, &destination.name)
            } else {
                Vec::new()
            };
            let answer = explain_name(&policy, &model, destination, &held);
            let code = code(answer.verdict);
            if arguments.json {
                return Answer::json(code, &named::object(&policy, &answer));
            }
            Ok(Answer::text(code, named::words(&policy, &answer)))
        }
        Asked::Unix(path) => {
            let answer = explain_unix(&policy, &path);
            let code = code(answer.verdict);
            if arguments.json {
                return Answer::json(code, &unix::object(&policy, &path, &answer));
            }
            Ok(Answer::text(code, unix::words(&policy, &path, &answer)))
        }
    }
}

const fn code(verdict: Verdict) -> Code {
    if verdict.passes() {
        Code::Ok
    } else {
        Code::Finding
    }
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

fn destination_text(answer: &Explanation<'_>) -> String {
    let protocol = protocol_text(answer.flow.protocol);
    let port = answer.flow.port;
    match IpAddr::from(answer.flow.address) {
        IpAddr::V4(v4) => format!("{v4}:{port}/{protocol}"),
        IpAddr::V6(v6) => format!("[{v6}]:{port}/{protocol}"),
    }
}

fn words(policy: &CompiledPolicy, answer: &Explanation<'_>) -> String {
    let (outcome, reason) = (answer.verdict.outcome(), answer.verdict.reason());
    let mut page = Page::begin(outcome, &destination_text(answer), reason);
    let mut field = |name: &str, text: &str| page.field(name, text);
    field("why", reason.sentence());
    if let Some(rule) = answer.rule {
        field("rule", &rule_words(rule));
        if !rule.reason.is_empty() {
            field("reason", &rule.reason);
        }
    }
    if let Some(condition) = answer.condition {
        field("while", condition);
    }
    if let Some(range) = answer.range {
        field("range", range);
    }
    if answer.flow.place == Place::Host {
        field("place", "an address of this host");
    }
    if outcome == Outcome::Observe {
        field("mode", OBSERVED);
    }
    let (rules, count) = &answer.by_name;
    if !rules.is_empty() {
        let rules: Vec<String> = rules.iter().map(|rule| rule_words(rule)).collect();
        let more = match count.saturating_sub(rules.len()) {
            0 => String::new(),
            more => format!("\nand {more} more"),
        };
        let rules = rules.join("\n");
        let text = format!("it passes while a name of one of these resolves there:\n{rules}{more}");
        field("names", &text);
    }
    if let Some(hint) = &answer.hint {
        field("hint", hint);
    }
    field("policy", &format!("{} {}", policy.tool, policy.digest));
    page.text()
}

/// What `observe` makes of a refusal.
pub(super) const OBSERVED: &str = "observe: it passes and is reported; enforce would refuse it";

/// The verdict, then a line a field.
pub(super) struct Page(String);

impl Page {
    /// The first line.
    pub(super) fn begin(outcome: Outcome, destination: &str, reason: Reason) -> Self {
        let colour = match outcome {
            Outcome::Allow => Colour::Green,
            Outcome::Observe => Colour::Yellow,
            Outcome::Deny => Colour::Red,
        };
        let (label, reason) = (paint(colour, outcome.label()), reason.label());
        Self(format!("{label}  {destination}  {reason}\n"))
    }

    /// A field; further lines of its text are indented.
    pub(super) fn field(&mut self, name: &str, text: &str) {
        let text = text.replace('\n', "\n          ");
        self.0
            .push_str(&paint(Colour::Dim, &format!("  {name:<8}")));
        self.0.push_str(&text);
        self.0.push('\n');
    }

    /// All of it.
    pub(super) fn text(self) -> String {
        self.0
    }
}

/// `domain api.example tcp 443 (line 5)`
pub(super) fn rule_words(rule: &Rule) -> String {
    format!("{} (line {})", rule.text, rule.line)
}

/// A rule for programs.
pub(super) fn rule_object(rule: &Rule) -> Value {
    json!({
        "id": format!("{:016x}", rule.id.0),
        "text": rule.text,
        "line": rule.line,
        "reason": rule.reason,
    })
}

fn object(policy: &CompiledPolicy, answer: &Explanation<'_>) -> Value {
    let (outcome, reason) = (answer.verdict.outcome(), answer.verdict.reason());
    json!({
        "tool": policy.tool.as_str(),
        "digest": policy.digest.to_string(),
        "mode": mode_text(policy.mode),
        "destination": destination_text(answer),
        "verdict": outcome.label(),
        "reason": reason.label(),
        "sentence": reason.sentence(),
        "rule": answer.rule.map(rule_object),
        "by_name": answer.by_name.0.iter().map(|rule| rule_object(rule)).collect::<Vec<Value>>(),
        "by_name_count": answer.by_name.1,
        "condition": answer.condition,
        "range": answer.range,
        "on_this_host": answer.flow.place == Place::Host,
        "hint": answer.hint,
    })
}
