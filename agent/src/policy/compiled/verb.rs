//! `[[verb]]`, compiled: what the broker asks of a call.

use std::{fmt, sync::Arc, time::Duration};

use super::Digest;
use crate::policy::schema::Schema;

/// One operation of a tool.
#[derive(Clone, Debug)]
pub struct Verb {
    /// Its name.
    pub name: String,
    /// What the worker calls it: its MCP tool's name.
    pub worker_tool: String,
    /// The scope that a token must carry.
    pub scope: String,
    /// For the model.
    pub description: String,
    /// What the arguments must be: an object.
    pub arguments: Arc<Schema>,
    /// What the structured result must be.
    pub result: Option<Arc<Schema>>,
    /// Places of the schemas that are open on purpose, by schema and path.
    pub unbounded: Vec<Unbounded>,
    /// How often it may be called.
    pub limits: VerbLimits,
    /// Whether some call of it needs a person's word: `conditions` is not empty.
    pub approval: bool,
    /// The conditions under which it does, as written.
    pub conditions: Vec<String>,
    /// Whether its records must be on the disk.
    pub durable: bool,
    /// Whether a call carries an idempotency key.
    pub idempotency: Idempotency,
    /// Whether the proof must cover the request's body.
    pub body_proof: bool,
    /// Why no call of it is taken: a schema that can not be applied.
    pub quarantine: Option<String>,
    /// SHA-256 of the worker's own definition of it.
    pub pin: Option<[u8; 32]>,
}

/// Digits of a schema's digest that people see.
const DIGEST_DIGITS: usize = 12;

/// Everything of it in one line, for people: `create scope=invoice:create arguments=0123456789ab …`.
impl fmt::Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            name,
            worker_tool,
            scope,
            description,
            arguments,
            result,
            unbounded,
            limits,
            approval: _,
            conditions,
            durable,
            idempotency,
            body_proof,
            quarantine,
            pin,
        } = self;
        write!(f, "{name} scope={scope} worker_tool={worker_tool}")?;
        write!(f, " arguments={}", short(arguments.digest()))?;
        if let Some(result) = result {
            write!(f, " result={}", short(result.digest()))?;
        }
        for Unbounded { schema, path, .. } in unbounded {
            write!(f, " unbounded={}{path}", schema.word())?;
        }
        for rate in &limits.rates {
            write!(f, " rate={rate:?}", rate = rate.to_string())?;
        }
        for quota in &limits.per_day {
            write!(f, " per_day={quota:?}", quota = quota.to_string())?;
        }
        write!(
            f,
            " concurrency={} repeats={}",
            limits.concurrency, limits.repeats
        )?;
        write!(f, " idempotency={} durable={durable}", idempotency.word())?;
        write!(f, " proof_body={body_proof}")?;
        for condition in conditions {
            write!(f, " approve_if={condition:?}")?;
        }
        if let Some(pin) = pin {
            write!(f, " pin={}", short(*pin))?;
        }
        if !description.is_empty() {
            write!(f, " {description:?}")?;
        }
        match quarantine {
            Some(why) => write!(f, " (in quarantine: {why})"),
            None => Ok(()),
        }
    }
}

fn short(digest: [u8; 32]) -> String {
    let mut text = Digest(digest).to_string();
    text.truncate(DIGEST_DIGITS);
    text
}

/// One of a verb's schemas.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Which {
    /// That of the arguments.
    Arguments,
    /// That of the result.
    Result,
}

impl Which {
    /// The word of the policy file.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Arguments => "arguments",
            Self::Result => "result",
        }
    }
}

/// A place of a schema that is open or without an end on purpose.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Unbounded {
    /// Which schema.
    pub schema: Which,
    /// JSON pointer into it.
    pub path: String,
    /// Why.
    pub reason: String,
}

/// `[verb.limits]`
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct VerbLimits {
    /// Calls per time, each of which must have room.
    pub rates: Vec<Rate>,
    /// Calls of the verb that run at once.
    pub concurrency: u32,
    /// Calls per day.
    pub per_day: Vec<Daily>,
    /// Equal calls in a row.
    pub repeats: u32,
}

/// `10/min per user`: so many at once, then one more each time its share of the period has passed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Rate {
    /// Calls, at least 1.
    pub count: u32,
    /// In how long.
    pub per: Duration,
    /// Of whom.
    pub subject: Subject,
}

/// `100 per user`: calls of one day (UTC).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Daily {
    /// Calls, at least 1.
    pub count: u32,
    /// Of whom.
    pub subject: Subject,
}

/// Whose calls are counted together.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Subject {
    /// One user's (issuer and subject of the token) calls of the verb.
    User,
    /// One client's (issuer and client of the token) calls of the verb.
    Client,
    /// One session's calls of the verb; of a token without a session, its user's and client's.
    Session,
    /// All calls of the verb.
    Verb,
    /// All calls of the tool's verbs that have the same limit.
    Tool,
}

impl Subject {
    /// All, with the words of the policy file.
    pub const ALL: &'static [Self] = &[
        Self::User,
        Self::Client,
        Self::Session,
        Self::Verb,
        Self::Tool,
    ];

    /// The word of the policy file.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Client => "client",
            Self::Session => "session",
            Self::Verb => "verb",
            Self::Tool => "tool",
        }
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.per.as_secs();
        write!(f, "{}/{seconds}s per {}", self.count, self.subject.word())
    }
}

impl fmt::Display for Daily {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} per {}", self.count, self.subject.word())
    }
}

/// `idempotency` of a verb.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Idempotency {
    /// A key is taken where there is one.
    Optional,
    /// Without one the call is refused.
    Required,
    /// A key is not looked at: every call is one of its own.
    None,
}

impl Idempotency {
    /// The word of the policy file.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Optional => "optional",
            Self::Required => "required",
            Self::None => "none",
        }
    }
}

/// `[worker] reuse`
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reuse {
    /// A worker takes one call.
    Never,
    /// Those of one session of one principal.
    Session,
    /// Those of one principal.
    Principal,
}

impl Reuse {
    /// The word of the policy file.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Never => "never",
            Self::Session => "session",
            Self::Principal => "principal",
        }
    }
}
