//! What `stockade policy explain` says of a name: who answers it, and what is demanded then.

use std::net::IpAddr;

use common::verdict::Outcome;
use serde_json::{Value, json};

use super::explain::{OBSERVED, Page, rule_object, rule_words};
use crate::policy::{
    compiled::{CompiledPolicy, Record},
    digest::{mode_text, protocol_text},
    explain::{GrantHeld, NameExplanation},
};

/// Rules that are printed where many cover the name.
const RULES_MAX: usize = 8;

pub(super) fn words(policy: &CompiledPolicy, answer: &NameExplanation<'_>) -> String {
    let (outcome, reason) = (answer.verdict.outcome(), answer.verdict.reason());
    let mut page = Page::begin(outcome, &destination_text(answer), reason);
    page.field("why", reason.sentence());
    if let Some(rule) = answer.rule {
        page.field("rule", &rule_words(rule));
        if !rule.reason.is_empty() {
            page.field("reason", &rule.reason);
        }
    }
    let others: Vec<String> = answer
        .covering
        .iter()
        .filter(|rule| answer.rule.is_none_or(|used| used.id != rule.id))
        .take(RULES_MAX)
        .map(|rule| rule_words(rule))
        .collect();
    if !others.is_empty() {
        page.field("covers", &others.join("\n"));
    }
    page.field("records", &records_text(answer, outcome));
    if let Some(only) = answer.only {
        let family = if only == Record::A { "IPv4" } else { "IPv6" };
        page.field("family", &format!("{family} only"));
    }
    if let Some(demand) = answer.demand {
        page.field("tls", demand.sentence());
    }
    for held in &answer.held {
        page.field("grant", &grant_words(held));
    }
    if outcome == Outcome::Observe {
        page.field("mode", OBSERVED);
    }
    if let Some(hint) = &answer.hint {
        page.field("hint", hint);
    }
    page.field("policy", &format!("{} {}", policy.tool, policy.digest));
    page.text()
}

fn records_text(answer: &NameExplanation<'_>, outcome: Outcome) -> String {
    if answer.covering.is_empty() {
        return match outcome {
            Outcome::Observe => "any: `observe` answers every name and reports it".to_owned(),
            Outcome::Allow | Outcome::Deny => {
                "none: no query for the name leaves this host".to_owned()
            }
        };
    }
    let words: Vec<&str> = answer.records.iter().map(|record| record.word()).collect();
    words.join(", ")
}

fn grant_words(held: &GrantHeld) -> String {
    let address = IpAddr::from(held.grant.address);
    let seconds = held.grant.expires_in.as_secs();
    let verdict = held.verdict.outcome().label();
    format!("{address}, for {seconds} s: {verdict}")
}

fn destination_text(answer: &NameExplanation<'_>) -> String {
    let destination = &answer.destination;
    let protocol = protocol_text(destination.protocol);
    format!("{}:{}/{protocol}", destination.name, destination.port)
}

pub(super) fn object(policy: &CompiledPolicy, answer: &NameExplanation<'_>) -> Value {
    let (outcome, reason) = (answer.verdict.outcome(), answer.verdict.reason());
    let held = |held: &GrantHeld| {
        json!({
            "address": IpAddr::from(held.grant.address).to_string(),
            "expires_in_seconds": held.grant.expires_in.as_secs(),
            "verdict": held.verdict.outcome().label(),
            "reason": held.verdict.reason().label(),
        })
    };
    json!({
        "tool": policy.tool.as_str(),
        "digest": policy.digest.to_string(),
        "mode": mode_text(policy.mode),
        "destination": destination_text(answer),
        "name": answer.destination.name.as_str(),
        "verdict": outcome.label(),
        "reason": reason.label(),
        "sentence": reason.sentence(),
        "rule": answer.rule.map(rule_object),
        "covering": answer.covering.iter().map(|rule| rule_object(rule)).collect::<Vec<Value>>(),
        "records": answer.records.iter().map(|record| record.word()).collect::<Vec<&str>>(),
        "only": answer.only.map(Record::word),
        "tls": answer.demand.map(|demand| json!({
            "demand": demand.label(),
            "sentence": demand.sentence(),
        })),
        "grants": answer.held.iter().map(held).collect::<Vec<Value>>(),
        "hint": answer.hint,
    })
}
