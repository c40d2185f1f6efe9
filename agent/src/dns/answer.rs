//! What an upstream server said, judged by the name that was asked: hostile records in, only what
//! answers the question out.
//!
//! It follows aliases and bounds everything; it knows no policy: which addresses an asker may see is
//! decided per session (`lease`), because an answer is shared.

use std::net::IpAddr;

use hickory_proto::{
    op::{Message, ResponseCode},
    rr::{DNSClass, Name, RData, Record, RecordType},
    serialize::binary::{BinEncodable, BinEncoder, NameEncoding},
};

use super::{error::AnswerError, reply::Code};

/// Aliases between a name and its records (CNAME links); beyond that the chain is refused.
pub const ALIASES_MAX: usize = 8;
/// Addresses of an answer; each needs a grant. The rest is left out.
pub const ADDRESSES_MAX: usize = 64;
/// Other records of an answer.
const OTHERS_MAX: usize = 64;
/// Bytes of the data of all other records; an answer with more is refused rather than cut.
const OTHERS_BYTES_MAX: usize = 16 * 1024;
/// Longest time to live, seconds: the ceiling of a grant. RFC 8767 advises a cap of days.
pub const TTL_MAX: u32 = 24 * 60 * 60;
/// Longest negative time to live, seconds (RFC 2308, 5 advises 1 to 3 hours; a new name of an
/// allowed service should come sooner).
const NEGATIVE_TTL_MAX: u32 = 300;
/// Negative time to live of a server that names none, seconds.
const NEGATIVE_TTL_DEFAULT: u32 = 5;

/// What a name has of one type.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Answer {
    /// [`Code::NoError`] or [`Code::NxDomain`].
    pub code: Code,
    /// The targets of the aliases in order, on the wire form, uncompressed.
    pub aliases: Vec<Box<[u8]>>,
    /// The records.
    pub records: Records,
    /// Seconds that it is good for, at most [`TTL_MAX`]. The least of all its records.
    pub ttl: u32,
}

/// Records of one type.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Records {
    /// Of type A or AAAA, as they came: a v4-mapped AAAA is still one.
    Addresses(Vec<IpAddr>),
    /// Data of other types on the wire form, uncompressed.
    Others(Vec<Box<[u8]>>),
}

impl Records {
    /// How many.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::Addresses(addresses) => addresses.len(),
            Self::Others(others) => others.len(),
        }
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Answer {
    /// Bytes that it takes in memory, about.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let aliases: usize = self.aliases.iter().map(|alias| alias.len() + 16).sum();
        let records = match &self.records {
            Records::Addresses(addresses) => addresses.len() * size_of::<IpAddr>(),
            Records::Others(others) => others.iter().map(|data| data.len() + 16).sum(),
        };
        size_of::<Self>() + aliases + records
    }
}

/// A chain of aliases on its way from the name that was asked to its records.
#[derive(Debug)]
pub struct Chain {
    record: RecordType,
    /// Whom to ask about next.
    name: Name,
    /// Lower-case names that were passed.
    passed: Vec<Name>,
    aliases: Vec<Box<[u8]>>,
    ttl: u32,
}

/// What one message brought.
#[derive(Debug)]
pub enum Step {
    /// The answer.
    Done(Answer),
    /// An alias whose target has to be asked for.
    Follow(Chain),
}

impl Chain {
    /// The beginning.
    #[must_use]
    pub fn new(name: Name, record: RecordType) -> Self {
        Self {
            record,
            passed: vec![name.to_lowercase()],
            name,
            aliases: Vec::new(),
            ttl: TTL_MAX,
        }
    }

    /// The name to ask for.
    #[must_use]
    pub fn name(&self) -> &Name {
        &self.name
    }

    /// The type to ask for.
    #[must_use]
    pub fn record(&self) -> RecordType {
        self.record
    }

