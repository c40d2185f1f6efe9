//! What is known of a call so far: for its record, its count and the log. Names that a caller made up
//! never become labels.

use std::time::{Duration, Instant};

use super::{Door, Received};
use crate::{
    audit::{CallRecord, Caller, Principal, TokenRef},
    broker::{
        reason::{Fault, Refused},
        token::Claims,
    },
    observe::metrics::{Calls, Stage},
    policy::compiled::{CompiledPolicy, Verb},
};

/// The label of a tool or verb that no policy names, or that the caller may not know of.
pub(in crate::broker) const UNKNOWN: &str = "unknown";

/// One call's trail.
pub(in crate::broker) struct Trail {
    record: CallRecord,
    tool: String,
    verb: String,
    since: Instant,
}

impl Trail {
    pub(in crate::broker) fn of_call(received: &Received) -> Self {
        let mut trail = Self::new(received.door, received.peer);
        trail.record.tool = plain(&received.tool);
        trail.record.verb = plain(&received.verb);
        trail.record.prompt_hash = received.prompt_hash.as_deref().map(plain);
        trail
    }

    pub(in crate::broker) fn new(door: Door, caller: Caller) -> Self {
        let record = CallRecord {
            door: door.label(),
            caller,
            tool: String::new(),
            verb: String::new(),
            principal: None,
            token: None,
            purpose: None,
            session_hash: None,
            prompt_hash: None,
            policy: None,
            arguments: None,
            idempotency: None,
        };
        Self {
            record,
            tool: UNKNOWN.to_owned(),
            verb: UNKNOWN.to_owned(),
            since: Instant::now(),
        }
    }

    /// The token is genuine: this is whose it is.
    pub(super) fn principal(&mut self, claims: &Claims) {
        self.record.principal = Some(Principal {
            issuer: claims.issuer.clone(),
            subject: claims.subject.clone(),
            client: claims.client.clone(),
        });
        self.record.token = Some(TokenRef {
            id: claims.token_id.clone(),
            key: claims.key_id.clone(),
        });
        self.record.purpose.clone_from(&claims.purpose);
        self.record.session_hash.clone_from(&claims.session_hash);
    }

    /// The token covers this verb: its names may be labels.
    pub(super) fn verb(&mut self, policy: &CompiledPolicy, verb: &Verb) {
        self.tool = policy.tool.to_string();
        self.verb.clone_from(&verb.name);
        self.record.policy = Some(policy.digest.to_string());
    }

    /// The salted sum of the arguments.
    pub(super) fn arguments(&mut self, sum: String) {
        self.record.arguments = Some(sum);
    }

    /// The salted sum of the idempotency key.
    pub(super) fn idempotency(&mut self, sum: String) {
        self.record.idempotency = Some(sum);
    }

    /// For the journal.
    pub(in crate::broker) fn record(&self) -> &CallRecord {
        &self.record
    }

    /// A stage has been passed.
    pub(in crate::broker) fn passed(&mut self, calls: &Calls, stage: Stage) {
        let now = Instant::now();
        let took: Duration = now.saturating_duration_since(self.since);
        calls.stage(stage, took);
        self.since = now;
    }

    /// The call is over.
    pub(in crate::broker) fn over(&self, calls: &Calls, outcome: &str) {
        self.over_often(calls, outcome, 1);
    }

    /// So many are over, for the same reason.
    pub(in crate::broker) fn over_often(&self, calls: &Calls, outcome: &str, count: u64) {
        calls.calls(&self.tool, &self.verb, outcome, count);
    }

    /// Callers' faults are their daily business; the host's are the operator's.
    pub(super) fn log(&self, refused: &Refused) {
        macro_rules! line {
            ($level:ident) => {
                tracing::$level!(
                    call.door = self.record.door,
                    call.tool = self.tool,
                    call.verb = self.verb,
                    caller.uid = self.record.caller.uid,
                    call.reason = refused.reason.code(),
                    call.detail = %refused.detail.escape_debug(),
                    "call refused"
                )
            };
        }
        match refused.reason.fault() {
            Fault::Malformed
            | Fault::Unauthenticated
            | Fault::Forbidden
            | Fault::Arguments
            | Fault::Limited => line!(info),
            Fault::Worker | Fault::Host => line!(warn),
        }
    }
}

/// A name or sum as a caller wrote it, if it has the shape of one; nothing otherwise.
fn plain(text: &str) -> String {
    const BYTES_MAX: usize = 128;
    let shaped = text.len() <= BYTES_MAX && text.bytes().all(|byte| byte.is_ascii_graphic());
    if shaped {
        text.to_owned()
    } else {
        String::new()
    }
}
