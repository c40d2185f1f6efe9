//! Hellos built in parts, and every way to break them.

mod names;

use std::{string::String, vec, vec::Vec};

use super::{Answer, Bytes, Covers, Fold, Hello};
use crate::{
    flow::{TCP, UDP},
    id::{Generation, PolicyId, RuleId},
    name::NameKey,
    rule::{ECH, PortRange, RuleSet, TLS},
    verdict::Reason,
};

struct Slice<'a>(&'a [u8]);

impl Bytes for Slice<'_> {
    fn length(&self) -> u32 {
        u32::try_from(self.0.len()).expect("short")
    }

    fn load<const N: usize>(&self, at: u32) -> Option<[u8; N]> {
        let at = usize::try_from(at).expect("short");
        self.0.get(at..at.checked_add(N)?)?.try_into().ok()
    }

    fn zero(&self) -> u32 {
        0
    }
}

fn read(bytes: &[u8]) -> Hello {
    Hello::read(&Slice(bytes))
}

fn u16s(length: usize) -> [u8; 2] {
    u16::try_from(length).expect("fits").to_be_bytes()
}

/// A hello in parts, so that a test can break one.
#[derive(Clone)]
struct Parts {
    session: Vec<u8>,
    suites: Vec<u8>,
    compressions: Vec<u8>,
    extensions: Option<Vec<(u16, Vec<u8>)>>,
}

fn extension(name: &[u8]) -> (u16, Vec<u8>) {
    let mut body = Vec::new();
    body.extend(u16s(name.len() + 3));
    body.push(0);
    body.extend(u16s(name.len()));
    body.extend(name);
    (0, body)
}

impl Parts {
    fn tls12(name: &str) -> Self {
        Self {
            session: Vec::new(),
            suites: vec![0xc0, 0x2f, 0xc0, 0x30, 0x00, 0xff],
            compressions: vec![0],
            extensions: Some(vec![
                extension(name.as_bytes()),
                (11, vec![1, 0]),
                (10, vec![0, 4, 0, 29, 0, 23]),
                (35, vec![]),
                (22, vec![]),
                (23, vec![]),
                (13, vec![0, 4, 4, 3, 8, 4]),
            ]),
        }
    }

    /// As OpenSSL and rustls send it, with a key share of this size.
    fn tls13(name: &str, share: usize) -> Self {
        let mut parts = Self::tls12(name);
        parts.session = vec![7; 32];
        parts.suites = vec![0x13, 0x01, 0x13, 0x02, 0x13, 0x03];
        parts.with((43, vec![2, 3, 4]));
        parts.with((45, vec![1, 1]));
        parts.with((51, vec![0x5a; share]));
        parts.with((16, b"\x00\x0c\x02h2\x08http/1.1".to_vec()));
        parts
    }

    fn with(&mut self, extension: (u16, Vec<u8>)) -> &mut Self {
        self.extensions.get_or_insert_default().push(extension);
        self
    }

    fn block(&self) -> Vec<u8> {
        let mut block = Vec::new();
        for (kind, body) in self.extensions.iter().flatten() {
            block.extend(kind.to_be_bytes());
            block.extend(u16s(body.len()));
            block.extend(body);
        }
        block
    }

    fn message(&self) -> Vec<u8> {
        let mut message = vec![3, 3];
        message.extend([0xab; 32]);
        message.push(u8::try_from(self.session.len()).expect("fits"));
        message.extend(&self.session);
        message.extend(u16s(self.suites.len()));
        message.extend(&self.suites);
        message.push(u8::try_from(self.compressions.len()).expect("fits"));
        message.extend(&self.compressions);
        if self.extensions.is_some() {
            let block = self.block();
            message.extend(u16s(block.len()));
            message.extend(block);
        }
        message
    }

    fn bytes(&self) -> Vec<u8> {
        framed(&self.message())
    }
}

fn framed(message: &[u8]) -> Vec<u8> {
    let mut bytes = vec![22, 3, 1];
    bytes.extend(u16s(message.len() + 4));
    bytes.extend([1, 0]);
    bytes.extend(u16s(message.len()));
    bytes.extend(message);
    bytes
}

/// What the kernel makes of a name: its key's bytes, or `None` where it is no name.
fn fold(name: &[u8]) -> Option<Vec<u8>> {
    let mut fold = Fold::BEGIN;
    let key = name.iter().rev().map(|byte| fold.byte(*byte)).collect();
    fold.is_name().then_some(key)
}

fn name_of(bytes: &[u8]) -> String {
    let hello = read(bytes);
    assert_eq!(hello.reason, Reason::Rule);
    let at = usize::try_from(hello.name_at).expect("fits");
    let length = usize::try_from(hello.name_length).expect("fits");
    String::from_utf8(bytes[at..at + length].to_vec()).expect("a name")
}

const ANY: Covers = Covers {
    any: RuleId(7),
    ech: RuleId(0),
};
const WITH_ECH: Covers = Covers {
    any: RuleId(7),
    ech: RuleId(8),
};

