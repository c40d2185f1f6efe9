//! An answer that may go out: bounded, of the shape that the policy promises, recorded.
//!
//! A filter over the answer would stand here; no policy can ask for one.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{Done, finished::Finished, settled::Broken, trail::Trail};
use crate::{
    audit::CallOutcome,
    broker::{
        Inner,
        idempotency::StoredReply,
        reason::{Reason, Refused},
        worker::{Answer, Failure},
    },
    json,
    policy::compiled::Verb,
};

/// An answer that is recorded and may go out. Only [`Released::release`] and [`Released::again`] make
/// one.
#[must_use]
pub struct Released {
    done: Done,
}

impl Released {
    /// Checks the answer, keeps it for the same idempotency key, records the outcome.
    pub(in crate::broker) async fn release(
        inner: &Inner,
        finished: Finished,
    ) -> Result<Self, Broken> {
        let (recorded, answer, session, took) = finished.into_parts();
        let verb = recorded.approved().admitted().validated().verb();
        let durable = verb.durable;
        let (answer, bytes) = match check(inner, verb, answer) {
            Ok(checked) => checked,
            Err(failure) => return Err(Broken::recorded(recorded, failure, Some(session), took)),
        };
        let (held, receipt) = recorded.into_parts();
        let outcome = CallOutcome {
            code: code(answer.is_error),
            session: Some(session),
            seconds: took.as_secs_f64(),
            result: Some(inner.journal.salted(&digest(&answer))),
            bytes,
            replayed: false,
        };
        // Kept before it is recorded: where the record fails, the answer is withheld, and the same key
        // gives it once there is a record again.
        held.answered(|| stored(&answer)).await;
        let recorded = inner.journal.called(receipt, &outcome, durable).await;
        let record = recorded.map_err(unavailable)?;
        Ok(Self {
            done: done(answer, false, record, took),
        })
    }

    /// An answer that was given before: the same words, a record of its own.
    pub(in crate::broker) async fn again(
        inner: &Inner,
        reply: StoredReply,
        durable: bool,
        trail: &Trail,
    ) -> Result<Self, Broken> {
        let began = Instant::now();
        let receipt = inner.journal.call(trail.record(), durable).await;
        let receipt = receipt.map_err(unavailable)?;
        let answer = Answer {
            content: reply.content,
            structured: reply.structured,
            is_error: reply.is_error,
        };
        let outcome = CallOutcome {
            code: code(answer.is_error),
            session: None,
            seconds: began.elapsed().as_secs_f64(),
            result: Some(inner.journal.salted(&digest(&answer))),
            bytes: size(&answer),
            replayed: true,
        };
        let record = inner.journal.called(receipt, &outcome, durable).await;
        let record = record.map_err(unavailable)?;
        Ok(Self {
            done: done(answer, true, record, Duration::ZERO),
        })
    }

    /// What goes out.
    pub(in crate::broker) fn into_done(self) -> Done {
        self.done
    }
}

/// Bounds and schema. Where the policy promises a result and the worker gave text alone, the text is
/// taken as JSON: workers of older revisions have no structured content.
fn check(inner: &Inner, verb: &Verb, mut answer: Answer) -> Result<(Answer, u64), Failure> {
    if let (Some(schema), false) = (&verb.result, answer.is_error) {
        let result = match answer.structured.take() {
            Some(structured) => structured,
            None => from_text(inner, &answer.content)
                .ok_or_else(|| failure(Reason::ResultRefused, "no structured result"))?,
        };
        if let Err(places) = schema.check(&result) {
            let places: Vec<_> = places
                .iter()
                .map(|place| format!("{} {}", place.pointer, place.rule))
                .collect();
            return Err(failure(Reason::ResultRefused, &places.join(", ")));
        }
        answer.structured = result.is_object().then_some(result);
    }
    let bytes = size(&answer);
    if bytes > inner.limits.bytes_out as u64 {
        return Err(failure(Reason::WorkerTooLarge, &format!("{bytes} bytes")));
    }
    Ok((answer, bytes))
}

fn from_text(inner: &Inner, content: &[Value]) -> Option<Value> {
    let [block] = content else {
        return None;
    };
    let limits = json::Limits {
        bytes: inner.limits.bytes_out,
        depth: inner.limits.depth,
    };
    json::parse(block.get("text")?.as_str()?.as_bytes(), limits).ok()
}

fn stored(answer: &Answer) -> StoredReply {
    StoredReply {
        content: answer.content.clone(),
        structured: answer.structured.clone(),
        is_error: answer.is_error,
    }
}

fn done(answer: Answer, replayed: bool, record: u64, took: Duration) -> Done {
    Done {
        content: answer.content,
        structured: answer.structured,
        is_error: answer.is_error,
        replayed,
        record,
        took,
    }
}

fn code(is_error: bool) -> &'static str {
    if is_error { "tool_error" } else { "done" }
}

fn digest(answer: &Answer) -> [u8; 32] {
    json::digest(&json!([answer.content, answer.structured, answer.is_error]))
}

fn size(answer: &Answer) -> u64 {
    let mut count = Count(0);
    for value in answer.content.iter().chain(&answer.structured) {
        // Counting can not fail.
        serde_json::to_writer(&mut count, value).ok();
    }
    count.0
}

struct Count(u64);

impl std::io::Write for Count {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0 = self.0.saturating_add(bytes.len() as u64);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn failure(reason: Reason, detail: &str) -> Failure {
    Failure::of_call(Refused::because(reason, detail))
}

fn unavailable(error: crate::audit::Error) -> Broken {
    Refused::because(Reason::AuditUnavailable, error).into()
}