    /// Takes what a server said to a question for [`Self::name`].
    pub fn take(mut self, message: &Message) -> Result<Step, AnswerError> {
        let code = match message.metadata.response_code {
            ResponseCode::NoError => Code::NoError,
            ResponseCode::NXDomain => Code::NxDomain,
            other => return Err(AnswerError::Code(other)),
        };
        let before = self.aliases.len();
        self.follow(&message.answers)?;
        let records = self.records(&message.answers)?;
        if !records.is_empty() {
            return Ok(Step::Done(self.done(Code::NoError, records)));
        }
        let soa = message.authorities.iter().find_map(|record| {
            let RData::SOA(soa) = &record.data else {
                return None;
            };
            Some(seconds(record.ttl).min(seconds(soa.minimum)))
        });
        // A server that stops at an alias, and does not say that there is nothing, leaves the rest
        // to whoever asks.
        if code == Code::NoError && soa.is_none() && self.aliases.len() > before {
            return Ok(Step::Follow(self));
        }
        let negative = soa.unwrap_or(NEGATIVE_TTL_DEFAULT).min(NEGATIVE_TTL_MAX);
        self.ttl = self.ttl.min(negative);
        Ok(Step::Done(self.done(code, records)))
    }

    /// Takes a server's word that there is nothing, with the time to live of its SOA.
    #[must_use]
    pub fn nothing(mut self, exists: bool, ttl: Option<u32>) -> Answer {
        let ttl = ttl.map_or(NEGATIVE_TTL_DEFAULT, seconds);
        self.ttl = self.ttl.min(ttl).min(NEGATIVE_TTL_MAX);
        let code = if exists {
            Code::NoError
        } else {
            Code::NxDomain
        };
        let records = self.none();
        self.done(code, records)
    }

    fn done(self, code: Code, records: Records) -> Answer {
        Answer {
            code,
            aliases: self.aliases,
            records,
            ttl: self.ttl,
        }
    }

    /// Walks along the aliases that the records hold.
    fn follow(&mut self, answers: &[Record]) -> Result<(), AnswerError> {
        while let Some((ttl, target)) = alias_of(&self.name, answers) {
            let lower = target.to_lowercase();
            if self.passed.contains(&lower) {
                return Err(AnswerError::Loop);
            }
            if self.aliases.len() >= ALIASES_MAX {
                return Err(AnswerError::TooManyAliases);
            }
            self.aliases.push(wire(target)?);
            self.ttl = self.ttl.min(seconds(ttl));
            self.name = target.clone();
            self.passed.push(lower);
        }
        Ok(())
    }

    /// The records of the asked type at the end of the chain.
    fn records(&mut self, answers: &[Record]) -> Result<Records, AnswerError> {
        let mut records = self.none();
        let mut bytes = 0;
        let own = answers.iter().filter(|record| {
            record.dns_class == DNSClass::IN
                && record.record_type() == self.record
                && record.name == self.name
        });
        for record in own {
            self.ttl = self.ttl.min(seconds(record.ttl));
            match (&mut records, &record.data) {
                (Records::Addresses(addresses), data) => {
                    let Some(address) = data.ip_addr() else {
                        return Err(AnswerError::Data);
                    };
                    if addresses.len() < ADDRESSES_MAX && !addresses.contains(&address) {
                        addresses.push(address);
                    }
                }
                (Records::Others(others), data) => {
                    let data = wire(data)?;
                    bytes += data.len();
                    if others.len() >= OTHERS_MAX || bytes > OTHERS_BYTES_MAX {
                        return Err(AnswerError::TooLarge);
                    }
                    others.push(data);
                }
            }
        }
        Ok(records)
    }

    fn none(&self) -> Records {
        if matches!(self.record, RecordType::A | RecordType::AAAA) {
            Records::Addresses(Vec::new())
        } else {
            Records::Others(Vec::new())
        }
    }
}

fn alias_of<'a>(name: &Name, answers: &'a [Record]) -> Option<(u32, &'a Name)> {
    answers.iter().find_map(|record| match &record.data {
        RData::CNAME(target) if record.dns_class == DNSClass::IN && record.name == *name => {
            Some((record.ttl, &target.0))
        }
        _ => None,
    })
}

/// A time to live with its highest bit set is zero (RFC 2181, 8).
fn seconds(ttl: u32) -> u32 {
    if ttl > i32::MAX.unsigned_abs() {
        0
    } else {
        ttl
    }
}

/// The uncompressed wire form.
fn wire(data: &impl BinEncodable) -> Result<Box<[u8]>, AnswerError> {
    let mut bytes = Vec::new();
    let mut encoder = BinEncoder::new(&mut bytes);
    encoder.set_name_encoding(NameEncoding::Uncompressed);
    data.emit(&mut encoder)?;
    Ok(bytes.into_boxed_slice())
}

#[cfg(test)]
mod tests;