#[test]
fn hellos_of_every_size_show_their_name() {
    for bytes in [
        Parts::tls12("api.example").bytes(),
        Parts::tls13("api.example", 38).bytes(),
        Parts::tls13("api.example", 1_263).bytes(),
        Parts::tls13("api.example", 1_600).bytes(),
        Parts::tls13("api.example", 2_000).bytes(),
    ] {
        assert_eq!(name_of(&bytes), "api.example");
        let hello = read(&bytes);
        assert!(hello.whole && !hello.hidden, "{} bytes", bytes.len());
        assert_eq!(hello.answer(ANY), Answer::Pass(RuleId(7)));
        assert_eq!(
            hello.answer(Covers::default()),
            Answer::Refuse(Reason::TlsName)
        );
        // Early data and the like follow in the same packet.
        let mut longer = bytes.clone();
        longer.extend([20, 3, 3, 0, 1, 1]);
        assert_eq!(read(&longer), hello);
    }
}

#[test]
fn every_beginning_is_held_back_until_it_is_whole() {
    for bytes in [
        Parts::tls12("api.example").bytes(),
        Parts::tls13("api.example", 1_263).bytes(),
    ] {
        for cut in 1..bytes.len() {
            let hello = read(&bytes[..cut]);
            assert!(!hello.whole, "{cut}");
            assert_eq!(hello.answer(ANY), Answer::Hold, "{cut}");
        }
    }
}

#[test]
fn a_rule_with_ech_takes_the_name_as_soon_as_it_is_there() {
    let bytes = Parts::tls13("api.example", 1_263).bytes();
    let shown = (1..bytes.len())
        .find(|cut| read(&bytes[..*cut]).name_at != 0)
        .expect("the name shows");
    let name = bytes.windows(11).position(|w| w == b"api.example");
    assert_eq!(Some(shown), name.map(|at| at + 11));
    let hello = read(&bytes[..shown]);
    assert_eq!(hello.answer(WITH_ECH), Answer::Pass(RuleId(8)));
    // A name that no rule opens is refused at once, whatever may follow.
    assert_eq!(
        hello.answer(Covers::default()),
        Answer::Refuse(Reason::TlsName)
    );
}

#[test]
fn a_hidden_name_needs_a_rule_that_says_so() {
    for kind in [0xfe08, 0xfe0d, 0xffce] {
        let mut parts = Parts::tls13("public.example", 38);
        parts.with((kind, vec![0; 200]));
        let bytes = parts.bytes();
        let hello = read(&bytes);
        assert!(hello.hidden && hello.whole);
        assert_eq!(hello.answer(ANY), Answer::Refuse(Reason::TlsHidden));
        assert_eq!(hello.answer(WITH_ECH), Answer::Pass(RuleId(8)));
        // Not all of it is there, but enough to refuse.
        let hello = read(&bytes[..bytes.len() - 1]);
        assert_eq!(hello.answer(ANY), Answer::Refuse(Reason::TlsHidden));
    }
    for kind in [0xfe07, 0xfe0e, 0xffcd, 0xffcf, 0x0a0a, 0xfafa, 0xff01] {
        let mut parts = Parts::tls13("api.example", 38);
        parts.with((kind, vec![0; 1]));
        assert_eq!(read(&parts.bytes()).answer(ANY), Answer::Pass(RuleId(7)));
    }
}

#[test]
fn a_hello_without_a_name() {
    let mut parts = Parts::tls12("api.example");
    parts.extensions.as_mut().expect("some").remove(0);
    assert_eq!(read(&parts.bytes()).reason, Reason::TlsNoName);
    parts.extensions = Some(Vec::new());
    assert_eq!(read(&parts.bytes()).reason, Reason::TlsNoName);
    parts.extensions = None;
    assert_eq!(read(&parts.bytes()).reason, Reason::TlsNoName);
    // A hidden name alone is none either.
    parts.extensions = Some(vec![(0xfe0d, vec![0; 32])]);
    assert_eq!(
        read(&parts.bytes()).answer(WITH_ECH),
        Answer::Refuse(Reason::TlsNoName)
    );
}

#[test]
fn other_first_bytes() {
    for bytes in [
        &b"GET / HTTP/1.1\r\nHost: api.example\r\n\r\n"[..],
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"\0",
        // An alert, application data, and a hello in the form of SSL 2.
        b"\x15\x03\x03\x00\x02\x02\x28",
        b"\x17\x03\x03\x00\x02ab",
        b"\x80\x2e\x01\x03\x01\x00\x15\x00\x00\x00\x10",
    ] {
        assert_eq!(read(bytes).reason, Reason::TlsMalformed, "{bytes:?}");
    }
    assert_eq!(read(&[]).answer(ANY), Answer::Hold);
}

/// Sets bytes of a good hello and expects a reason, or that it is held back.
fn broken(changes: &[(usize, u8)]) -> Answer {
    let mut bytes = Parts::tls13("api.example", 38).bytes();
    for (at, byte) in changes {
        bytes[*at] = *byte;
    }
    read(&bytes).answer(WITH_ECH)
}

