//! The one table of reasons why a call is not carried out: number, code, fault and the sentence that a
//! caller may see.
//!
//! The number is stable across versions; the code is the metric label, the log field, the audit code
//! and what the caller reads. A reason is never renumbered and never reused. No sentence holds
//! anything of the input.

/// Whose fault it is: decides the reply, the metric and the log level.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Fault {
    /// The caller's words are no request at all.
    Malformed,
    /// The caller is not who it would have to be.
    Unauthenticated,
    /// The caller may not do this.
    Forbidden,
    /// The arguments do not fit; the model can try again with others.
    Arguments,
    /// Too much, too often: later.
    Limited,
    /// The tool's worker did not do its part.
    Worker,
    /// The host or its operator lacks something.
    Host,
}

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident = $number:literal, $code:literal, $fault:ident, $sentence:literal;)*) => {
        /// Why a call is not carried out.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        #[repr(u16)]
        pub enum Reason {
            $(#[doc = $sentence] $name = $number,)*
        }

        impl Reason {
            /// Every reason, by number.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// Its code: lower-case words joined by `_`.
            #[must_use]
            pub const fn code(self) -> &'static str {
                match self { $(Self::$name => $code,)* }
            }

            /// Whose fault it is.
            #[must_use]
            pub const fn fault(self) -> Fault {
                match self { $(Self::$name => Fault::$fault,)* }
            }

            /// What the caller may see.
            #[must_use]
            pub const fn sentence(self) -> &'static str {
                match self { $(Self::$name => $sentence,)* }
            }
        }
    };
}

