//! The parser: one look over the bytes for what a tokeniser does not tell (depth, objects, numbers as
//! they are written), then a visitor of our own over `serde_json`'s tokens.
//!
//! The first look only ever refuses: what it takes for a number in a text that is no JSON does not
//! matter, because the second decides what JSON is.

use std::{cell::Cell, fmt};

use serde::de::{self, DeserializeSeed, Deserializer as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use super::{DEPTH_MAX, Error, Limits, OBJECTS_MAX, number};

/// Reads one value. Linear in time and memory.
pub fn parse(bytes: &[u8], limits: Limits) -> Result<Value, Error> {
    if bytes.len() > limits.bytes {
        return Err(Error::Long(limits.bytes));
    }
    let text = str::from_utf8(bytes).map_err(|error| Error::Encoding(error.valid_up_to()))?;
    scan(text, limits.depth.min(DEPTH_MAX))?;
    let fault = Cell::new(Fault::Syntax);
    let mut tokens = serde_json::Deserializer::from_str(text);
    let value = tokens.deserialize_any(Strict(&fault));
    let value = value.and_then(|value| tokens.end().map(|()| value));
    value.map_err(|error| {
        let (line, column) = (error.line(), error.column());
        match fault.get() {
            Fault::Syntax => Error::Malformed { line, column },
            Fault::DuplicateKey => Error::DuplicateKey { line, column },
            Fault::NoCharacter => Error::NoCharacter { line, column },
        }
    })
}

/// Checks depth, number of objects, and each number.
fn scan(text: &str, depth_max: usize) -> Result<(), Error> {
    let bytes = text.as_bytes();
    let (mut at, mut depth, mut objects) = (0_usize, 0_usize, 0_usize);
    while let Some(byte) = bytes.get(at) {
        let mut next = at.saturating_add(1);
        match byte {
            b'"' => next = string_end(bytes, next),
            b'{' | b'[' => {
                depth = depth.saturating_add(1);
                if depth > depth_max {
                    return Err(Error::Deep {
                        depth: depth_max,
                        at,
                    });
                }
                objects = objects.saturating_add(usize::from(*byte == b'{'));
                if objects > OBJECTS_MAX {
                    return Err(Error::Objects);
                }
            }
            b'}' | b']' => depth = depth.saturating_sub(1),
            b'-' | b'0'..=b'9' => {
                let rest = bytes.get(at..).unwrap_or_default();
                let length = rest.iter().take_while(|byte| is_of_number(**byte)).count();
                next = at.saturating_add(length);
                if !text.get(at..next).is_some_and(number::is_exact) {
                    return Err(Error::Number(at));
                }
            }
            _ => {}
        }
        at = next;
    }
    Ok(())
}

fn is_of_number(byte: u8) -> bool {
    byte.is_ascii_digit() || matches!(byte, b'-' | b'+' | b'.' | b'e' | b'E')
}

/// Where the string ends whose first byte is at this place.
fn string_end(bytes: &[u8], mut at: usize) -> usize {
    while let Some(byte) = bytes.get(at) {
        let step = match byte {
            b'"' => return at.saturating_add(1),
            b'\\' => 2,
            _ => 1,
        };
        at = at.saturating_add(step);
    }
    at
}

/// What the visitor found, where the tokeniser found nothing.
#[derive(Clone, Copy)]
enum Fault {
    Syntax,
    DuplicateKey,
    NoCharacter,
}

#[derive(Clone, Copy)]
struct Strict<'a>(&'a Cell<Fault>);

impl Strict<'_> {
    fn fail<E: de::Error>(self, fault: Fault) -> E {
        self.0.set(fault);
        E::custom("")
    }

    /// RFC 7493, 2.1: no code points that are no characters.
    fn characters<E: de::Error>(self, text: &str) -> Result<(), E> {
        // All of them take three or four bytes, which most texts do not hold.
        if !text.is_ascii() && text.chars().any(is_no_character) {
            return Err(self.fail(Fault::NoCharacter));
        }
        Ok(())
    }
}

/// The 66 code points that Unicode keeps for ever unassigned.
fn is_no_character(character: char) -> bool {
    let code = u32::from(character);
    (0xFDD0..=0xFDEF).contains(&code) || code & 0xFFFE == 0xFFFE
}

impl<'de> DeserializeSeed<'de> for Strict<'_> {
    type Value = Value;

    fn deserialize<D: de::Deserializer<'de>>(self, tokens: D) -> Result<Value, D::Error> {
        tokens.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, truth: bool) -> Result<Value, E> {
        Ok(Value::Bool(truth))
    }

    // The first look has bounded whole numbers, so these two are exact as they are.
    fn visit_u64<E>(self, whole: u64) -> Result<Value, E> {
        Ok(whole.into())
    }

    fn visit_i64<E>(self, whole: i64) -> Result<Value, E> {
        Ok(whole.into())
    }

    fn visit_f64<E>(self, double: f64) -> Result<Value, E> {
        Ok(number::value(double))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Value, E> {
        self.characters(text)?;
        Ok(text.into())
    }

    fn visit_string<E: de::Error>(self, text: String) -> Result<Value, E> {
        self.characters(&text)?;
        Ok(text.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Value, A::Error> {
        let mut array = Vec::new();
        while let Some(element) = elements.next_element_seed(self)? {
            array.push(element);
        }
        Ok(Value::Array(array))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some(key) = members.next_key::<String>()? {
            self.characters(&key)?;
            if object.contains_key(&key) {
                return Err(self.fail(Fault::DuplicateKey));
            }
            let value = members.next_value_seed(self)?;
            object.insert(key, value);
        }
        Ok(Value::Object(object))
    }
}
