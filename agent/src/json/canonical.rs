//! The canonical form (RFC 8785) written in one pass: what a record of the journal holds is written as it
//! comes, and an object whose keys came out of order is put right where it lies. Unlike the library's
//! writer, it takes what is in canonical form already ([`raw`]) as it is.

use std::{
    borrow::Cow,
    cmp::Ordering,
    io::{self, Write},
    ops::Range,
};

use serde::Serialize;
use serde_json::{
    ser::{CharEscape, CompactFormatter, Formatter, Serializer},
    value::RawValue,
};

/// Integers up to this are written as they are; a double holds each of them, and ECMAScript writes it
/// without an exponent.
const PLAIN_MAX: u64 = 1 << 53;

/// Appends the canonical form of a value. A number that is not finite, of which JSON has none, comes out
/// as `null`.
pub fn write(value: &impl Serialize, to: &mut Vec<u8>) -> serde_json::Result<()> {
    let mut written = Serializer::with_formatter(to, Canonical::default());
    value.serialize(&mut written)
}

/// Appends the canonical form of an object and tells where its members lie in it, in order: each from the
/// first quote of its key to the end of its value. Nothing where the value is no object.
pub fn write_object(
    value: &impl Serialize,
    to: &mut Vec<u8>,
) -> serde_json::Result<Vec<Range<usize>>> {
    let (begin, mut members) = (to.len(), Vec::with_capacity(MEMBERS));
    let canonical = Canonical {
        outermost: Some(&mut members),
        ..Canonical::default()
    };
    value.serialize(&mut Serializer::with_formatter(to, canonical))?;
    for member in &mut members {
        *member = begin + member.start..begin + member.end;
    }
    Ok(members)
}

/// A value in its canonical form, to be written into others.
pub fn raw(value: &impl Serialize) -> serde_json::Result<Box<RawValue>> {
    let mut form = Vec::new();
    write(value, &mut form)?;
    let form = String::from_utf8(form).map_err(serde::ser::Error::custom)?;
    RawValue::from_string(form)
}

/// What most records of a call fit into, bytes and members.
const HELD_BYTES: usize = 1_024;
const MEMBERS: usize = 16;

/// Holds back what is within an object until its end.
#[derive(Debug, Default)]
struct Canonical<'a> {
    held: Vec<u8>,
    objects: Vec<Object>,
    /// Where the members of the whole lie, for whoever wants to know.
    outermost: Option<&'a mut Vec<Range<usize>>>,
}

/// An object that is being written.
#[derive(Debug, Default)]
struct Object {
    /// Where its first member begins.
    begin: usize,
    members: Vec<Member>,
}

/// Where a member lies: its key with the quotes, then a colon, then its value.
#[derive(Clone, Debug)]
struct Member {
    key: Range<usize>,
    plain: bool,
    end: usize,
}

impl Canonical<'_> {
    fn put(&mut self, to: &mut (impl Write + ?Sized), bytes: &[u8]) -> io::Result<()> {
        if self.objects.is_empty() {
            return to.write_all(bytes);
        }
        self.held.extend_from_slice(bytes);
        Ok(())
    }

    fn number(
        &mut self,
        to: &mut (impl Write + ?Sized),
        number: &impl Serialize,
    ) -> io::Result<()> {
        let text = serde_json_canonicalizer::to_vec(number)?;
        self.put(to, &text)
    }

    /// Puts the members of the innermost object in order.
    fn order(&mut self) -> io::Result<()> {
        let Some(Object { begin, members }) = self.objects.last_mut() else {
            return Err(odd("an object that ended before it began"));
        };
        let held = &self.held;
        let key = |member: &Member| held.get(member.key.clone()).unwrap_or_default();
        let compare = |one: &Member, other: &Member| {
            if one.plain && other.plain {
                by_bytes(key(one), key(other))
            } else {
                by_units(key(one), key(other))
            }
        };
        if members.is_sorted_by(|one, next| compare(one, next).is_lt()) {
            return Ok(());
        }
        members.sort_by(compare);
        if !members.is_sorted_by(|one, next| compare(one, next).is_lt()) {
            return Err(odd("a key twice in one object"));
        }
        let mut ordered = Vec::with_capacity(held.len().saturating_sub(*begin));
        for member in members {
            if !ordered.is_empty() {
                ordered.push(b',');
            }
            let whole = held.get(member.key.start..member.end);
            let start = *begin + ordered.len();
            ordered.extend_from_slice(whole.unwrap_or_default());
            // Its key is compared with no other any more.
            (member.key.start, member.end) = (start, *begin + ordered.len());
        }
        self.held.truncate(*begin);
        self.held.extend(ordered);
        Ok(())
    }
}

