//! Strict JSON: what every door reads first.

use agent::json::{Error, Limits, canonical, digest, parse};

use crate::mutator::fuzz;

const CALL: &[u8] = br#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"create","arguments":{"amount":10.50,"to":"\u00e9\ud83d\ude00","tags":["a","b"],"deep":{"a":{"b":[1e2,-0,null,true]}}}}}"#;
const NUMBERS: &[u8] = b"[0,-1,1.5,1e-7,9007199254740991,0.1,5e-324,123456.789]";

#[test]
fn a_value_of_any_bytes_has_one_form_or_is_refused() {
    let limits = Limits::default();
    for good in [CALL, NUMBERS] {
        parse(good, limits).expect("a good value");
    }
    fuzz("json", &[CALL, NUMBERS], |bytes| {
        let value = match parse(bytes, limits) {
            Ok(value) => value,
            // What it refuses, it refuses for a reason that is its own, or it is no JSON.
            Err(Error::Malformed { .. } | Error::Encoding(_)) => {
                let lax = serde_json::from_slice::<serde_json::Value>(bytes);
                assert!(lax.is_err(), "refused, and is JSON");
                return;
            }
            Err(_) => return,
        };
        let text = canonical(&value);
        let again = parse(&text, limits).expect("its own form is read");
        assert_eq!(again, value);
        assert_eq!(canonical(&again), text);
        assert_eq!(digest(&again), digest(&value));
        let lax: serde_json::Value = serde_json::from_slice(bytes).expect("never wider");
        assert_eq!(canonical(&lax), text);
    });
}
