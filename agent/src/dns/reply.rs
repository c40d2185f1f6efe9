//! Replies, byte by byte. Knows the wire and nothing of who asked or why.
//!
//! The question is echoed as it came; the owner of every record is a pointer to the question or to
//! the last alias, so a reply is built by copying: no table of names, no second pass.

use super::{
    answer::{Answer, Records},
    query::{Header, QUERY_BYTES_MAX, Query},
};

/// Most bytes of a reply over TCP (RFC 1035, 4.2.2).
pub const TCP_BYTES_MAX: usize = 65_535;
/// Bytes of the OPT record that a reply ends with.
pub const OPT_BYTES: usize = 11;
/// Flags of every reply: it is one, and recursion is available. Never authoritative, never
/// authenticated: nothing is validated here.
const QR: u16 = 0x8000;
const RA: u16 = 0x0080;
const TC: u16 = 0x0200;
/// Place of the question in every message, as a compression pointer.
const QUESTION: u16 = 0xc00c;
/// Largest offset that a pointer can name.
const POINTER_MAX: usize = 0x3fff;
/// Type CNAME.
const TYPE_CNAME: u16 = 5;
/// Class IN.
const CLASS_IN: u16 = 1;

/// Reply codes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Code {
    /// Fine, with or without records.
    NoError = 0,
    /// The query is malformed.
    FormErr = 1,
    /// The upstream servers do not answer, or no grant could be written.
    ServFail = 2,
    /// There is no such name.
    NxDomain = 3,
    /// A kind of query that is not taken.
    NotImp = 4,
    /// Not for this asker.
    Refused = 5,
    /// An EDNS version that there is not.
    BadVers = 16,
}

/// What a reply holds of its answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Written {
    /// All of it.
    Whole,
    /// None: there is no room.
    Cut,
}

/// Most bytes that a reply may have over this protocol.
pub(super) fn bytes_max(query: &Query<'_>, protocol: u16) -> usize {
    if protocol == common::flow::TCP {
        TCP_BYTES_MAX
    } else {
        query.udp_bytes_max()
    }
}

/// A header alone, for what could not be read further.
pub fn header(header: &Header, code: Code, out: &mut Vec<u8>) {
    out.clear();
    put_header(*header, code, 0, [0; 4], out);
}

/// A reply without records.
pub fn empty(query: &Query<'_>, code: Code, out: &mut Vec<u8>) {
    start(query, code, 0, 0, out);
    finish(query, code, out);
}

/// A reply with the records of an answer. One that does not fit into `bytes_max` says so and carries
/// none: the asker comes again by TCP.
pub fn answer(
    query: &Query<'_>,
    answer: &Answer,
    records: &Records,
    ttl: u32,
    bytes_max: usize,
    out: &mut Vec<u8>,
) -> Written {
    let count = answer.aliases.len() + records.len();
    let Ok(count) = u16::try_from(count) else {
        empty(query, Code::ServFail, out);
        return Written::Cut;
    };
    start(query, answer.code, 0, count, out);
    let mut owner = Owner::At(QUESTION);
    for alias in &answer.aliases {
        owner.put(out);
        let at = put_record(TYPE_CNAME, ttl, alias, out);
        owner = match u16::try_from(at) {
            Ok(offset) if at <= POINTER_MAX => Owner::At(0xc000 | offset),
            _ => Owner::Whole(alias),
        };
    }
    match records {
        Records::Addresses(addresses) => {
            for address in addresses {
                owner.put(out);
                match address {
                    std::net::IpAddr::V4(v4) => put_record(query.record, ttl, &v4.octets(), out),
                    std::net::IpAddr::V6(v6) => put_record(query.record, ttl, &v6.octets(), out),
                };
            }
        }
        Records::Others(others) => {
            for data in others {
                owner.put(out);
                put_record(query.record, ttl, data, out);
            }
        }
    }
    finish(query, answer.code, out);
    if out.len() > bytes_max {
        start(query, answer.code, TC, 0, out);
        finish(query, answer.code, out);
        return Written::Cut;
    }
    Written::Whole
}

/// A reply with records that were written for the same question before.
pub(super) fn again(query: &Query<'_>, code: Code, count: u16, records: &[u8], out: &mut Vec<u8>) {
    start(query, code, 0, count, out);
    out.extend_from_slice(records);
    finish(query, code, out);
}

/// The name that a record belongs to.
enum Owner<'a> {
    At(u16),
    Whole(&'a [u8]),
}

impl Owner<'_> {
    fn put(&self, out: &mut Vec<u8>) {
        match self {
            Self::At(pointer) => out.extend_from_slice(&pointer.to_be_bytes()),
            Self::Whole(name) => out.extend_from_slice(name),
        }
    }
}

fn start(query: &Query<'_>, code: Code, flags: u16, answers: u16, out: &mut Vec<u8>) {
    out.clear();
    let additionals = u16::from(query.edns.is_some());
    put_header(query.header, code, flags, [1, answers, 0, additionals], out);
    out.extend_from_slice(&query.question);
}

fn put_header(header: Header, code: Code, flags: u16, counts: [u16; 4], out: &mut Vec<u8>) {
    let mut flags = flags | QR | RA | u16::from(header.opcode) << 11 | code as u16 & 0xf;
    if header.recursion_desired {
        flags |= 0x0100;
    }
    if header.checking_disabled {
        flags |= 0x0010;
    }
    out.extend_from_slice(&header.id.to_be_bytes());
    out.extend_from_slice(&flags.to_be_bytes());
    for count in counts {
        out.extend_from_slice(&count.to_be_bytes());
    }
}

/// Appends type, class, time to live and data; returns where the data begins.
fn put_record(record: u16, ttl: u32, data: &[u8], out: &mut Vec<u8>) -> usize {
    out.extend_from_slice(&record.to_be_bytes());
    out.extend_from_slice(&CLASS_IN.to_be_bytes());
    out.extend_from_slice(&ttl.to_be_bytes());
    // `answer` keeps no data longer than this.
    let length = u16::try_from(data.len()).unwrap_or(u16::MAX);
    out.extend_from_slice(&length.to_be_bytes());
    let at = out.len();
    out.extend_from_slice(data);
    at
}

/// Appends the OPT record (RFC 6891, 6.1.2) where the query had one.
fn finish(query: &Query<'_>, code: Code, out: &mut Vec<u8>) {
    const PAYLOAD: [u8; 2] = {
        assert!(QUERY_BYTES_MAX <= u16::MAX as usize);
        #[expect(clippy::cast_possible_truncation, reason = "asserted above")]
        (QUERY_BYTES_MAX as u16).to_be_bytes()
    };
    let Some(edns) = query.edns else { return };
    let dnssec_ok = if edns.dnssec_ok { 0x80 } else { 0 };
    let [high, low] = PAYLOAD;
    let code = code as u8 >> 4;
    // Root, OPT; payload; upper bits of the code, version 0; flags; no options.
    let opt: [u8; OPT_BYTES] = [0, 0, 41, high, low, code, 0, dnssec_ok, 0, 0, 0];
    out.extend_from_slice(&opt);
}

#[cfg(test)]
mod tests;