/// Whether the bytes of a key, which has its quotes, are in the order of its UTF-16 units.
fn is_plain(key: &[u8]) -> bool {
    key.iter().all(|byte| byte.is_ascii() && *byte != b'\\')
}

/// The same order for two plain keys.
fn by_bytes(one: &[u8], other: &[u8]) -> Ordering {
    // Without the quote at the end, which is none of the key.
    let key = |quoted: &[u8]| quoted.strip_suffix(b"\"").map_or(quoted.len(), <[u8]>::len);
    one.get(..key(one)).cmp(&other.get(..key(other)))
}

/// The order of any two keys: that of their UTF-16 units.
fn by_units(one: &[u8], other: &[u8]) -> Ordering {
    let units = |key: &[u8]| -> Vec<u16> {
        let text: Cow<'_, str> = serde_json::from_slice(key).unwrap_or_default();
        text.encode_utf16().collect()
    };
    units(one).cmp(&units(other))
}

fn odd(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

macro_rules! numbers {
    ($($name:ident $kind:ty),*) => {
        $(fn $name<W: ?Sized + Write>(&mut self, to: &mut W, number: $kind) -> io::Result<()> {
            if u64::try_from(number).is_ok_and(|number| number <= PLAIN_MAX) {
                return self.put(to, number.to_string().as_bytes());
            }
            self.number(to, &number)
        })*
    };
}

impl Formatter for Canonical<'_> {
    numbers!(
        write_i8 i8, write_i16 i16, write_i32 i32, write_i64 i64, write_i128 i128,
        write_u8 u8, write_u16 u16, write_u32 u32, write_u64 u64, write_u128 u128
    );

    fn write_null<W: ?Sized + Write>(&mut self, to: &mut W) -> io::Result<()> {
        self.put(to, b"null")
    }

    fn write_bool<W: ?Sized + Write>(&mut self, to: &mut W, value: bool) -> io::Result<()> {
        self.put(to, if value { b"true" } else { b"false" })
    }

    fn write_f32<W: ?Sized + Write>(&mut self, to: &mut W, number: f32) -> io::Result<()> {
        self.number(to, &number)
    }

    fn write_f64<W: ?Sized + Write>(&mut self, to: &mut W, number: f64) -> io::Result<()> {
        self.number(to, &number)
    }

    fn write_number_str<W: ?Sized + Write>(&mut self, to: &mut W, text: &str) -> io::Result<()> {
        let number: f64 = text.parse().map_err(|_no_number| odd("no number"))?;
        self.number(to, &number)
    }

    fn begin_string<W: ?Sized + Write>(&mut self, to: &mut W) -> io::Result<()> {
        self.put(to, b"\"")
    }

    fn end_string<W: ?Sized + Write>(&mut self, to: &mut W) -> io::Result<()> {
        self.put(to, b"\"")
    }

    fn write_string_fragment<W: ?Sized + Write>(
        &mut self,
        to: &mut W,
        text: &str,
    ) -> io::Result<()> {
        self.put(to, text.as_bytes())
    }

    fn write_char_escape<W: ?Sized + Write>(
        &mut self,
        to: &mut W,
        escape: CharEscape,
    ) -> io::Result<()> {
        // `serde_json` escapes what RFC 8785 does, and in the same way.
        let mut text = Vec::with_capacity(6);
        CompactFormatter.write_char_escape(&mut text, escape)?;
        self.put(to, &text)
    }

    fn begin_array<W: ?Sized + Write>(&mut self, to: &mut W) -> io::Result<()> {
        self.put(to, b"[")
    }

    fn end_array<W: ?Sized + Write>(&mut self, to: &mut W) -> io::Result<()> {
        self.put(to, b"]")
    }

    fn begin_array_value<W: ?Sized + Write>(&mut self, to: &mut W, first: bool) -> io::Result<()> {
        if first { Ok(()) } else { self.put(to, b",") }
    }

    fn end_array_value<W: ?Sized + Write>(&mut self, _to: &mut W) -> io::Result<()> {
        Ok(())
    }

    fn begin_object<W: ?Sized + Write>(&mut self, _to: &mut W) -> io::Result<()> {
        self.held.reserve(HELD_BYTES);
        self.held.push(b'{');
        self.objects.push(Object {
            begin: self.held.len(),
            members: Vec::with_capacity(MEMBERS),
        });
        Ok(())
    }

    fn end_object<W: ?Sized + Write>(&mut self, to: &mut W) -> io::Result<()> {
        self.order()?;
        let object = self.objects.pop();
        self.held.push(b'}');
        if self.objects.is_empty() {
            if let (Some(lie), Some(object)) = (&mut self.outermost, object) {
                let members = object.members.into_iter();
                lie.extend(members.map(|member| member.key.start..member.end));
            }
            to.write_all(&self.held)?;
            self.held.clear();
        }
        Ok(())
    }

    fn begin_object_key<W: ?Sized + Write>(&mut self, _to: &mut W, first: bool) -> io::Result<()> {
        if !first {
            self.held.push(b',');
        }
        let begin = self.held.len();
        if let Some(object) = self.objects.last_mut() {
            object.members.push(Member {
                key: begin..begin,
                plain: false,
                end: begin,
            });
        }
        Ok(())
    }

    fn end_object_key<W: ?Sized + Write>(&mut self, _to: &mut W) -> io::Result<()> {
        let end = self.held.len();
        let object = self.objects.last_mut();
        if let Some(member) = object.and_then(|object| object.members.last_mut()) {
            member.key.end = end;
            member.plain = is_plain(self.held.get(member.key.clone()).unwrap_or_default());
        }
        Ok(())
    }

    fn begin_object_value<W: ?Sized + Write>(&mut self, to: &mut W) -> io::Result<()> {
        self.put(to, b":")
    }

    fn end_object_value<W: ?Sized + Write>(&mut self, _to: &mut W) -> io::Result<()> {
        let end = self.held.len();
        let object = self.objects.last_mut();
        if let Some(member) = object.and_then(|object| object.members.last_mut()) {
            member.end = end;
        }
        Ok(())
    }

    fn write_raw_fragment<W: ?Sized + Write>(&mut self, to: &mut W, form: &str) -> io::Result<()> {
        self.put(to, form.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use serde::Serialize;
    use serde_json::{Value, json};

    use super::{raw, write};

    fn check(value: &impl Serialize) {
        let mut form = Vec::new();
        write(value, &mut form).expect("it has a form");
        let expected = serde_json_canonicalizer::to_string(value).expect("it has a form");
        assert_eq!(String::from_utf8(form).expect("text"), expected);
    }

    #[test]
    fn it_is_the_form_of_the_other_writer() {
        check(&json!({"b": 1, "a": {"z": [1, {"y": null, "x": true}], "c": {}}, "": "x", "ab": 2}));
        check(&json!([
            3,
            -4,
            0.5,
            1e21,
            1e-7,
            "\u{8}\u{1f}\"\\/\n\u{20ac}",
            [],
            [{}]
        ]));
        // By UTF-16 units a surrogate comes before what follows it by code points.
        check(&json!({"\u{10000}": 1, "\u{fb33}": 2, "\u{20ac}": 3, "\r": 4, "\"": 5, "1": 6}));
        check(&json!({"a\\": 1, "a": 2, "a b": 3, "a\u{e9}": 4}));
        for number in [0, 1, u64::MAX, 1 << 53, (1 << 53) + 1] {
            check(&number);
            check(&number.cast_signed());
        }
        check(&"alone");
        check(&f64::MIN_POSITIVE);
        check(&None::<u8>);
    }

    #[derive(Serialize)]
    struct Outer<T> {
        z: u8,
        list: [T; 2],
        a: T,
    }

    #[test]
    fn what_has_the_form_is_taken_as_it_is() {
        let inner = json!({"b": [1, 2], "a": "x"});
        let form = raw(&inner).expect("it has a form");
        assert_eq!(form.get(), r#"{"a":"x","b":[1,2]}"#);
        let (mut one, mut other) = (Vec::new(), Vec::new());
        let [value, again, third] = [(); 3].map(|()| inner.clone());
        let plain = Outer {
            z: 1,
            list: [value, again],
            a: third,
        };
        let ready = Outer {
            z: 1,
            list: [&form, &form],
            a: &form,
        };
        write(&plain, &mut one).expect("it has a form");
        write(&ready, &mut other).expect("it has a form");
        assert_eq!(one, other);
        serde_json::from_slice::<Value>(&one).expect("JSON");
    }

    #[test]
    fn a_key_twice_is_an_error() {
        struct Twice;
        impl Serialize for Twice {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                use serde::ser::SerializeMap as _;
                let mut map = serializer.serialize_map(None)?;
                for key in ["b", "a", "b"] {
                    map.serialize_entry(key, &1)?;
                }
                map.end()
            }
        }
        assert!(write(&Twice, &mut Vec::new()).is_err());
    }
}
