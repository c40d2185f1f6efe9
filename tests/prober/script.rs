//! Runs one script and says how it ended.

use serde_json::{Value, json};

use crate::steps::{Probe, Refused};

/// Runs a script; the answer is one JSON object.
pub(crate) fn run(probe: &mut Probe, script: &str) -> Value {
    probe.begin();
    for step in script
        .split(';')
        .map(str::trim)
        .filter(|step| !step.is_empty())
    {
        let words: Vec<&str> = step.split_whitespace().collect();
        if let Err(refused) = probe.step(&words) {
            let (errno, error) = match refused {
                Refused::Errno(errno) => (Some(format!("{errno:?}")), errno.desc().to_owned()),
                Refused::Timeout => (Some("TIMEOUT".to_owned()), "no answer in time".to_owned()),
                Refused::Script(message) => (None, message),
            };
            return answer(probe, Some(step), errno.as_deref(), Some(&error));
        }
    }
    answer(probe, None, None, None)
}

fn answer(probe: &Probe, step: Option<&str>, errno: Option<&str>, error: Option<&str>) -> Value {
    json!({
        "ok": step.is_none(),
        "step": step,
        "errno": errno,
        "error": error,
        "sent": probe.sent,
        "received": probe.received,
        "calls": probe.calls,
        "refused": probe.refused,
        "values": probe.values,
    })
}
