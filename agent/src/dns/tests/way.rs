//! The way of a query: gate, upstream, cache, grant, reply.

use std::sync::atomic::Ordering;

use common::{
    id::SessionId,
    verdict::{Outcome, Reason},
};
use hickory_proto::{op::ResponseCode, rr::RecordType};

use super::{
    Case, POLICY, V6, query,
    standin::{StandIn, addresses, is_a, public},
    told,
};
use crate::dns::{Refusal, Settings, Upstream, session::lock};

#[tokio::test(flavor = "multi_thread")]
async fn an_allowed_name_is_answered_and_granted_and_remembered() {
    let upstream = StandIn::new(|query, _| addresses(query, 300, &public(2)));
    let case = Case::new(upstream.address);
    let reply = case.ask("API.Example.", RecordType::A).await;
    assert_eq!(told(&reply), ["8.8.8.1", "8.8.8.2"]);
    assert_eq!(reply.queries[0].name().to_ascii(), "API.Example.");
    assert!(
        reply
            .answers
            .iter()
            .all(|record| record.ttl <= 300 && record.ttl > 290)
    );
    assert_eq!(case.given().len(), 2);
    for _ in 0..10 {
        case.ask("api.example.", RecordType::A).await;
    }
    assert_eq!(upstream.asked(), ["api.example. a"]);
    assert_eq!(case.given().len(), 2, "granted until well after the answer");
    // Another session gets the same answer and grants of its own.
    let bytes = query("api.example.", RecordType::A).to_vec().expect("wire");
    let reply = case.send_from(V6, &bytes).await.expect("a reply");
    assert_eq!(told(&reply).len(), 2);
    assert_eq!(upstream.asked().len(), 1);
    let sessions: Vec<_> = case.given().iter().map(|given| given.0).collect();
    assert_eq!(sessions, [1, 1, 2, 2].map(SessionId));
    let stats = case.server.stats();
    assert_eq!((stats.answered, stats.cache_hits, stats.asked), (12, 11, 1));
    assert_eq!((stats.sessions, stats.waiting), (2, 0));
    case.server.forget(SessionId(2));
    assert_eq!(case.server.stats().sessions, 1);
    assert!(case.reasons().is_empty());
    case.server.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_case_of_letters_is_random_upstream() {
    let upstream = StandIn::new(|query, _| addresses(query, 0, &public(1)));
    let case = Case::new(upstream.address);
    for number in 0..8 {
        let name = format!("n{number}-abcdefghijklmnop.cdn.example.");
        case.ask(&name, RecordType::A).await;
    }
    let asked = upstream.asked_as_it_came();
    assert_eq!(asked.len(), 8);
    assert!(
        asked
            .iter()
            .any(|name| name.contains(|c: char| c.is_ascii_uppercase()))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn no_other_name_leaves_the_host() {
    let upstream = StandIn::new(|query, _| addresses(query, 300, &public(1)));
    let case = Case::new(upstream.address);
    for name in [
        "secret.evil.test.",
        "cdn.example.",
        "host.",
        "1.2.3.4.in-addr.arpa.",
    ] {
        for record in [RecordType::A, RecordType::AAAA, RecordType::TXT] {
            let reply = case.ask(name, record).await;
            assert_eq!(
                reply.metadata.response_code,
                ResponseCode::NXDomain,
                "{name}"
            );
        }
    }
    let reply = case.ask("api.example.", RecordType::HTTPS).await;
    assert_eq!(reply.metadata.response_code, ResponseCode::NoError);
    let reply = case.ask("api.example.", RecordType::TXT).await;
    assert_eq!(reply.metadata.response_code, ResponseCode::NoError);
    assert!(upstream.asked().is_empty());
    assert_eq!(case.given(), []);
    let reasons = case.reasons();
    assert_eq!(reasons.len(), 10);
    assert_eq!(reasons[9], "record_not_allowed");
    let events = lock(&case.around.events);
    assert_eq!(events[0].tool, "fetcher");
    assert_eq!(events[0].name, "secret.evil.test");
    assert_eq!(
        (events[0].outcome, events[0].record.as_str()),
        (Outcome::Deny, "A")
    );
    assert_eq!(
        events[9].rule.as_deref(),
        Some("domain api.example tcp 443")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn refused_is_an_answer_too() {
    let upstream = StandIn::new(|query, _| addresses(query, 300, &public(1)));
    let case = Case::with(Settings {
        upstream: Upstream::Plain(vec![upstream.address]),
        refusal: Refusal::Refused,
        ..Settings::default()
    });
    for record in [RecordType::A, RecordType::AAAA, RecordType::MX] {
        let reply = case.ask("evil.test.", record).await;
        assert_eq!(reply.metadata.response_code, ResponseCode::Refused);
    }
    assert_eq!(case.code("localhost.").await, ResponseCode::NXDomain);
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_gets_nothing() {
    let upstream = StandIn::new(|query, _| addresses(query, 300, &public(1)));
    let case = Case::new(upstream.address);
    case.around.nobody.store(true, Ordering::Release);
    assert_eq!(case.code("api.example.").await, ResponseCode::Refused);
    assert!(upstream.asked().is_empty() && case.given().is_empty());
    assert_eq!(case.server.stats().unknown, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn observe_answers_and_reports() {
    let upstream = StandIn::new(|query, _| addresses(query, 300, &public(1)));
    let case = Case::new(upstream.address);
    let text = POLICY.replace(
        "[[egress.allow]]\ndomain = \"api",
        "mode = \"observe\"\n[[egress.allow]]\ndomain = \"api",
    );
    case.push(&text);
    let reply = case.ask("elsewhere.test.", RecordType::A).await;
    assert_eq!(told(&reply), ["8.8.8.1"]);
    assert_eq!(case.given(), [], "the kernel passes it for the same reason");
    let events = lock(&case.around.events);
    assert_eq!(events[0].outcome, Outcome::Observe);
    assert_eq!(events[0].reason, Reason::NameNotAllowed);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_grant_there_is_no_answer() {
    let upstream = StandIn::new(|query, _| addresses(query, 300, &public(3)));
    let case = Case::new(upstream.address);
    case.around.full.store(true, Ordering::Release);
    assert_eq!(case.code("api.example.").await, ResponseCode::ServFail);
    assert_eq!(case.reasons(), ["grants_full"]);
    case.around.full.store(false, Ordering::Release);
    assert_eq!(case.code("api.example.").await, ResponseCode::NoError);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_family_without_addresses_is_empty_not_absent() {
    let upstream = StandIn::new(|query, _| addresses(query, 300, &public(1)));
    let case = Case::new(upstream.address);
    let reply = case.ask("api.example.", RecordType::AAAA).await;
    assert_eq!(reply.metadata.response_code, ResponseCode::NoError);
    assert!(reply.answers.is_empty());
    upstream.say(|query, _| {
        assert!(is_a(query), "the empty answer is remembered");
        addresses(query, 300, &public(1))
    });
    case.ask("api.example.", RecordType::AAAA).await;
    assert_eq!(
        told(&case.ask("api.example.", RecordType::A).await),
        ["8.8.8.1"]
    );
    assert_eq!(upstream.asked(), ["api.example. aaaa", "api.example. a"]);
}
