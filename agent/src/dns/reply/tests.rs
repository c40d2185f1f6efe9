//! Replies, read back by another implementation.

use std::net::{IpAddr, Ipv4Addr};

use hickory_proto::{
    op::{Edns, Message, MessageType, Query as Asked, ResponseCode},
    rr::{Name, RData, RecordType},
};

use super::{Code, TCP_BYTES_MAX, answer, empty, header};
use crate::dns::{
    answer::{Answer, Records},
    query::{Query, read},
};

fn query(edns: bool) -> Vec<u8> {
    let mut message = Message::query();
    message.metadata.recursion_desired = true;
    message.metadata.checking_disabled = true;
    let name = Name::from_ascii("WwW.Example.").expect("a name");
    message.add_query(Asked::query(name, RecordType::A));
    if edns {
        let mut edns = Edns::new();
        edns.set_max_payload(700).set_dnssec_ok(true);
        message.set_edns(edns);
    }
    message.to_vec().expect("wire")
}

fn addresses(count: u8) -> Records {
    let address = |last| IpAddr::V4(Ipv4Addr::new(192, 0, 2, last));
    Records::Addresses((0..count).map(address).collect())
}

fn with_aliases(count: u8) -> Answer {
    let alias = |number| {
        let mut name = vec![3, b'c', b'0' + number, b'n', 7];
        name.extend_from_slice(b"example\0");
        name.into_boxed_slice()
    };
    Answer {
        code: Code::NoError,
        aliases: (0..count).map(alias).collect(),
        records: addresses(2),
        ttl: 60,
    }
}

fn write(query: &Query<'_>, known: &Answer, records: &Records, bytes_max: usize) -> Message {
    let mut out = b"left from before".to_vec();
    answer(query, known, records, 60, bytes_max, &mut out);
    Message::from_vec(&out).expect("a message that another implementation reads")
}

#[test]
fn an_answer_is_what_others_read() {
    let bytes = query(true);
    let query = read(&bytes).expect("a query");
    let known = with_aliases(2);
    let message = write(&query, &known, &known.records, TCP_BYTES_MAX);
    let meta = &message.metadata;
    assert_eq!(meta.message_type, MessageType::Response);
    assert!(meta.recursion_available && meta.recursion_desired && meta.checking_disabled);
    assert!(!meta.authoritative && !meta.authentic_data && !meta.truncation);
    assert_eq!(message.queries[0].name().to_ascii(), "WwW.Example.");
    let told: Vec<String> = message
        .answers
        .iter()
        .map(|record| format!("{} {} {}", record.name, record.ttl, record.data))
        .collect();
    assert_eq!(
        told,
        [
            "WwW.Example. 60 c0n.example.",
            "c0n.example. 60 c1n.example.",
            "c1n.example. 60 192.0.2.0",
            "c1n.example. 60 192.0.2.1",
        ]
    );
    let edns = message.edns.expect("EDNS answers EDNS");
    assert!(edns.flags().dnssec_ok);
    assert_eq!((edns.version(), edns.max_payload()), (0, 4_096));
}

#[test]
fn what_does_not_fit_says_so() {
    let bytes = query(true);
    let query = read(&bytes).expect("a query");
    let known = with_aliases(0);
    let message = write(&query, &known, &addresses(64), query.udp_bytes_max());
    assert!(message.metadata.truncation && message.answers.is_empty());
    let message = write(&query, &known, &addresses(64), TCP_BYTES_MAX);
    assert!(!message.metadata.truncation);
    assert_eq!(message.answers.len(), 64);
}

#[test]
fn other_records_keep_their_bytes() {
    let bytes = query(false);
    let mut query = read(&bytes).expect("a query");
    query.record = 16;
    let records = Records::Others(vec![Box::from(&b"\x05hello"[..])]);
    let message = write(&query, &with_aliases(0), &records, 512);
    let RData::TXT(text) = &message.answers[0].data else {
        panic!("no text: {message}");
    };
    assert_eq!(text.to_string(), "hello");
    assert!(message.edns.is_none());
}

#[test]
fn codes_stand_in_both_their_places() {
    let bytes = query(true);
    let query = read(&bytes).expect("a query");
    let mut out = Vec::new();
    for (code, read_back) in [
        (Code::ServFail, ResponseCode::ServFail),
        (Code::NxDomain, ResponseCode::NXDomain),
        (Code::Refused, ResponseCode::Refused),
        // 16 means both; the reader knows one of them.
        (Code::BadVers, ResponseCode::BADSIG),
    ] {
        empty(&query, code, &mut out);
        let message = Message::from_vec(&out).expect("a message");
        assert_eq!(message.metadata.response_code, read_back);
    }
    header(&query.header, Code::NotImp, &mut out);
    let message = Message::from_vec(&out).expect("a header");
    assert_eq!(message.metadata.response_code, ResponseCode::NotImp);
}
