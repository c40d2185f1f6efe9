//! `stockade policy explain` for a unix socket: the words and the JSON.

use std::path::Path;

use serde_json::{Value, json};

use super::explain::{Page, rule_object, rule_words};
use crate::policy::{compiled::CompiledPolicy, digest::mode_text, explain::UnixExplanation};

/// For people.
pub(super) fn words(policy: &CompiledPolicy, path: &Path, answer: &UnixExplanation<'_>) -> String {
    let (outcome, reason) = (answer.verdict.outcome(), answer.verdict.reason());
    let mut page = Page::begin(outcome, &path.display().to_string(), reason);
    page.field("why", reason.sentence());
    if let Some(rule) = answer.rule {
        page.field("rule", &rule_words(rule));
        if !rule.reason.is_empty() {
            page.field("reason", &rule.reason);
        }
    }
    if let Some(hint) = &answer.hint {
        page.field("hint", hint);
    }
    page.field("policy", &format!("{} {}", policy.tool, policy.digest));
    page.text()
}

/// For programs.
pub(super) fn object(policy: &CompiledPolicy, path: &Path, answer: &UnixExplanation<'_>) -> Value {
    let (outcome, reason) = (answer.verdict.outcome(), answer.verdict.reason());
    json!({
        "tool": policy.tool.as_str(),
        "digest": policy.digest.to_string(),
        "mode": mode_text(policy.mode),
        "destination": path.display().to_string(),
        "verdict": outcome.label(),
        "reason": reason.label(),
        "sentence": reason.sentence(),
        "rule": answer.rule.map(rule_object),
        "hint": answer.hint,
    })
}
