//! What a refusal is in HTTP and in JSON-RPC: status, code, `WWW-Authenticate`. One table over the
//! reasons, exhaustive by fault.

use hyper::StatusCode;

use crate::broker::reason::{Fault, Reason};

/// Added to a reason's number to make its JSON-RPC code: outside of what JSON-RPC and MCP reserve.
pub(super) const RPC_CODE_BASE: i64 = 1_000;
/// The code of JSON-RPC for bytes that are no message.
const PARSE_ERROR: i64 = -32_700;
/// And for params that do not fit the method.
const INVALID_PARAMS: i64 = -32_602;
/// What MCP says where it does not speak the version.
pub(super) const UNSUPPORTED_VERSION: i64 = -32_022;

/// Algorithms of proofs that the broker takes (RFC 9449, 7.1).
const ALGORITHMS: &str = "ES256 EdDSA";

/// The HTTP status.
pub(super) fn status(reason: Reason) -> StatusCode {
    if let Some(status) = special(reason) {
        return status;
    }
    match reason.fault() {
        Fault::Malformed => StatusCode::BAD_REQUEST,
        Fault::Unauthenticated => StatusCode::UNAUTHORIZED,
        Fault::Forbidden => StatusCode::FORBIDDEN,
        Fault::Arguments => StatusCode::UNPROCESSABLE_ENTITY,
        Fault::Limited => StatusCode::TOO_MANY_REQUESTS,
        Fault::Worker => StatusCode::BAD_GATEWAY,
        Fault::Host => StatusCode::SERVICE_UNAVAILABLE,
    }
}

/// Reasons for which HTTP has a word of its own.
fn special(reason: Reason) -> Option<StatusCode> {
    const SPECIAL: &[(Reason, StatusCode)] = &[
        (Reason::FrameTooLarge, StatusCode::PAYLOAD_TOO_LARGE),
        (Reason::FrameTooSlow, StatusCode::REQUEST_TIMEOUT),
        (Reason::IdempotencyConflict, StatusCode::CONFLICT),
        (Reason::IdempotencyRunning, StatusCode::CONFLICT),
        (Reason::WorkerTimeout, StatusCode::GATEWAY_TIMEOUT),
        (Reason::WorkersBusy, StatusCode::SERVICE_UNAVAILABLE),
        (Reason::Internal, StatusCode::INTERNAL_SERVER_ERROR),
    ];
    SPECIAL
        .iter()
        .find(|(special, _)| *special == reason)
        .map(|(_, status)| *status)
}

/// The JSON-RPC code.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "every other has its own number"
)]
pub(super) fn rpc_code(reason: Reason) -> i64 {
    match reason {
        Reason::JsonMalformed
        | Reason::JsonTooDeep
        | Reason::JsonDuplicateKey
        | Reason::JsonNumber => PARSE_ERROR,
        Reason::RequestMalformed | Reason::IdempotencyMissing | Reason::IdempotencyMalformed => {
            INVALID_PARAMS
        }
        Reason::ProtocolVersion => UNSUPPORTED_VERSION,
        reason => RPC_CODE_BASE.saturating_add(i64::from(reason as u16)),
    }
}

/// Whether the model can do something about it: then it is a tool result that says so, as MCP asks.
pub(super) fn is_for_the_model(reason: Reason) -> bool {
    match reason.fault() {
        Fault::Arguments | Fault::Limited | Fault::Worker => true,
        Fault::Malformed | Fault::Unauthenticated | Fault::Forbidden | Fault::Host => false,
    }
}

/// The `WWW-Authenticate` that goes with a status 401 or 403 (RFC 9449, 7.1; RFC 6750, 3.1).
pub(super) fn challenge(reason: Reason) -> Option<String> {
    let error = match reason.fault() {
        Fault::Unauthenticated => {
            let code = reason.code();
            if reason == Reason::ProofNonce {
                "use_dpop_nonce"
            } else if code.starts_with("proof_") {
                "invalid_dpop_proof"
            } else if reason == Reason::TokenMissing {
                // A request without credentials is told no error.
                return Some(format!("DPoP algs=\"{ALGORITHMS}\""));
            } else {
                "invalid_token"
            }
        }
        Fault::Forbidden => "insufficient_scope",
        Fault::Malformed | Fault::Arguments | Fault::Limited | Fault::Worker | Fault::Host => {
            return None;
        }
    };
    Some(format!(
        "DPoP error=\"{error}\", error_description=\"{}\", algs=\"{ALGORITHMS}\"",
        reason.sentence()
    ))
}

#[cfg(test)]
mod tests {
    use super::{challenge, rpc_code, status};
    use crate::broker::reason::{Fault, Reason};

    /// What JSON-RPC and MCP keep for themselves.
    const RESERVED: std::ops::RangeInclusive<i64> = -32_768..=-32_000;

    #[test]
    fn own_codes_are_outside_of_the_reserved_ones_and_each_its_own() {
        let mut own: Vec<i64> = Reason::ALL
            .iter()
            .map(|reason| rpc_code(*reason))
            .filter(|code| !RESERVED.contains(code))
            .collect();
        let count = own.len();
        own.dedup();
        assert_eq!(own.len(), count);
        assert!(own.iter().all(|code| (1_001..2_000).contains(code)));
    }

    #[test]
    fn who_must_show_something_is_told_what_and_nobody_else() {
        for reason in Reason::ALL {
            let told = challenge(*reason).is_some();
            let asked = matches!(reason.fault(), Fault::Unauthenticated | Fault::Forbidden);
            assert_eq!(told, asked, "{}", reason.code());
            if reason.fault() == Fault::Unauthenticated {
                assert_eq!(status(*reason).as_u16(), 401, "{}", reason.code());
            }
            let sentence = reason.sentence();
            let safe = |c: char| matches!(c, ' '..='~') && c != '"' && c != '\\';
            assert!(sentence.chars().all(safe), "{sentence}: no header value");
        }
    }

    #[test]
    fn no_refusal_is_a_success() {
        for reason in Reason::ALL {
            assert!(status(*reason).as_u16() >= 400, "{}", reason.code());
        }
    }
}
