//! `[[verb]]` as it is written.

use schemars::JsonSchema;

use super::{
    super::choice::{RawIdempotency, RawWhich},
    Field, List,
};

/// `[[verb]]`: one operation of the tool.
#[derive(Debug, JsonSchema)]
#[schemars(deny_unknown_fields, rename = "Verb")]
pub(in crate::policy) struct RawVerb {
    /// Its name.
    #[schemars(extend("pattern" = "^[a-z][a-z0-9_-]{0,62}$"))]
    pub(in crate::policy) name: Field<String>,
    /// For the model: what it does.
    #[schemars(default)]
    pub(in crate::policy) description: Field<String>,
    /// What the worker calls it, where that is another name.
    #[schemars(default, extend("pattern" = "^[A-Za-z0-9_./-]{1,128}$"))]
    pub(in crate::policy) worker_tool: Field<String>,
    /// The scope that a token must carry, such as `invoice:create`.
    pub(in crate::policy) scope: Field<String>,
    /// Path of the JSON Schema of its arguments: 2020-12 or draft-07.
    pub(in crate::policy) arguments: Field<String>,
    /// Path of the JSON Schema of its result.
    #[schemars(default)]
    pub(in crate::policy) result: Field<String>,
    /// Places of the schemas that are open or without an end on purpose.
    #[schemars(default)]
    pub(in crate::policy) unbounded: Field<List<RawUnbounded>>,
    /// Whether a call carries an idempotency key. Default: `optional`.
    #[schemars(default)]
    pub(in crate::policy) idempotency: Field<RawIdempotency>,
    /// Whether the record must be on the disk before the launch and before the reply. Default: true
    /// with `approve_if`, else false.
    #[schemars(default)]
    pub(in crate::policy) durable: Field<bool>,
    /// Whether the proof of possession must cover the request's body. Default: false.
    #[schemars(default)]
    pub(in crate::policy) proof_body: Field<bool>,
    /// SHA-256 of the worker's own definition of the tool, in hexadecimal.
    #[schemars(default, extend("pattern" = "^[0-9a-fA-F]{64}$"))]
    pub(in crate::policy) pin: Field<String>,
    /// How often it may be called.
    #[schemars(default)]
    pub(in crate::policy) limits: Field<RawVerbLimits>,
    /// When a person must agree.
    #[schemars(default)]
    pub(in crate::policy) risk: Field<RawRisk>,
}

/// A place of a schema that is open or without an end on purpose.
#[derive(Debug, JsonSchema)]
#[schemars(deny_unknown_fields, rename = "Unbounded")]
pub(in crate::policy) struct RawUnbounded {
    /// JSON pointer into the schema, such as `/properties/note`.
    pub(in crate::policy) path: Field<String>,
    /// Which schema. Default: `arguments`.
    #[schemars(default)]
    pub(in crate::policy) schema: Field<RawWhich>,
    /// Why.
    pub(in crate::policy) reason: Field<String>,
}

/// One text, or a list of them.
#[derive(JsonSchema)]
#[schemars(untagged, rename = "Texts")]
#[expect(dead_code, reason = "only its schema is used")]
enum RawTexts {
    One(String),
    Many(Vec<String>),
}

/// `[verb.limits]`: how often a verb may be called.
#[derive(Debug, JsonSchema)]
#[schemars(deny_unknown_fields, rename = "VerbLimits")]
pub(in crate::policy) struct RawVerbLimits {
    /// Calls per time and subject, such as `10/min per user`.
    #[schemars(default, with = "RawTexts")]
    pub(in crate::policy) rate: Field<List<String>>,
    /// Calls of the verb that run at once. Default: 32.
    #[schemars(default, range(min = 1))]
    pub(in crate::policy) concurrency: Field<i64>,
    /// Calls per day (UTC) and subject, such as `100 per user`; counted over restarts.
    #[schemars(default, with = "RawTexts")]
    pub(in crate::policy) per_day: Field<List<String>>,
    /// Equal calls in a row of one session, within a minute each. Default: 16.
    #[schemars(default, range(min = 1))]
    pub(in crate::policy) repeats: Field<i64>,
}

/// `[verb.risk]`: when a person must agree.
#[derive(Debug, JsonSchema)]
#[schemars(deny_unknown_fields, rename = "Risk")]
pub(in crate::policy) struct RawRisk {
    /// Conditions, any of which asks for approval, such as `arguments.amount > 1000`.
    #[schemars(default)]
    pub(in crate::policy) approve_if: Field<List<String>>,
}
