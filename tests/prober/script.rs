//! Runs one script and says how it ended.

use serde_json::{Value, json};

use crate::steps::{Probe, Refused};

/// Runs a script; the answer is one JSON object.
pub(crate) fn run(probe: &mut Probe, script: &str) -> Value {
    probe.begin();
    let done = steps(probe, script);
    // Before the answer: what the closing of a socket sends belongs to this script.
    probe.close();
    let Err((step, refused)) = done else {
        return answer(probe, None, None, None);
    };
    let (errno, error) = match refused {
        Refused::Errno(errno) => (Some(format!("{errno:?}")), errno.desc().to_owned()),
        Refused::Timeout => (Some("TIMEOUT".to_owned()), "no answer in time".to_owned()),
        Refused::Script(message) => (None, message),
    };
    answer(probe, Some(step), errno.as_deref(), Some(&error))
}

fn steps<'a>(probe: &mut Probe, script: &'a str) -> Result<(), (&'a str, Refused)> {
    script
        .split(';')
        .map(str::trim)
        .filter(|step| !step.is_empty())
        .try_for_each(|step| {
            let words: Vec<&str> = step.split_whitespace().collect();
            probe.step(&words).map_err(|refused| (step, refused))
        })
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
