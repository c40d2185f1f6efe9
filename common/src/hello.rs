//! Reads the first bytes of a connection as one TLS `ClientHello` (RFC 8446, 4.1.2; RFC 5246,
//! 7.4.1.2) and says what they are worth.
//!
//! The kernel reads a packet with this code and the tests read slices, so what is tested is what
//! enforces. Nothing here trusts a length: each is held against the one around it, and what does not
//! fit exactly is refused. It knows no map and no socket.

mod fold;

pub use self::fold::Fold;

use crate::{
    flow::TCP,
    id::RuleId,
    name::TLS_NAME_BYTES_MAX,
    rule::{ECH, RuleSet},
    verdict::Reason,
};

/// Extensions of a hello. Browsers send fewer than 20.
pub const EXTENSIONS_MAX: u32 = 64;

/// Record type of a handshake (RFC 8446, 5.1).
const HANDSHAKE: u8 = 22;
/// Handshake type of a `ClientHello`.
const CLIENT_HELLO: u8 = 1;
/// Major version of every record since SSL 3. The minor one says nothing (RFC 8446, 5.1).
const MAJOR: u8 = 3;
/// Bytes before a record's content.
const RECORD_HEAD: u32 = 5;
/// Bytes before a handshake message's content.
const MESSAGE_HEAD: u32 = 4;
/// Longest content of a record.
const RECORD_MAX: u32 = 1 << 14;
/// Where the length of the session id stands: after record head, message head, version and random.
const SESSION_AT: u32 = RECORD_HEAD + MESSAGE_HEAD + 2 + 32;
/// Longest session id.
const SESSION_MAX: u8 = 32;
/// Type of the extension `server_name` (RFC 6066, 3).
const SERVER_NAME: u32 = 0;
/// Type of `encrypted_client_hello` (RFC 9849); the numbers below it were its drafts'.
const ENCRYPTED_HELLO: u32 = 0xfe0d;
const ENCRYPTED_HELLO_DRAFT: u32 = 0xfe08;
/// Type of the drafts that came before it, `encrypted_server_name`.
const ENCRYPTED_NAME: u32 = 0xffce;
/// Bytes of `server_name` before the name: length of the list, type, length of the name.
const NAME_HEAD: u32 = 5;
#[expect(clippy::cast_possible_truncation, reason = "a small constant")]
const NAME_MAX: u32 = TLS_NAME_BYTES_MAX as u32;

/// The first bytes of a stream.
pub trait Bytes {
    /// How many there are.
    fn length(&self) -> u32;
    /// Some of them; `None` where that many are not there.
    fn load<const N: usize>(&self, at: u32) -> Option<[u8; N]>;
    /// Zero. In the kernel it comes from memory: the verifier follows every number that it can work
    /// out, and would walk the list of extensions once for each outcome so far.
    fn zero(&self) -> u32;
}

/// What the bytes are. Plain fields and no `Option`: the verifier of the kernel refuses to see absent
/// content moved about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub struct Hello {
    /// Why they are none that may pass; [`Reason::Rule`] while nothing speaks against them.
    pub reason: Reason,
    /// Whether all of it is there.
    pub whole: bool,
    /// Whether it hides a name, as far as it is there.
    pub hidden: bool,
    /// Where the server's name begins; 0 where it is not there, or not all of it yet.
    pub name_at: u32,
    /// Bytes of the name.
    pub name_length: u32,
}

impl Hello {
    /// What looks like the beginning of a hello.
    const BEGINNING: Self = Self {
        reason: Reason::Rule,
        whole: false,
        hidden: false,
        name_at: 0,
        name_length: 0,
    };

    const MALFORMED: Self = Self {
        reason: Reason::TlsMalformed,
        ..Self::BEGINNING
    };

    const NAMELESS: Self = Self {
        reason: Reason::TlsNoName,
        ..Self::BEGINNING
    };

    /// Reads what there is.
    #[inline(always)]
    pub fn read(bytes: &impl Bytes) -> Self {
        let length = bytes.length();
        let Some([kind]) = bytes.load::<1>(0) else {
            return Self::BEGINNING;
        };
        if kind != HANDSHAKE {
            return Self::MALFORMED;
        }
        let Some(head) = bytes.load::<9>(0) else {
            return Self::BEGINNING;
        };
        let [_, major, _, r1, r0, message, h2, h1, h0] = head;
        let record = u32::from(u16::from_be_bytes([r1, r0]));
        let inner = u32::from_be_bytes([0, h2, h1, h0]);
        let fits = record == inner + MESSAGE_HEAD && record <= RECORD_MAX;
        if major != MAJOR || message != CLIENT_HELLO || !fits {
            return Self::MALFORMED;
        }
        let end = RECORD_HEAD + record;
        let (extensions, reason) = extensions(bytes, end);
        if extensions == 0 {
            return Self {
                reason,
                ..Self::BEGINNING
            };
        }
        let found = Extensions::read(bytes, extensions, end);
        let whole = found.unseen == 0 && length >= end;
        found.hello(bytes, whole)
    }

    /// What follows from it, where the name that it shows is known to be covered so.
    #[inline(always)]
    #[must_use]
    pub fn answer(&self, covers: Covers) -> Answer {
        if self.reason != Reason::Rule {
            return Answer::Refuse(self.reason);
        }
        if self.name_at == 0 {
            return Answer::Hold;
        }
        if covers.any == RuleId(0) {
            return Answer::Refuse(Reason::TlsName);
        }
        if self.whole && !self.hidden {
            return Answer::Pass(covers.any);
        }
        // A rule that lets the name be hidden gains nothing from the rest.
        if covers.ech != RuleId(0) {
            return Answer::Pass(covers.ech);
        }
        if self.hidden {
            return Answer::Refuse(Reason::TlsHidden);
        }
        Answer::Hold
    }
}

