//! Good queries, and every kind of bad one.

use hickory_proto::{
    op::{Edns, Message, Query as Asked},
    rr::{Name, RecordType},
};

use super::{Header, Malformed, QUERY_BYTES_MAX, read};
use crate::dns::reply::Code;

fn query(name: &str) -> Vec<u8> {
    let mut message = Message::query();
    message.metadata.id = 0x1234;
    message.metadata.recursion_desired = true;
    let name = Name::from_ascii(name).expect("a name");
    message.add_query(Asked::query(name, RecordType::AAAA));
    let mut edns = Edns::new();
    edns.set_max_payload(1_400).set_dnssec_ok(true);
    message.set_edns(edns);
    message.to_vec().expect("wire")
}

#[test]
fn a_query_is_read_as_it_was_written() {
    let bytes = query("API.Example.");
    let query = read(&bytes).expect("a query");
    assert_eq!(query.header.id, 0x1234);
    assert!(query.header.recursion_desired && !query.header.checking_disabled);
    assert_eq!(query.record, 28);
    assert_eq!(query.plain_name().as_deref(), Some("api.example"));
    assert_eq!(query.shown_name(), "API.Example");
    assert_eq!(query.udp_bytes_max(), 1_400);
    assert_eq!(query.clone().into_owned(), query);
}

#[test]
fn unusual_bytes_are_shown_and_make_no_plain_name() {
    let bytes = b"\0\x01\x01\0\0\x01\0\0\0\0\0\0\x03a.\x1b\x01b\0\0\x01\0\x01";
    let query = read(bytes).expect("a query");
    assert_eq!(query.plain_name(), None);
    assert_eq!(query.shown_name(), "a\\046\\027.b");
    assert_eq!(query.udp_bytes_max(), 512);
}

#[test]
fn what_is_no_query_is_refused_or_passed_over() {
    let good = query("api.example.");
    let with = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = good.clone();
        change(&mut bytes);
        match read(&bytes).expect_err("malformed") {
            Malformed::Answered(Header { id, .. }, code) => {
                assert_eq!(id, 0x1234);
                Some(code)
            }
            Malformed::Unanswerable => None,
        }
    };
    assert_eq!(with(&|bytes| bytes[2] |= 0x80), None, "a reply");
    assert_eq!(with(&|bytes| bytes.truncate(11)), None, "no header");
    assert_eq!(with(&|bytes| bytes[2] |= 0x28), Some(Code::NotImp));
    for (count, number) in [(5, 0), (5, 2), (7, 1), (9, 1), (11, 0), (11, 2), (10, 1)] {
        let code = with(&|bytes| bytes[count] = number);
        assert_eq!(code, Some(Code::FormErr), "count at {count} is {number}");
    }
    let form_errors: [&dyn Fn(&mut Vec<u8>); 7] = [
        &|bytes| bytes.push(0),
        &|bytes| bytes.truncate(20),
        &|bytes| bytes[12] = 0xc0,
        &|bytes| bytes[12] = 64,
        &|bytes| bytes[12] = 63,
        // The OPT record's type, and the length of its options.
        &|bytes| *bytes.iter_mut().nth_back(8).expect("OPT") = 1,
        &|bytes| *bytes.last_mut().expect("OPT") = 1,
    ];
    for (place, change) in form_errors.iter().enumerate() {
        assert_eq!(with(change), Some(Code::FormErr), "change {place}");
    }
    // Class CHAOS.
    let class = good.len() - 11 - 1;
    assert_eq!(with(&|bytes| bytes[class] = 3), Some(Code::Refused));
    let mut long = good.clone();
    long.resize(QUERY_BYTES_MAX + 1, 0);
    assert!(matches!(
        read(&long),
        Err(Malformed::Answered(_, Code::FormErr))
    ));
}

#[test]
fn a_name_ends_at_255_bytes() {
    let ask = |label: u8| {
        let mut bytes = b"\0\x01\x01\0\0\x01\0\0\0\0\0\0".to_vec();
        for length in [63, 63, 63, label] {
            bytes.push(length);
            bytes.extend(std::iter::repeat_n(b'a', usize::from(length)));
        }
        bytes.extend_from_slice(b"\0\0\x01\0\x01");
        read(&bytes).is_ok()
    };
    assert!(ask(61));
    assert!(!ask(62));
}