reasons! {
    ConnectionLimit = 1, "connection_limit", Limited, "too many connections of this user";
    FrameTooLarge = 2, "frame_too_large", Malformed, "the message is larger than the broker takes";
    FrameTooSlow = 3, "frame_too_slow", Malformed, "the message did not arrive in time";
    JsonMalformed = 4, "json_malformed", Malformed, "the message is not one strict JSON value";
    JsonTooDeep = 5, "json_too_deep", Malformed, "the message is nested deeper than the broker takes";
    JsonDuplicateKey = 6, "json_duplicate_key", Malformed, "an object of the message has a key twice";
    JsonNumber = 7, "json_number", Malformed, "a number of the message has no exact form in JSON";
    RequestMalformed = 8, "request_malformed", Malformed, "the message is no request that the broker knows";
    ProtocolVersion = 9, "protocol_version", Malformed, "the protocol version is not spoken here";
    PeerRefused = 10, "peer_refused", Forbidden, "this process may not use the broker";
    TokenMissing = 11, "token_missing", Unauthenticated, "the request carries no access token";
    TokenMalformed = 12, "token_malformed", Unauthenticated, "the access token is malformed";
    TokenAlgorithm = 13, "token_algorithm", Unauthenticated, "the access token's algorithm or header is not accepted";
    TokenIssuer = 14, "token_issuer", Unauthenticated, "the access token's issuer is not trusted here";
    TokenKey = 15, "token_key", Unauthenticated, "the access token's key is not known";
    TokenSignature = 16, "token_signature", Unauthenticated, "the access token's signature is wrong";
    TokenAudience = 17, "token_audience", Unauthenticated, "the access token is for another resource";
    TokenExpired = 18, "token_expired", Unauthenticated, "the access token has expired";
    TokenNotYet = 19, "token_not_yet", Unauthenticated, "the access token is not valid yet";
    TokenLifetime = 20, "token_lifetime", Unauthenticated, "the access token lives longer than the broker accepts";
    TokenClaims = 21, "token_claims", Unauthenticated, "the access token lacks a claim or has one of another shape";
    TokenRevoked = 22, "token_revoked", Unauthenticated, "the access token was revoked";
    IssuerUnavailable = 23, "issuer_unavailable", Host, "the keys of the access token's issuer can not be had";
    ProofMissing = 24, "proof_missing", Unauthenticated, "the request carries no proof of possession";
    ProofMalformed = 25, "proof_malformed", Unauthenticated, "the proof of possession is malformed";
    ProofKey = 26, "proof_key", Unauthenticated, "the proof was made with another key than the access token is bound to";
    ProofSignature = 27, "proof_signature", Unauthenticated, "the proof's signature is wrong";
    ProofTarget = 28, "proof_target", Unauthenticated, "the proof is for another method or resource";
    ProofTime = 29, "proof_time", Unauthenticated, "the proof is too old or from the future";
    ProofNonce = 30, "proof_nonce", Unauthenticated, "the proof must carry the broker's nonce";
    ProofToken = 31, "proof_token", Unauthenticated, "the proof is for another access token";
    ProofBody = 32, "proof_body", Unauthenticated, "the proof is for another body, or for none where one is required";
    ProofReplayed = 33, "proof_replayed", Unauthenticated, "the proof was used before";
    ReplayStoreFull = 34, "replay_store_full", Host, "the broker can not remember more proofs at the moment";
    Killed = 35, "killed", Forbidden, "the tool is switched off";
    UnknownOrForbidden = 36, "unknown_or_forbidden", Forbidden, "there is no such operation, or the access token does not cover it";
    TokenTool = 37, "token_tool", Forbidden, "the access token is for another tool";
    TokenArguments = 38, "token_arguments", Forbidden, "the access token is for other arguments";
    ToolPin = 39, "tool_pin", Forbidden, "the tool's definition is not the one that was accepted";
    Quarantined = 40, "quarantined", Host, "the operation is in quarantine: its schema can not be applied";
    ArgumentsRefused = 41, "arguments_refused", Arguments, "the arguments do not fit the schema of the operation";
    RateLimited = 42, "rate_limited", Limited, "this is asked too often";
    ConcurrencyLimited = 43, "concurrency_limited", Limited, "too many of these calls run at once";
    QuotaSpent = 44, "quota_spent", Limited, "the quota of the day is spent";
    BreakerOpen = 45, "breaker_open", Limited, "the tool failed too often and rests";
    LoopGuard = 46, "loop_guard", Limited, "the same call was made too many times in a row";
    LimiterFull = 47, "limiter_full", Host, "the broker can not count more callers at the moment";
    IdempotencyMissing = 48, "idempotency_missing", Malformed, "the operation needs an idempotency key";
    IdempotencyMalformed = 49, "idempotency_malformed", Malformed, "the idempotency key has another shape";
    IdempotencyConflict = 50, "idempotency_conflict", Forbidden, "the idempotency key was used for another call";
    IdempotencyRunning = 51, "idempotency_running", Limited, "the call with this idempotency key runs already";
    OutcomeUnknown = 52, "outcome_unknown", Worker, "it is not known what became of the call; it is not run again";
    IdempotencyFull = 53, "idempotency_full", Host, "the broker can not remember more calls at the moment";
    ApprovalRequired = 54, "approval_required", Forbidden, "the call needs an approval that nobody can give here";
    CredentialsRequired = 55, "credentials_required", Host, "the call needs credentials that the broker does not hold";
    AuditUnavailable = 56, "audit_unavailable", Host, "the call can not be recorded";
    LaunchFailed = 57, "launch_failed", Host, "the worker could not be started";
    WorkersBusy = 58, "workers_busy", Limited, "too many workers run at once";
    WorkerFailed = 59, "worker_failed", Worker, "the worker ended without an answer";
    WorkerMalformed = 60, "worker_malformed", Worker, "the worker's answer is not what its protocol asks for";
    WorkerTooLarge = 61, "worker_too_large", Worker, "the worker's answer is larger than the broker takes";
    WorkerTimeout = 62, "worker_timeout", Worker, "the worker did not answer in time";
    ResultRefused = 63, "result_refused", Worker, "the worker's answer does not fit the schema of the operation";
    RedactionRequired = 64, "redaction_required", Host, "the answer needs a filter that the broker does not have";
    Cancelled = 65, "cancelled", Malformed, "the caller cancelled the call";
    Stopping = 66, "stopping", Host, "the broker stops";
    StoreUnavailable = 67, "store_unavailable", Host, "the broker's store can not be used";
    Internal = 68, "internal", Host, "the broker failed; the log of the host says why";
    Flood = 90, "flood", Limited, "too many requests of this user were refused";
}

