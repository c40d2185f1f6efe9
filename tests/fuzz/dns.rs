//! Queries of workers and answers of servers: no panic, no unbounded work, and what is read here is
//! what another reader reads.

use agent::dns::{
    answer::{ADDRESSES_MAX, ALIASES_MAX, Chain, Step, TTL_MAX},
    query::{Malformed, read},
    reply::{self, Code},
};
use hickory_proto::{
    op::Message,
    rr::{Name, RecordType},
};

use crate::mutator::fuzz;

/// `api.example A`, with and without EDNS.
const PLAIN: &[u8] = b"\x12\x34\x01\0\0\x01\0\0\0\0\0\0\x03API\x07example\0\0\x01\0\x01";
const EDNS: &[u8] = b"\x12\x34\x01\x10\0\x01\0\0\0\0\0\x01\x03api\x07example\0\0\x1c\0\x01\
    \0\0\x29\x10\0\0\0\x80\0\0\x0c\0\x0a\0\x08abcdefgh";
/// An alias and two addresses.
const ANSWER: &[u8] = b"\x12\x34\x81\x80\0\x01\0\x03\0\0\0\0\x03api\x07example\0\0\x01\0\x01\
    \xc0\x0c\0\x05\0\x01\0\0\x01\x2c\0\x04\x01b\xc0\x10\
    \xc0\x29\0\x01\0\x01\0\0\0\x3c\0\x04\x08\x08\x08\x08\
    \xc0\x29\0\x01\0\x01\x80\0\0\0\0\x04\x08\x08\x04\x04";
/// There is no such name.
const NOTHING: &[u8] = b"\x12\x34\x81\x83\0\x01\0\0\0\x01\0\0\x03api\x07example\0\0\x01\0\x01\
    \xc0\x10\0\x06\0\x01\0\0\x03\x84\0\x1c\x01n\xc0\x10\x01h\xc0\x10\0\0\0\x01\0\0\0\x02\0\0\0\x03\
    \0\0\0\x04\0\0\0\x05";

#[test]
fn the_corpus_is_good() {
    for query in [PLAIN, EDNS] {
        read(query).expect("a query");
    }
    for answer in [ANSWER, NOTHING] {
        Message::from_vec(answer).expect("an answer");
    }
}

#[test]
fn queries_of_any_bytes_are_read_as_others_read_them() {
    fuzz("dns query", &[PLAIN, EDNS], |bytes| {
        let mut out = Vec::new();
        let query = match read(bytes) {
            Ok(query) => query,
            Err(Malformed::Unanswerable) => return,
            Err(Malformed::Answered(header, code)) => {
                reply::header(&header, code, &mut out);
                let reply = Message::from_vec(&out).expect("a header that others read");
                assert_eq!(reply.metadata.id, header.id);
                return;
            }
        };
        // The other reader looks into EDNS options, which say nothing here: it gets the rest.
        let mut plain = bytes[..12 + query.question.len()].to_vec();
        plain[10..12].fill(0);
        let other = Message::from_vec(&plain).expect("stricter than the other reader");
        assert_eq!(other.queries.len(), 1);
        let asked = &other.queries[0];
        assert_eq!(other.metadata.id, query.header.id);
        assert_eq!(u16::from(asked.query_type()), query.record);
        if let Some(name) = query.plain_name() {
            // The other reader's text form refuses hyphens at the ends of a label.
            let name = Name::from_labels(name.split('.').map(str::as_bytes));
            let name = name.expect("labels of a name");
            assert!(name.eq_ignore_root(asked.name()), "{name} {}", asked.name());
        }
        let shown = query.shown_name();
        assert!(shown.bytes().all(|byte| byte.is_ascii_graphic()), "{shown}");
        reply::empty(&query, Code::NxDomain, &mut out);
        let echo = Message::from_vec(&out).expect("a reply that others read");
        assert!(echo.queries[0].name().eq_case(asked.name()));
    });
}

#[test]
fn answers_of_any_bytes_are_bounded() {
    let query = read(PLAIN).expect("a query");
    fuzz("dns answer", &[ANSWER, NOTHING], |bytes| {
        let Ok(message) = Message::from_vec(bytes) else {
            return;
        };
        for record in [
            RecordType::A,
            RecordType::AAAA,
            RecordType::TXT,
            RecordType::MX,
        ] {
            let name = Name::from_ascii("api.example.").expect("a name");
            let Ok(Step::Done(answer)) = Chain::new(name, record).take(&message) else {
                continue;
            };
            assert!(answer.aliases.len() <= ALIASES_MAX && answer.ttl <= TTL_MAX);
            assert!(answer.records.len() <= ADDRESSES_MAX);
            let mut query = query.clone();
            query.record = record.into();
            let mut out = Vec::new();
            let records = &answer.records;
            reply::answer(
                &query,
                &answer,
                records,
                answer.ttl,
                reply::TCP_BYTES_MAX,
                &mut out,
            );
            let told = Message::from_vec(&out).expect("a reply that others read");
            assert_eq!(told.answers.len(), answer.aliases.len() + records.len());
        }
    });
}