#[test]
fn no_length_lies() {
    const MALFORMED: Answer = Answer::Refuse(Reason::TlsMalformed);
    let good = Parts::tls13("api.example", 38).bytes();
    let record = u16::from_be_bytes([good[3], good[4]]);
    let [r1, r0] = (record + 1).to_be_bytes();
    let [m1, m0] = (record - 3).to_be_bytes();
    assert_eq!(broken(&[(1, 2)]), MALFORMED, "version");
    assert_eq!(broken(&[(5, 2)]), MALFORMED, "no hello");
    assert_eq!(
        broken(&[(3, r1), (4, r0)]),
        MALFORMED,
        "the record is longer"
    );
    assert_eq!(
        broken(&[(7, m1), (8, m0)]),
        MALFORMED,
        "the message is longer"
    );
    assert_eq!(broken(&[(6, 1)]), MALFORMED, "the message is far longer");
    assert_eq!(
        broken(&[(3, r1), (4, r0), (7, m1), (8, m0)]),
        MALFORMED,
        "both are longer than their extensions"
    );
    assert_eq!(
        broken(&[(3, 0x40), (4, 1), (7, 0x3f), (8, 0xfd)]),
        MALFORMED
    );
    assert_eq!(broken(&[(43, 33)]), MALFORMED, "session id");
    assert_eq!(broken(&[(76, 0xff)]), MALFORMED, "suites beyond the end");
    assert_eq!(
        broken(&[(77, 5)]),
        MALFORMED,
        "an odd number of bytes of suites"
    );
    assert_eq!(broken(&[(76, 0), (77, 0)]), MALFORMED, "no suite");
    assert_eq!(broken(&[(84, 0)]), MALFORMED, "no compression");
    assert_eq!(broken(&[(84, 0xff)]), MALFORMED, "compressions");
    let (e1, e0) = (good[86], good[87]);
    let block = u16::from_be_bytes([e1, e0]);
    for other in [block - 1, block + 1, 0, 0xffff] {
        let [e1, e0] = other.to_be_bytes();
        assert_eq!(broken(&[(86, e1), (87, e0)]), MALFORMED, "block {other}");
    }
    // The first extension is the name: type, length, list, type, length, name.
    assert_eq!(good[88..97], [0, 0, 0, 16, 0, 14, 0, 0, 11]);
    for (at, byte) in [
        (91, 15),
        (91, 17),
        (90, 0xff),
        (93, 13),
        (93, 15),
        (94, 1),
        (96, 10),
        (96, 12),
    ] {
        assert_eq!(broken(&[(at, byte)]), MALFORMED, "{at} {byte}");
    }
}

#[test]
fn names_that_are_no_single_name() {
    let mut twice = Parts::tls13("api.example", 38);
    twice.with(extension(b"api.example"));
    assert_eq!(read(&twice.bytes()).reason, Reason::TlsMalformed);

    let bodies: [&[u8]; 6] = [
        b"",
        b"\0\0",
        b"\0\x03\0\0\0",
        b"\0\x08\0\0\x01a\0\0\x01b",
        b"\0\x08\x01\0\x01a\0\0\x01b",
        b"\0\x04\0\0\x01ab",
    ];
    for body in bodies {
        let mut parts = Parts::tls12("x");
        parts.extensions = Some(vec![(0, body.to_vec())]);
        assert_eq!(
            read(&parts.bytes()).reason,
            Reason::TlsMalformed,
            "{body:?}"
        );
    }
    let longest = "a".repeat(247);
    assert_eq!(name_of(&Parts::tls12(&longest).bytes()), longest);
    let too_long = "a".repeat(248);
    assert_eq!(
        read(&Parts::tls12(&too_long).bytes()).reason,
        Reason::TlsMalformed
    );
}

#[test]
fn extensions_have_a_number() {
    let mut parts = Parts::tls12("api.example");
    parts.extensions = Some(vec![extension(b"api.example")]);
    for _ in 1..64 {
        parts.with((0x1a1a, Vec::new()));
    }
    assert_eq!(read(&parts.bytes()).answer(ANY), Answer::Pass(RuleId(7)));
    parts.with((0x1a1a, Vec::new()));
    assert_eq!(read(&parts.bytes()).reason, Reason::TlsMalformed);
    // An extension that leaves less than another one's head.
    let mut message = Parts::tls12("api.example").message();
    let at = message.len() - 6 - 1;
    message[at] = 3;
    assert_eq!(read(&framed(&message)).reason, Reason::TlsMalformed);
}

#[test]
fn a_record_boundary_in_the_hello() {
    // The whole hello, but cut in two records.
    let message = Parts::tls12("api.example").bytes().split_off(5);
    let (first, second) = message.split_at(40);
    let mut bytes = vec![22, 3, 1];
    bytes.extend(u16s(first.len()));
    bytes.extend(first);
    bytes.extend([22, 3, 1]);
    bytes.extend(u16s(second.len()));
    bytes.extend(second);
    assert_eq!(read(&bytes).reason, Reason::TlsMalformed);
}
