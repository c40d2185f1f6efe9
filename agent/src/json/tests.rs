//! Text in, value, canonical bytes or refusal out.

use std::time::Duration;

use expect_test::{Expect, expect};
use nix::time::{ClockId, clock_gettime};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::{Error, Limits, OBJECTS_MAX, canonical, digest, parse};

fn read(text: &str) -> Result<Value, Error> {
    parse(text.as_bytes(), Limits::default())
}

fn check(text: &str, expected: &Expect) {
    let said = match read(text) {
        Ok(value) => String::from_utf8(canonical(&value)).expect("UTF-8"),
        Err(error) => error.to_string(),
    };
    expected.assert_eq(&said);
}

#[test]
fn good_values_have_one_form() {
    check(
        " {\"b\":[1.0,-0,1e2,0.10,\"\\u00e9\\/\"],\"a\":null}\r\n",
        &expect![[r#"{"a":null,"b":[1,0,100,0.1,"é/"]}"#]],
    );
    check("5e-324", &expect!["5e-324"]);
    check(
        "1.7976931348623157e308",
        &expect!["json: the number at byte 0 has no exact form"],
    );
    check("9007199254740991", &expect!["9007199254740991"]);
    check("-9007199254740991.0", &expect!["-9007199254740991"]);
    check("0e999999", &expect!["0"]);
    assert_eq!(read("1.0"), Ok(json!(1)));
    assert_eq!(read("-0.0"), Ok(json!(0)));
    assert_eq!(read("0.5"), Ok(json!(0.5)));
}

#[test]
fn keys_are_ordered_by_utf_16_units() {
    // RFC 8785, 3.2.3.
    check(
        r#"{"\u20ac":1,"\r":2,"\ufb33":3,"1":4,"\ud83d\ude00":5,"\u0080":6,"\u00f6":7}"#,
        &expect!["{\"\\r\":2,\"1\":4,\"\u{80}\":6,\"ö\":7,\"€\":1,\"😀\":5,\"\u{fb33}\":3}"],
    );
}

#[test]
fn numbers_that_readers_round_are_refused() {
    for number in [
        "9007199254740992",
        "-9007199254740992",
        "9007199254740993.0",
        "12345678901234567890",
        "1e22",
        "1e309",
        "-1e400",
        "1e-400",
        "3.141592653589793238462643383279",
        "0.1000000000000000055511151231257827",
        "1e99999999999999999999",
        "1e-99999999999999999999",
    ] {
        let error = read(number).expect_err(number);
        assert!(matches!(error, Error::Number(0)), "{number}: {error}");
        assert!(read(&format!("\"{number}\"")).is_ok(), "{number}");
        let error = read(&format!("{{\"a\\\"1\":[{number}]}}")).expect_err(number);
        assert!(matches!(error, Error::Number(9)), "{number}: {error}");
    }
}

#[test]
fn a_key_twice_is_refused() {
    check(
        r#"{"a":1,"a":1}"#,
        &expect!["json: a key twice in one object, line 1, column 10"],
    );
    check(
        r#"[{"x":{"a":1,"\u0061":2}}]"#,
        &expect!["json: a key twice in one object, line 1, column 21"],
    );
    check(
        r#"{"a":1,"A":{"a":1}}"#,
        &expect![[r#"{"A":{"a":1},"a":1}"#]],
    );
}

#[test]
fn what_is_no_json_is_refused() {
    for text in [
        "",
        " ",
        "nul",
        "nan",
        "NaN",
        "Infinity",
        "-",
        "01",
        "+1",
        ".5",
        "1.",
        "1e",
        "'a'",
        "{a:1}",
        "[1,]",
        "{\"a\":1,}",
        "1 2",
        "{}{}",
        "[1]//",
        "/**/1",
        "\"\t\"",
        "\"\\x41\"",
        "\"\\u12\"",
        "\"abc",
        "[",
        "{\"a\"}",
        "\u{feff}1",
        "\u{a0}1",
        "\"\\ud800\"",
        "\"\\udc00\"",
        "\"\\ud800\\u0041\"",
        "\"\\ud800\\ud800\"",
        "{\"\\ud800\":1}",
        "\0",
        "1\0",
    ] {
        assert!(read(text).is_err(), "{text:?}");
    }
    for bytes in [
        &b"\"\xff\""[..],
        b"\"\xc0\x80\"",
        b"\"\xed\xa0\x80\"",
        b"\xff\xfe1\0",
    ] {
        let error = parse(bytes, Limits::default()).expect_err("no UTF-8");
        assert!(matches!(error, Error::Encoding(_)), "{error}");
    }
    for text in [
        "\"\u{fffe}\"",
        "\"\\uffff\"",
        "{\"\\ufdd0\":1}",
        "\"\\ud83f\\udfff\"",
    ] {
        let error = read(text).expect_err(text);
        assert!(matches!(error, Error::NoCharacter { .. }), "{error}");
    }
}

#[test]
fn bounds_hold_at_their_edge() {
    let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
    assert!(read(&nested(64)).is_ok());
    assert!(matches!(
        read(&nested(65)),
        Err(Error::Deep { depth: 64, at: 64 })
    ));
    let all = Limits {
        bytes: 1 << 20,
        depth: usize::MAX,
    };
    assert!(parse(nested(127).as_bytes(), all).is_ok());
    assert!(matches!(
        parse(nested(128).as_bytes(), all),
        Err(Error::Deep { .. })
    ));
    // Brackets in strings do not count.
    assert!(read(&format!("\"{}\\\"{}\"", nested(100), nested(100))).is_ok());
    let limits = Limits { bytes: 3, depth: 1 };
    assert!(parse(b"[1]", limits).is_ok());
    assert!(matches!(parse(b"[1] ", limits), Err(Error::Long(3))));
    let objects = |count: usize| format!("[{}{{}}]", "{},".repeat(count - 1));
    assert!(read(&objects(OBJECTS_MAX)).is_ok());
    assert!(matches!(
        read(&objects(OBJECTS_MAX + 1)),
        Err(Error::Objects)
    ));
}

#[test]
fn time_grows_with_the_length() {
    let long = Limits {
        bytes: 1 << 20,
        depth: 64,
    };
    let many_keys: Vec<_> = (0..60_000).map(|key| format!("\"{key:x}\":0")).collect();
    for text in [
        format!("[{}1]", "1,".repeat(500_000)),
        format!("\"{}\"", "\\u0041".repeat(170_000)),
        format!("0.{}1", "0".repeat(1_000_000)),
        format!("{}1e5", "9".repeat(1_000_000)),
        format!("{{{}}}", many_keys.join(",")),
        "[".repeat(1_000_000),
        "\"".repeat(1_000_000),
        "-".repeat(1_000_000),
    ] {
        let start = spent();
        drop(parse(text.as_bytes(), long));
        let took = spent().saturating_sub(start);
        assert!(took.as_secs() < 5, "{took:?} for {}…", &text[..10]);
    }
}

/// Time that this thread has computed: the machine may be busy with other things.
fn spent() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)
        .expect("a clock")
        .into()
}

#[test]
fn the_digest_is_of_the_canonical_bytes() {
    let one = read(r#"{"amount": 10.0, "to": "a"}"#).expect("json");
    let other = read(r#"{"to":"\u0061","amount":1e1}"#).expect("json");
    assert_eq!(digest(&one), digest(&other));
    assert_ne!(digest(&one), digest(&json!({"amount": 11, "to": "a"})));
    // SHA-256 of `{}`.
    let first = [0x44, 0x13, 0x6f, 0xa3, 0x55, 0xb3, 0x67, 0x8a];
    assert_eq!(digest(&json!({})).first_chunk(), Some(&first));
}

fn values() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (-9_007_199_254_740_991_i64..=9_007_199_254_740_991).prop_map(|whole| {
            u64::try_from(whole).map_or_else(|_| Value::from(whole), Value::from)
        }),
        any::<f64>()
            .prop_filter("exact", |double| double.is_finite()
                && double.fract() != 0.0)
            .prop_map(Value::from),
        "\\PC{0,8}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 32, 6, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            proptest::collection::btree_map("\\PC{0,4}", inner, 0..6)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

proptest! {
    /// The writer is our own; the library's is the one that it is held against.
    #[test]
    fn canonical_bytes_are_those_of_the_library(value in values(), whole in any::<i64>(), large in any::<u64>(), double in any::<f64>()) {
        for value in [value, whole.into(), large.into(), (whole >> 11).into(), Value::from(double)] {
            let library = serde_json_canonicalizer::to_vec(&value).expect("written");
            prop_assert_eq!(canonical(&value), library);
        }
    }

    /// What is canonical is read back as the same value, however it was spaced.
    #[test]
    fn canonical_bytes_are_read_back(value in values()) {
        let bytes = canonical(&value);
        prop_assert_eq!(parse(&bytes, Limits::default()), Ok(value.clone()));
        let pretty = serde_json::to_vec_pretty(&value).expect("json");
        prop_assert_eq!(parse(&pretty, Limits::default()), Ok(value));
    }

    /// It takes nothing that `serde_json` does not take, and reads the same.
    #[test]
    fn it_is_no_wider_than_serde_json(text in "[\\[\\]{}:,\"\\\\0-9eE.+\\- truefalsn\u{e9}]{0,24}") {
        if let Ok(strict) = parse(text.as_bytes(), Limits::default()) {
            let lax: Value = serde_json::from_str(&text).expect("no wider");
            prop_assert_eq!(canonical(&strict), canonical(&lax));
        }
    }

    /// Every double as others write it (RFC 8785, ECMAScript) is exact, unless it is a huge whole number.
    #[test]
    fn canonical_forms_are_exact(high in 1_u32 << 29..1 << 31, quarters in 0_u32..1 << 22) {
        // Half of these lie in the middle between two texts that are as short.
        let double = f64::from(high) * 1_048_576.0 + f64::from(quarters) / 4.0;
        let text = serde_json_canonicalizer::to_string(&double).expect("written");
        prop_assert_eq!(read(&text).ok().and_then(|value| value.as_f64()), Some(double), "{}", text);
    }

    /// Every double in its shortest form is exact, unless it is a huge whole number.
    #[test]
    fn shortest_forms_are_exact(double in any::<f64>()) {
        prop_assume!(double.is_finite());
        let text = format!("{double:e}");
        let huge = double.fract() == 0.0 && double.abs() > 9_007_199_254_740_991.0;
        prop_assert_eq!(read(&text).is_ok(), !huge, "{}", text);
        if let Ok(value) = read(&text) {
            prop_assert_eq!(value.as_f64().map(f64::to_bits), Some((double + 0.0).to_bits()));
        }
    }
}
