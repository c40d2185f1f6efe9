//! The writer of the canonical form. A call is written in this form four times, so it goes straight
//! from the value to the bytes; what few texts hold (a number with a fraction, a key beyond ASCII) goes
//! the slow way.

use serde_json::{Map, Number, Value};

/// Largest whole number that has the same digits as the double that is nearest: 2^53 − 1.
const WHOLE_MAX: u64 = (1 << 53) - 1;
/// Bytes of a value that most are smaller than.
const BYTES: usize = 512;

pub(super) fn write(value: &Value) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(BYTES);
    put(value, &mut bytes);
    bytes
}

fn put(value: &Value, to: &mut Vec<u8>) {
    match value {
        Value::Null => to.extend(b"null"),
        Value::Bool(true) => to.extend(b"true"),
        Value::Bool(false) => to.extend(b"false"),
        Value::Number(number) => put_number(number, to),
        Value::String(text) => put_text(text, to),
        Value::Array(elements) => {
            to.push(b'[');
            for (number, element) in elements.iter().enumerate() {
                if number > 0 {
                    to.push(b',');
                }
                put(element, to);
            }
            to.push(b']');
        }
        Value::Object(members) => put_members(members, to),
    }
}

/// In the order of their keys' UTF-16 units, which of ASCII is that of their bytes.
fn put_members(members: &Map<String, Value>, to: &mut Vec<u8>) {
    let mut sorted: Vec<_> = members.iter().collect();
    if sorted.iter().all(|(key, _)| key.is_ascii()) {
        sorted.sort_unstable_by_key(|(key, _)| *key);
    } else {
        sorted.sort_by(|(one, _), (other, _)| one.encode_utf16().cmp(other.encode_utf16()));
    }
    to.push(b'{');
    for (number, (key, value)) in sorted.into_iter().enumerate() {
        if number > 0 {
            to.push(b',');
        }
        put_text(key, to);
        to.push(b':');
        put(value, to);
    }
    to.push(b'}');
}

/// The escapes of `serde_json` are those of ECMAScript, which RFC 8785 asks for.
fn put_text(text: &str, to: &mut Vec<u8>) {
    // Neither text nor memory can fail to be written.
    serde_json::to_writer(to, text).ok();
}

fn put_number(number: &Number, to: &mut Vec<u8>) {
    let whole = match (number.as_u64(), number.as_i64()) {
        (Some(whole), _) => whole <= WHOLE_MAX,
        (None, Some(whole)) => whole.unsigned_abs() <= WHOLE_MAX,
        (None, None) => false,
    };
    let written = if whole {
        serde_json::to_writer(to, number)
    } else {
        // As a double. It fails for what is not finite, and `Number` holds none.
        serde_json_canonicalizer::to_writer(number, to)
    };
    written.ok();
}