impl Reason {
    /// Whether it is said to somebody who has not shown yet who that is: anybody can bring it about, as
    /// often as they like. Keys that can not be had are the host's affair, but whoever named their
    /// issuer may have made the token up.
    #[must_use]
    pub const fn is_before_known(self) -> bool {
        matches!(self.fault(), Fault::Unauthenticated) || matches!(self, Self::IssuerUnavailable)
    }
}

impl std::fmt::Display for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.sentence())
    }
}

/// A check said no. What the caller sees is the reason; `detail` is for log and audit alone and holds no
/// secret (no token, no proof, no argument's value).
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{reason}{}{detail}", if detail.is_empty() { "" } else { ": " })]
pub struct Refused {
    /// Why.
    pub reason: Reason,
    /// For people of the host.
    pub detail: String,
    /// When to ask again, where that helps.
    pub retry_after: Option<std::time::Duration>,
}

impl From<Reason> for Refused {
    fn from(reason: Reason) -> Self {
        Self {
            reason,
            detail: String::new(),
            retry_after: None,
        }
    }
}

impl Refused {
    /// With something for the log.
    #[must_use]
    pub fn because(reason: Reason, detail: impl std::fmt::Display) -> Self {
        Self {
            reason,
            detail: detail.to_string(),
            retry_after: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, fmt::Write as _};

    use expect_test::expect_file;

    use super::{Fault, Reason};

    fn whose(fault: Fault) -> &'static str {
        match fault {
            Fault::Malformed => "malformed",
            Fault::Unauthenticated => "unauthenticated",
            Fault::Forbidden => "forbidden",
            Fault::Arguments => "arguments",
            Fault::Limited => "limited",
            Fault::Worker => "worker",
            Fault::Host => "host",
        }
    }

    #[test]
    fn numbers_and_codes_are_there_once() {
        let numbers: Vec<u16> = Reason::ALL.iter().map(|reason| *reason as u16).collect();
        assert!(numbers.is_sorted_by(|a, b| a < b));
        let codes: BTreeSet<_> = Reason::ALL.iter().map(|reason| reason.code()).collect();
        assert_eq!(codes.len(), Reason::ALL.len());
        for code in codes {
            let plain = |byte: u8| byte.is_ascii_lowercase() || byte == b'_';
            assert!(code.bytes().all(plain), "{code}");
        }
    }

    #[test]
    fn before_anybody_is_known_there_are_bad_credentials_and_keys_that_lack() {
        for reason in Reason::ALL {
            let expected =
                reason.fault() == Fault::Unauthenticated || *reason == Reason::IssuerUnavailable;
            assert_eq!(reason.is_before_known(), expected, "{}", reason.code());
        }
        assert!(!Reason::UnknownOrForbidden.is_before_known());
        assert!(!Reason::ReplayStoreFull.is_before_known());
    }

    #[test]
    fn the_page_is_the_table() {
        let mut page = String::from(
            "# Reasons of the broker\n\n\
             Why a call is not carried out. The code is what the caller reads, the metric label, the \
             field of the log and of the record. Numbers are never changed or used again.\n\n\
             <!-- Generated from agent/src/broker/reason.rs: `UPDATE_EXPECT=1 cargo test -p agent \
             reason`. -->\n\n\
             | number | code | fault | what the caller is told |\n|---:|---|---|---|\n",
        );
        for reason in Reason::ALL {
            writeln!(
                page,
                "| {} | `{}` | {} | {} |",
                *reason as u16,
                reason.code(),
                whose(reason.fault()),
                reason.sentence()
            )
            .unwrap();
        }
        expect_file!["../../../docs/broker-reasons.md"].assert_eq(&page);
    }
}
