//! Answers of honest and of hostile servers.

use std::net::{IpAddr, Ipv4Addr};

use hickory_proto::{
    op::{Message, OpCode, ResponseCode},
    rr::{
        DNSClass, Name, RData, Record, RecordType,
        rdata::{A, AAAA, CNAME, SOA, TXT},
    },
};

use super::{ADDRESSES_MAX, Answer, Chain, Records, Step, TTL_MAX};
use crate::dns::{error::AnswerError, reply::Code};

fn name(text: &str) -> Name {
    Name::from_ascii(text).expect("a name")
}

fn a(owner: &str, ttl: u32, address: [u8; 4]) -> Record {
    Record::from_rdata(name(owner), ttl, RData::A(A(Ipv4Addr::from(address))))
}

fn alias(owner: &str, target: &str) -> Record {
    Record::from_rdata(name(owner), 300, RData::CNAME(CNAME(name(target))))
}

fn take(record: RecordType, answers: Vec<Record>) -> Result<Step, AnswerError> {
    let mut message = Message::response(1, OpCode::Query);
    message.insert_answers(answers);
    Chain::new(name("www.example."), record).take(&message)
}

fn done(answers: Vec<Record>) -> Answer {
    match take(RecordType::A, answers) {
        Ok(Step::Done(answer)) => answer,
        other => panic!("not done: {other:?}"),
    }
}

fn addresses(answer: &Answer) -> Vec<String> {
    let Records::Addresses(addresses) = &answer.records else {
        panic!("no addresses");
    };
    addresses.iter().map(ToString::to_string).collect()
}

#[test]
fn records_of_other_names_types_and_classes_are_left_out() {
    let mut chaos = a("www.example.", 60, [192, 0, 2, 66]);
    chaos.dns_class = DNSClass::CH;
    let v6 = RData::AAAA(AAAA("2001:db8::1".parse().expect("an address")));
    let answer = done(vec![
        a("evil.example.", 60, [192, 0, 2, 66]),
        chaos,
        Record::from_rdata(name("www.example."), 60, v6),
        a("WWW.example.", 60, [192, 0, 2, 1]),
        a("www.example.", 30, [192, 0, 2, 1]),
    ]);
    assert_eq!(addresses(&answer), ["192.0.2.1"]);
    assert_eq!(answer.ttl, 30);
}

#[test]
fn times_to_live_are_bounded() {
    let ttl = |ttl| done(vec![a("www.example.", ttl, [192, 0, 2, 1])]).ttl;
    assert_eq!(ttl(0), 0);
    assert_eq!(ttl(59), 59);
    assert_eq!(ttl(1 << 31), 0);
    assert_eq!(ttl(u32::MAX), 0);
    assert_eq!(ttl((1 << 31) - 1), TTL_MAX);
}

#[test]
fn aliases_are_followed_to_the_records() {
    let answer = done(vec![
        a("c.example.", 60, [192, 0, 2, 1]),
        alias("b.example.", "C.example."),
        alias("www.example.", "b.example."),
    ]);
    assert_eq!(addresses(&answer), ["192.0.2.1"]);
    assert_eq!(answer.aliases.len(), 2);
    assert_eq!(&*answer.aliases[1], b"\x01C\x07example\0");
}

#[test]
fn an_alias_without_its_records_is_asked_for() {
    let step = take(RecordType::A, vec![alias("www.example.", "b.example.")]);
    let Ok(Step::Follow(chain)) = step else {
        panic!("not followed: {step:?}");
    };
    assert_eq!(chain.name(), &name("b.example."));
    let mut message = Message::response(1, OpCode::Query);
    message.insert_answers(vec![alias("b.example.", "www.example.")]);
    assert!(matches!(chain.take(&message), Err(AnswerError::Loop)));
}

#[test]
fn loops_and_long_chains_end() {
    let looped = take(
        RecordType::A,
        vec![
            alias("www.example.", "b.example."),
            alias("b.example.", "WWW.example."),
        ],
    );
    assert!(matches!(looped, Err(AnswerError::Loop)));
    let chain = |links: usize| {
        let owner = |number| match number {
            0 => "www.example.".to_owned(),
            number => format!("n{number}.example."),
        };
        let mut records: Vec<_> = (0..links)
            .map(|number| alias(&owner(number), &owner(number + 1)))
            .collect();
        records.push(a(&owner(links), 60, [192, 0, 2, 1]));
        take(RecordType::A, records)
    };
    assert!(matches!(chain(8), Ok(Step::Done(_))));
    assert!(matches!(chain(9), Err(AnswerError::TooManyAliases)));
}

#[test]
fn thousands_of_records_are_cut() {
    let many = (0..5_000_u16).map(|number| {
        let [high, low] = number.to_be_bytes();
        a("www.example.", 60, [192, 0, high, low])
    });
    let answer = done(many.collect());
    assert_eq!(addresses(&answer).len(), ADDRESSES_MAX);
    let text = RData::TXT(TXT::new(vec!["x".repeat(255)]));
    let text = Record::from_rdata(name("www.example."), 60, text);
    let many = take(RecordType::TXT, vec![text.clone(); 65]);
    assert!(matches!(many, Err(AnswerError::TooLarge)));
    let few = take(RecordType::TXT, vec![text; 2]);
    assert!(matches!(few, Ok(Step::Done(answer)) if answer.records.len() == 2));
}

#[test]
fn nothing_is_nothing_for_a_while() {
    let mut message = Message::response(1, OpCode::Query);
    message.metadata.response_code = ResponseCode::NXDomain;
    let soa = SOA::new(name("ns.example."), name("h.example."), 1, 2, 3, 4, 77);
    message.add_authority(Record::from_rdata(name("example."), 900, RData::SOA(soa)));
    let chain = Chain::new(name("www.example."), RecordType::A);
    let Ok(Step::Done(answer)) = chain.take(&message) else {
        panic!("not done");
    };
    assert_eq!((answer.code, answer.ttl), (Code::NxDomain, 77));
    let chain = Chain::new(name("www.example."), RecordType::A);
    assert_eq!(chain.nothing(true, Some(86_400)).ttl, 300);
    message.metadata.response_code = ResponseCode::ServFail;
    let chain = Chain::new(name("www.example."), RecordType::A);
    assert!(matches!(chain.take(&message), Err(AnswerError::Code(_))));
}

#[test]
fn a_mapped_address_stays_what_it_is() {
    let mapped: IpAddr = "::ffff:192.0.2.1".parse().expect("an address");
    let IpAddr::V6(v6) = mapped else {
        panic!("not IPv6");
    };
    let record = Record::from_rdata(name("www.example."), 60, RData::AAAA(AAAA(v6)));
    let Ok(Step::Done(answer)) = take(RecordType::AAAA, vec![record]) else {
        panic!("not done");
    };
    assert_eq!(answer.records, Records::Addresses(vec![mapped]));
}
