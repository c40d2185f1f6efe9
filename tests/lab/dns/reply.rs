//! One answer, well-formed or hostile, and its bytes.

use std::{net::IpAddr, time::Duration};

use hickory_proto::{
    op::{Edns, Message, MessageType, ResponseCode},
    rr::{
        Name, RData, Record, RecordType,
        rdata::{A, AAAA, CNAME, HTTPS, MX, NULL, SVCB, TXT},
    },
};

/// The largest datagram that a client without EDNS takes.
const PLAIN_BYTES: usize = 512;

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
        if question.edns.is_some() {
            answer.edns = Some(Edns::new());
        }
        let asked = question.queries.first()?.name.clone();
        for (owner, data) in &self.records {
            let mut owner = Name::from_ascii(format!("{owner}.")).ok()?;
            if owner == asked {
                // As it was spelt in the question.
                owner = asked.clone();
            }
            answer
                .answers
                .push(Record::from_rdata(owner, self.ttl, data.clone()));
        }
        if self.how == How::WrongId {
            answer.metadata.id ^= 0x5555;
        }
        if self.how == How::WrongQuestion {
            let other = Name::from_ascii("elsewhere.example.").ok()?;
            for query in &mut answer.queries {
                query.name = other.clone();
            }
        }
        if self.how == How::PointerLoop {
            // What is added below is all there is.
            answer.answers.clear();
            answer.edns = None;
        }
        let mut bytes = answer.to_vec().ok()?;
        let room = question
            .edns
            .as_ref()
            .map_or(PLAIN_BYTES, |edns| edns.max_payload().max(512).into());
        if !tcp && bytes.len() > room {
            answer.answers.clear();
            answer.metadata.truncation = true;
            bytes = answer.to_vec().ok()?;
        }
        self.spoil(&mut bytes);
        Some(bytes)
    }

    fn spoil(&self, bytes: &mut Vec<u8>) {
        match self.how {
            How::PointerLoop => {
                // One answer whose owner points at itself.
                let own = u16::try_from(bytes.len()).unwrap_or_default() | 0xc000;
                bytes.extend_from_slice(&own.to_be_bytes());
                bytes.extend_from_slice(&[0, 1, 0, 1, 0, 0, 1, 0, 0, 4, 93, 184, 216, 34]);
                set_count(bytes, 1);
            }
            How::Lies => set_count(bytes, u16::MAX),
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

fn set_count(bytes: &mut [u8], count: u16) {
    if let Some(answers) = bytes.get_mut(6..8) {
        answers.copy_from_slice(&count.to_be_bytes());
    }
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
