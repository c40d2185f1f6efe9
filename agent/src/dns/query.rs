//! A query as a worker sent it: hostile bytes, read strictly or not at all.
//!
//! The bytes of the question stay as they came (they are echoed, letter case and all); nothing here
//! knows names that are allowed. Written by hand because it is the way of every packet: one pass, no
//! allocation. `tests/fuzz` holds it together with `hickory-proto`'s reader.

use std::borrow::Cow;

use super::reply::Code;

/// Longest query, bytes, over UDP and TCP. A query of ours is a name and a few EDNS options.
pub const QUERY_BYTES_MAX: usize = 4_096;
/// Bytes of a header (RFC 1035, 4.1.1).
pub const HEADER_BYTES: usize = 12;
/// Bytes of a name on the wire (RFC 1035, 2.3.4).
pub const NAME_BYTES_MAX: usize = 255;
/// Bytes of a label.
const LABEL_BYTES_MAX: u8 = 63;
/// Class IN.
const CLASS_IN: u16 = 1;
/// Type OPT (RFC 6891).
const TYPE_OPT: u16 = 41;
/// Smallest and default size of an answer over UDP (RFC 1035, 4.2.1).
pub const UDP_BYTES_MIN: usize = 512;

/// A query with one question of class IN.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Query<'a> {
    /// Identifier, flags and code of the header.
    pub header: Header,
    /// Name, type and class as they came, uncompressed.
    pub question: Cow<'a, [u8]>,
    /// The type that is asked for.
    pub record: u16,
    /// EDNS, where the query has it.
    pub edns: Option<Edns>,
}

/// What a reply repeats of the header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Header {
    /// Identifier.
    pub id: u16,
    /// Kind of query, 0 for a standard one.
    pub opcode: u8,
    /// Recursion desired.
    pub recursion_desired: bool,
    /// Checking disabled.
    pub checking_disabled: bool,
}

/// EDNS of a query (RFC 6891).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Edns {
    /// Bytes that the asker takes over UDP.
    pub payload: u16,
    /// Version; 0 is the one there is.
    pub version: u8,
    /// The DNSSEC OK bit.
    pub dnssec_ok: bool,
}

/// Bytes that are no query.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Malformed {
    /// Too short to answer, or a reply: whoever answers a reply can be made to talk to itself.
    Unanswerable,
    /// Answered with a header and this code.
    Answered(Header, Code),
}

/// Reads one message.
pub fn read(bytes: &[u8]) -> Result<Query<'_>, Malformed> {
    let mut reader = Reader(bytes);
    let (header, counts) = read_header(&mut reader).ok_or(Malformed::Unanswerable)??;
    let refused = |code| Malformed::Answered(header, code);
    if header.opcode != 0 {
        return Err(refused(Code::NotImp));
    }
    let [questions, answers, authorities, additionals] = counts;
    if questions != 1 || answers != 0 || authorities != 0 || bytes.len() > QUERY_BYTES_MAX {
        return Err(refused(Code::FormErr));
    }
    let malformed = || refused(Code::FormErr);
    let start = reader.0;
    let name_bytes = reader.name().ok_or_else(malformed)?;
    let record = reader.u16().ok_or_else(malformed)?;
    let class = reader.u16().ok_or_else(malformed)?;
    let question = start.get(..name_bytes + 4).ok_or_else(malformed)?;
    let edns = match additionals {
        0 => None,
        1 => Some(reader.edns().ok_or_else(malformed)?),
        _ => return Err(malformed()),
    };
    if !reader.0.is_empty() {
        return Err(malformed());
    }
    if class != CLASS_IN {
        return Err(refused(Code::Refused));
    }
    Ok(Query {
        header,
        question: Cow::Borrowed(question),
        record,
        edns,
    })
}

