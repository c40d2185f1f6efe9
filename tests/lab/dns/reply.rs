//! One answer, well-formed or hostile, and its bytes.

use std::{net::IpAddr, time::Duration};

use hickory_proto::{
    op::{Message, MessageType, ResponseCode},
    rr::{
        Name, RData, RecordType,
        rdata::{A, AAAA, CNAME, HTTPS, MX, NULL, SVCB, TXT},
    },
    serialize::binary::{BinEncodable, BinEncoder, NameEncoding},
};

/// The largest datagram that a client without EDNS takes.
const PLAIN_BYTES: usize = 512;
/// The question's name as a compression pointer (RFC 1035, 4.1.4).
const QUESTION: [u8; 2] = [0xc0, 12];
const CLASS_IN: [u8; 2] = [0, 1];
/// Where a header counts answers and additional records.
const ANSWERS_AT: usize = 6;
const ADDITIONALS_AT: usize = 10;
/// An OPT record that takes 1,232 bytes (RFC 6891, 6.1.2).
const OPT: &[u8] = &[0, 0, 41, 0x04, 0xd0, 0, 0, 0, 0, 0, 0];

/// What kind of answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum How {
    /// The records.
    Records,
    /// There is no such name.
    NoName,
    /// SERVFAIL.
    Fails,
    /// REFUSED.
    Refuses,
    /// Nothing at all.
    Silent,
    /// The records under another id.
    WrongId,
    /// The records for another question.
    WrongQuestion,
    /// A compression pointer that points at itself.
    PointerLoop,
    /// Counts that promise more than there is.
    Lies,
    /// The first half of the bytes.
    CutOff,
}

/// An answer.
#[derive(Clone, PartialEq, Debug)]
pub struct Reply {
    /// What kind.
    pub how: How,
    /// Owner and data, in the order in which they are sent.
    pub records: Vec<(String, RData)>,
    /// Seconds that the records live.
    pub ttl: u32,
    /// How long it takes.
    pub late: Duration,
}

impl Reply {
    /// An answer without records.
    pub fn empty(how: How) -> Self {
        Self {
            how,
            records: Vec::new(),
            ttl: 300,
            late: Duration::ZERO,
        }
    }

    /// These addresses, both families; the question's type picks of them.
    pub fn addresses(name: &str, addresses: &[IpAddr]) -> Self {
        let records = addresses.iter().map(|ip| (name.to_owned(), address(*ip)));
        Self {
            records: records.collect(),
            ..Self::empty(How::Records)
        }
    }

    /// The same in another way.
    #[must_use]
    pub fn how(self, how: How) -> Self {
        Self { how, ..self }
    }

    /// The same with another time to live.
    #[must_use]
    pub fn ttl(self, ttl: u32) -> Self {
        Self { ttl, ..self }
    }

    /// The same, later.
    #[must_use]
    pub fn late(self, late: Duration) -> Self {
        Self { late, ..self }
    }

    /// Only what answers a question of this type; aliases always do.
    #[must_use]
    pub fn of_type(mut self, record: RecordType) -> Self {
        self.records
            .retain(|(_, data)| matches!(data.record_type(), kind if kind == record || kind == RecordType::CNAME));
        self
    }

    /// The bytes that answer a question; none where nothing is said.
    pub(super) fn bytes(&self, question: &Message, tcp: bool) -> Option<Vec<u8>> {
        if self.how == How::Silent {
            return None;
        }
        let mut answer = question.clone();
        answer.metadata.message_type = MessageType::Response;
        answer.metadata.recursion_available = true;
        answer.metadata.response_code = match self.how {
            How::NoName => ResponseCode::NXDomain,
            How::Fails => ResponseCode::ServFail,
            How::Refuses => ResponseCode::Refused,
            How::Records
            | How::Silent
            | How::WrongId
            | How::WrongQuestion
            | How::PointerLoop
            | How::Lies
            | How::CutOff => ResponseCode::NoError,
        };
        answer.additionals.clear();
        answer.edns = None;
        if self.how == How::WrongId {
            answer.metadata.id ^= 0x5555;
        }
        if self.how == How::WrongQuestion {
            let other = Name::from_ascii("elsewhere.example.").ok()?;
            for query in &mut answer.queries {
                query.name = other.clone();
            }
        }
        // What a loop adds comes right after the question.
        let has_opt = question.edns.is_some() && self.how != How::PointerLoop;
        let opt = if has_opt { OPT } else { &[] };
        let edns = question.edns.as_ref();
        let room = edns.map_or(PLAIN_BYTES, |edns| edns.max_payload().max(512).into());
        let mut bytes = answer.to_vec().ok()?;
        let records = self.section(&question.queries.first()?.name)?;
        if tcp || bytes.len() + records.len() + opt.len() <= room {
            bytes.extend_from_slice(&records);
            set(
                &mut bytes,
                ANSWERS_AT,
                u16::try_from(self.records.len()).ok()?,
            );
        } else {
            answer.metadata.truncation = true;
            bytes = answer.to_vec().ok()?;
        }
        bytes.extend_from_slice(opt);
        set(&mut bytes, ADDITIONALS_AT, has_opt.into());
        if bytes.len() > usize::from(u16::MAX) {
            return None;
        }
        self.spoil(&mut bytes);
        Some(bytes)
    }