/// What becomes of the first bytes of a connection that owes a name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Answer {
    /// They pass, by this rule; the name is owed no more.
    Pass(RuleId),
    /// They may be the beginning of a hello: they are held back, to be sent again with what follows.
    Hold,
    /// They do not pass, nor does anything after them.
    Refuse(Reason),
}

/// The rules that open a port of a name.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Covers {
    /// The first of them, or 0.
    pub any: RuleId,
    /// The first that lets a handshake hide its name, or 0.
    pub ech: RuleId,
}

impl Covers {
    /// Those for a TCP port, of what stands in the table of names.
    #[inline(always)]
    #[must_use]
    pub fn of(set: &RuleSet, port: u16) -> Self {
        let mut covers = Self::default();
        let mut left = set.count;
        for range in &set.ranges {
            if left == 0 {
                break;
            }
            left -= 1;
            if u16::from(range.protocol) == TCP && range.low <= port && port <= range.high {
                if covers.any == RuleId(0) {
                    covers.any = range.rule;
                }
                if range.flags & ECH != 0 {
                    covers.ech = range.rule;
                    break;
                }
            }
        }
        covers
    }
}

/// Where the extensions begin; 0 where they are not there, with the reason why.
#[inline(always)]
fn extensions(bytes: &impl Bytes, end: u32) -> (u32, Reason) {
    const UNSEEN: (u32, Reason) = (0, Reason::Rule);
    const MALFORMED: (u32, Reason) = (0, Reason::TlsMalformed);
    if SESSION_AT + 1 > end {
        return MALFORMED;
    }
    let Some([session]) = bytes.load::<1>(SESSION_AT) else {
        return UNSEEN;
    };
    if session > SESSION_MAX {
        return MALFORMED;
    }
    let at = SESSION_AT + 1 + u32::from(session);
    if at + 2 > end {
        return MALFORMED;
    }
    let Some(suites) = bytes.load::<2>(at) else {
        return UNSEEN;
    };
    let suites = u32::from(u16::from_be_bytes(suites));
    let at = at + 2 + suites;
    if suites == 0 || suites & 1 != 0 || at + 1 > end {
        return MALFORMED;
    }
    let Some([compressions]) = bytes.load::<1>(at) else {
        return UNSEEN;
    };
    let at = at + 1 + u32::from(compressions);
    if compressions == 0 || at > end {
        return MALFORMED;
    }
    if at == end {
        // TLS 1.2 without extensions.
        return (0, Reason::TlsNoName);
    }
    if at + 2 > end {
        return MALFORMED;
    }
    let Some(length) = bytes.load::<2>(at) else {
        return UNSEEN;
    };
    let at = at + 2;
    if at + u32::from(u16::from_be_bytes(length)) != end {
        return MALFORMED;
    }
    (at, Reason::Rule)
}

/// What the list of extensions holds.
struct Extensions {
    /// Not 0 where they do not fit.
    malformed: u32,
    /// Not 0 where the head of one was not there.
    unseen: u32,
    /// How many are `server_name`.
    names: u32,
    name_at: u32,
    name_length: u32,
    /// Not 0 where one hides a name.
    hidden: u32,
}

impl Extensions {
    #[inline(always)]
    fn read(bytes: &impl Bytes, begin: u32, end: u32) -> Self {
        let zero = bytes.zero();
        let mut found = Self {
            malformed: zero,
            unseen: zero,
            names: zero,
            name_at: zero,
            name_length: zero,
            hidden: zero,
        };
        let mut at = begin;
        let mut left = EXTENSIONS_MAX;
        while at != end {
            if left == 0 || at + 4 > end {
                found.malformed += 1;
                break;
            }
            left -= 1;
            let Some([t1, t0, l1, l0]) = bytes.load::<4>(at) else {
                found.unseen += 1;
                break;
            };
            let kind = u32::from(u16::from_be_bytes([t1, t0]));
            let length = u32::from(u16::from_be_bytes([l1, l0]));
            at += 4;
            if kind == SERVER_NAME {
                found.names += 1;
                found.name_at = at;
                found.name_length = length;
            }
            #[expect(
                clippy::manual_range_contains,
                reason = "two comparisons, as the verifier has seen them"
            )]
            let hides = kind >= ENCRYPTED_HELLO_DRAFT && kind <= ENCRYPTED_HELLO;
            found.hidden += u32::from(hides || kind == ENCRYPTED_NAME);
            at += length;
            if at > end {
                found.malformed += 1;
                break;
            }
        }
        found
    }

    #[inline(always)]
    fn hello(&self, bytes: &impl Bytes, whole: bool) -> Hello {
        if self.malformed != 0 || self.names > 1 {
            return Hello::MALFORMED;
        }
        let beginning = Hello {
            whole,
            hidden: self.hidden != 0,
            ..Hello::BEGINNING
        };
        if self.names == 0 {
            return if whole { Hello::NAMELESS } else { beginning };
        }
        if self.name_length < NAME_HEAD {
            return Hello::MALFORMED;
        }
        let Some([l1, l0, kind, n1, n0]) = bytes.load::<5>(self.name_at) else {
            return beginning;
        };
        let list = u32::from(u16::from_be_bytes([l1, l0]));
        let name = u32::from(u16::from_be_bytes([n1, n0]));
        let fits = list + 2 == self.name_length && name + NAME_HEAD == self.name_length;
        if !fits || kind != 0 || name == 0 || name > NAME_MAX {
            return Hello::MALFORMED;
        }
        if self.name_at + self.name_length > bytes.length() {
            return beginning;
        }
        Hello {
            name_at: self.name_at + NAME_HEAD,
            name_length: name,
            ..beginning
        }
    }
}

#[cfg(test)]
mod tests;