/// The header and the counts of the four sections. `None`: too short.
fn read_header(reader: &mut Reader<'_>) -> Option<Result<(Header, [u16; 4]), Malformed>> {
    let id = reader.u16()?;
    let flags = reader.u16()?;
    let counts = [reader.u16()?, reader.u16()?, reader.u16()?, reader.u16()?];
    if flags & 0x8000 != 0 {
        return Some(Err(Malformed::Unanswerable));
    }
    let [high, low] = flags.to_be_bytes();
    let header = Header {
        id,
        opcode: (high >> 3) & 0xf,
        recursion_desired: high & 1 != 0,
        checking_disabled: low & 0x10 != 0,
    };
    Some(Ok((header, counts)))
}

impl Query<'_> {
    /// The query with bytes of its own.
    #[must_use]
    pub fn into_owned(self) -> Query<'static> {
        Query {
            header: self.header,
            question: Cow::Owned(self.question.into_owned()),
            record: self.record,
            edns: self.edns,
        }
    }

    /// Most bytes that an answer over UDP may have.
    #[must_use]
    pub fn udp_bytes_max(&self) -> usize {
        self.edns.map_or(UDP_BYTES_MIN, |edns| {
            usize::from(edns.payload).clamp(UDP_BYTES_MIN, QUERY_BYTES_MAX)
        })
    }

    /// The name in lower case, where it has at least one label and every byte is a letter, a digit,
    /// `-` or `_`. Other names are in no policy.
    #[must_use]
    pub fn plain_name(&self) -> Option<String> {
        let mut name = String::with_capacity(self.question.len());
        for label in self.labels() {
            if !name.is_empty() {
                name.push('.');
            }
            for byte in label {
                if !byte.is_ascii_alphanumeric() && !matches!(byte, b'-' | b'_') {
                    return None;
                }
                name.push(char::from(byte.to_ascii_lowercase()));
            }
        }
        (!name.is_empty()).then_some(name)
    }

    /// The name for people: as asked, with every unusual byte as `\DDD` (RFC 1035, 5.1).
    #[must_use]
    pub fn shown_name(&self) -> String {
        let mut name = String::with_capacity(self.question.len());
        for label in self.labels() {
            if !name.is_empty() {
                name.push('.');
            }
            for byte in label {
                if byte.is_ascii_graphic() && !matches!(byte, b'.' | b'\\') {
                    name.push(char::from(*byte));
                } else {
                    name.push('\\');
                    name.extend(
                        [byte / 100, byte / 10 % 10, byte % 10].map(|n| char::from(b'0' + n)),
                    );
                }
            }
        }
        if name.is_empty() {
            name.push('.');
        }
        name
    }

    fn labels(&self) -> impl Iterator<Item = &[u8]> {
        let mut reader = Reader(&self.question);
        std::iter::from_fn(move || {
            let length = reader.u8()?;
            (length != 0).then(|| reader.take(usize::from(length)))?
        })
    }
}

/// What is left to read.
#[derive(Clone, Copy)]
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn u8(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    fn u16(&mut self) -> Option<u16> {
        let (bytes, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u16::from_be_bytes(*bytes))
    }

    /// Passes a name without pointers: the first name of a message has nothing to point to. Returns
    /// its bytes.
    fn name(&mut self) -> Option<usize> {
        let mut bytes = 0;
        loop {
            let length = self.u8()?;
            bytes += 1 + usize::from(length);
            if length > LABEL_BYTES_MAX || bytes > NAME_BYTES_MAX {
                return None;
            }
            if length == 0 {
                return Some(bytes);
            }
            self.take(usize::from(length))?;
        }
    }

    /// Passes one OPT record: the only additional record that a query may have. Its options are well
    /// formed and ignored.
    fn edns(&mut self) -> Option<Edns> {
        if self.u8()? != 0 || self.u16()? != TYPE_OPT {
            return None;
        }
        let payload = self.u16()?;
        let _extended_code = self.u8()?;
        let version = self.u8()?;
        let flags = self.u16()?;
        let length = self.u16()?;
        let mut options = Reader(self.take(usize::from(length))?);
        while !options.0.is_empty() {
            let _code = options.u16()?;
            let length = options.u16()?;
            options.take(usize::from(length))?;
        }
        Some(Edns {
            payload,
            version,
            dnssec_ok: flags & 0x8000 != 0,
        })
    }
}

#[cfg(test)]
mod tests;
