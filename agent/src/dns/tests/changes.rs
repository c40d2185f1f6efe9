//! What changes while a query is on its way: its session ends, a push changes the rules.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::atomic::Ordering,
    time::Duration,
};

use common::id::SessionId;
use hickory_proto::{op::ResponseCode, rr::RecordType};
use tokio::{net::UdpSocket, time::timeout};

use super::{
    Case, POLICY, V6, query,
    standin::{StandIn, addresses, public},
    told,
};
use crate::dns::session::lock;

/// How long the upstream server takes.
const SLOW: Duration = Duration::from_millis(400);
const V4: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

fn slow() -> StandIn {
    StandIn::new(|query, _| {
        std::thread::sleep(SLOW);
        addresses(query, 300, &public(1))
    })
}

/// Asks for an address of `api.example` and does not wait.
async fn asks(case: &Case, ip: IpAddr) -> UdpSocket {
    let socket = UdpSocket::bind((ip, 0)).await.expect("a socket");
    let bytes = query("api.example.", RecordType::A).to_vec().expect("wire");
    let to = SocketAddr::new(ip, case.port);
    socket.send_to(&bytes, to).await.expect("sent");
    socket
}

/// Whether a reply comes within a time.
async fn hears(socket: &UdpSocket, patience: Duration) -> bool {
    timeout(patience, socket.recv(&mut [0; 512])).await.is_ok()
}

async fn until_waiting(case: &Case, count: usize) {
    while case.server.stats().waiting != count {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_ends_while_its_question_waits_hears_nothing() {
    let upstream = slow();
    let case = Case::new(upstream.address);
    let (ending, other) = (asks(&case, V4).await, asks(&case, V6).await);
    until_waiting(&case, 2).await;
    lock(&case.around.over).push(SessionId(1));
    case.server.forget(SessionId(1));
    assert!(hears(&other, SLOW * 4).await, "the other one is answered");
    assert!(!hears(&ending, SLOW).await);
    let given: Vec<_> = case.given().iter().map(|given| given.0).collect();
    assert_eq!(given, [SessionId(2)]);
    let stats = case.server.stats();
    assert_eq!((stats.waiting, stats.sessions, stats.unknown), (0, 1, 1));
    assert!(case.reasons().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_ends_between_grant_and_answer_hears_nothing() {
    let upstream = StandIn::new(|query, _| addresses(query, 300, &public(1)));
    let case = Case::new(upstream.address);
    case.around.ends_by_grant.store(true, Ordering::Release);
    // Once from upstream, once from the cache.
    for (ip, unknown) in [(V4, 1), (V6, 2)] {
        let socket = asks(&case, ip).await;
        assert!(!hears(&socket, SLOW).await);
        assert_eq!(case.given().len(), unknown);
        let stats = case.server.stats();
        assert_eq!((stats.answered, stats.unknown), (0, unknown as u64));
    }
    assert_eq!(case.server.stats().cache_hits, 1);
    assert!(case.reasons().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reply_that_comes_late_is_not_for_who_has_the_port_by_then() {
    let upstream = slow();
    let case = Case::new(upstream.address);
    let control = asks(&case, V4).await;
    assert!(hears(&control, SLOW * 10).await, "control");
    let socket = UdpSocket::bind((V4, 0)).await.expect("a socket");
    let bytes = query("late.cdn.example.", RecordType::A)
        .to_vec()
        .expect("wire");
    let to = SocketAddr::new(V4, case.port);
    socket.send_to(&bytes, to).await.expect("sent");
    until_waiting(&case, 1).await;
    case.around.changed.store(true, Ordering::Release);
    assert!(!hears(&socket, SLOW * 4).await);
    let stats = case.server.stats();
    assert_eq!((stats.waiting, stats.replies_lost), (0, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_question_that_waited_is_judged_by_the_rules_of_now() {
    let upstream = slow();
    let case = Case::new(upstream.address);
    let bytes = query("api.example.", RecordType::A).to_vec().expect("wire");
    let (reply, ()) = tokio::join!(case.send(&bytes), async {
        until_waiting(&case, 1).await;
        case.push(&POLICY.replace("api.example", "other.example"));
    });
    let code = reply.expect("a reply").metadata.response_code;
    assert_eq!(code, ResponseCode::NXDomain);
    assert_eq!(case.given(), []);
    assert_eq!(case.reasons(), ["name_not_allowed"]);
}

/// The kernel side takes out the grants of a dropped rule where it needs the room.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_granted_is_forgotten_with_each_push() {
    let upstream = StandIn::new(|query, _| addresses(query, 300, &public(1)));
    let case = Case::new(upstream.address);
    for pushes in 0..3 {
        for _ in 0..2 {
            let reply = case.ask("api.example.", RecordType::A).await;
            assert_eq!(told(&reply), ["8.8.8.1"]);
            assert_eq!(case.given().len(), pushes + 1);
        }
        // Dropped and brought back: the policy is the one that it was.
        case.push(&POLICY.replace("api.example", "other.example"));
        case.push(POLICY);
    }
}