    /// The records on the wire. By hand: `hickory-proto` stops compressing after some names, and
    /// thousands of records fit into no message without.
    fn section(&self, asked: &Name) -> Option<Vec<u8>> {
        let mut section = Vec::new();
        if self.how == How::PointerLoop {
            // `spoil` adds all there is.
            return Some(section);
        }
        for (owner, data) in &self.records {
            let owner = Name::from_ascii(format!("{owner}.")).ok()?;
            if owner == *asked && self.how != How::WrongQuestion {
                // As it was spelt in the question.
                section.extend_from_slice(&QUESTION);
            } else {
                section.extend_from_slice(&wire(&owner)?);
            }
            let data_bytes = wire(data)?;
            section.extend_from_slice(&u16::from(data.record_type()).to_be_bytes());
            section.extend_from_slice(&CLASS_IN);
            section.extend_from_slice(&self.ttl.to_be_bytes());
            section.extend_from_slice(&u16::try_from(data_bytes.len()).ok()?.to_be_bytes());
            section.extend_from_slice(&data_bytes);
        }
        Some(section)
    }

    fn spoil(&self, bytes: &mut Vec<u8>) {
        match self.how {
            How::PointerLoop => {
                // One answer whose owner points at itself.
                let own = u16::try_from(bytes.len()).unwrap_or_default() | 0xc000;
                bytes.extend_from_slice(&own.to_be_bytes());
                bytes.extend_from_slice(&[0, 1, 0, 1, 0, 0, 1, 0, 0, 4, 93, 184, 216, 34]);
                set(bytes, ANSWERS_AT, 1);
            }
            How::Lies => set(bytes, ANSWERS_AT, u16::MAX),
            How::CutOff => bytes.truncate(bytes.len() / 2),
            How::Records
            | How::NoName
            | How::Fails
            | How::Refuses
            | How::Silent
            | How::WrongId
            | How::WrongQuestion => {}
        }
    }
}

fn set(bytes: &mut [u8], at: usize, number: u16) {
    if let Some(place) = bytes.get_mut(at..at + 2) {
        place.copy_from_slice(&number.to_be_bytes());
    }
}

/// The uncompressed wire form.
fn wire(what: &impl BinEncodable) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut encoder = BinEncoder::new(&mut bytes);
    encoder.set_name_encoding(NameEncoding::Uncompressed);
    what.emit(&mut encoder).ok()?;
    Some(bytes)
}

/// An address as a record.
pub fn address(ip: IpAddr) -> RData {
    match ip {
        IpAddr::V4(v4) => RData::A(A(v4)),
        IpAddr::V6(v6) => RData::AAAA(AAAA(v6)),
    }
}

/// An alias.
pub fn alias(target: &str) -> RData {
    // Only names of the lab's own zones are given here; the root is a name that no test expects.
    RData::CNAME(CNAME(name(target)))
}

/// A text.
pub fn text(text: &str) -> RData {
    RData::TXT(TXT::new(vec![text.to_owned()]))
}

/// A mail exchanger.
pub fn mail(host: &str) -> RData {
    RData::MX(MX::new(10, name(host)))
}

/// A service binding (HTTPS) without parameters: the record alone is what must not be seen.
pub fn https() -> RData {
    RData::HTTPS(HTTPS(SVCB::new(1, Name::root(), Vec::new())))
}

/// Bytes of no known type.
pub fn unknown(bytes: Vec<u8>) -> RData {
    RData::NULL(NULL::with(bytes))
}

fn name(text: &str) -> Name {
    Name::from_ascii(format!("{text}.")).unwrap_or_else(|_| Name::root())
}
