//! What one worker may use, and what equal questions share.

use std::time::{Duration, Instant};

use hickory_proto::{op::ResponseCode, rr::RecordType};
use tokio::net::UdpSocket;

use super::{
    Case, V6, query,
    standin::{StandIn, addresses, public},
    told,
};
use crate::dns::{Limits, PATIENCE, Settings, Upstream};

fn limited(upstream: &StandIn, limits: Limits) -> Case {
    Case::with(Settings {
        upstream: Upstream::Plain(vec![upstream.address]),
        limits,
        ..Settings::default()
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_beyond_its_rate_is_refused_alone() {
    let upstream = StandIn::new(|query, _| addresses(query, 300, &public(1)));
    let limits = Limits {
        queries_per_second: 1,
        query_burst: 5,
        ..Limits::DEFAULT
    };
    let case = limited(&upstream, limits);
    let mut refused = 0;
    for _ in 0..20 {
        let code = case.code("api.example.").await;
        refused += u32::from(code == ResponseCode::Refused);
    }
    assert!((10..=15).contains(&refused), "{refused} of 20");
    assert!(case.reasons().iter().all(|reason| *reason == "query_limit"));
    let bytes = query("api.example.", RecordType::A).to_vec().expect("wire");
    let other = case.send_from(V6, &bytes).await.expect("a reply");
    assert_eq!(told(&other), ["8.8.8.1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn names_under_a_wildcard_have_a_budget() {
    let upstream = StandIn::new(|query, _| addresses(query, 300, &public(1)));
    let limits = Limits {
        names_per_minute: 5,
        ..Limits::DEFAULT
    };
    let case = limited(&upstream, limits);
    for number in 0..20 {
        let code = case.code(&format!("exfil{number}.cdn.example.")).await;
        let passes = number < 5;
        assert_eq!(code == ResponseCode::NoError, passes, "name {number}");
    }
    assert_eq!(case.reasons(), ["name_budget"; 15]);
    assert_eq!(upstream.asked().len(), 5);
    assert_eq!(
        case.code("exfil0.cdn.example.").await,
        ResponseCode::NoError
    );
    assert_eq!(case.code("api.example.").await, ResponseCode::NoError);
}

#[tokio::test(flavor = "multi_thread")]
async fn equal_questions_go_once_and_all_are_answered() {
    let upstream = StandIn::new(|query, _| {
        std::thread::sleep(Duration::from_millis(200));
        addresses(query, 300, &public(1))
    });
    let case = Case::new(upstream.address);
    let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a socket");
    let bytes = query("api.example.", RecordType::A).to_vec().expect("wire");
    for _ in 0..20 {
        let to = ("127.0.0.1", case.port);
        socket.send_to(&bytes, to).await.expect("sent");
    }
    let mut buffer = [0; 512];
    for _ in 0..20 {
        socket.recv(&mut buffer).await.expect("a reply");
    }
    assert_eq!(upstream.asked(), ["api.example. a"]);
    assert_eq!(case.given().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_is_bounded_for_each_worker() {
    let upstream = StandIn::new(|_, _| Vec::new());
    let limits = Limits {
        waiting_per_session: 3,
        ..Limits::DEFAULT
    };
    let case = limited(&upstream, limits);
    let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a socket");
    for number in 0..5 {
        let name = format!("n{number}.cdn.example.");
        let bytes = query(&name, RecordType::A).to_vec().expect("wire");
        let to = ("127.0.0.1", case.port);
        socket.send_to(&bytes, to).await.expect("sent");
    }
    let mut buffer = [0; 512];
    for _ in 0..2 {
        let length = socket.recv(&mut buffer).await.expect("a reply");
        assert_eq!(buffer[..length][3] & 0xf, 5, "REFUSED");
    }
    assert_eq!(case.server.stats().waiting, 3);
    for _ in 0..3 {
        let length = socket.recv(&mut buffer).await.expect("a reply");
        assert_eq!(buffer[..length][3] & 0xf, 2, "SERVFAIL");
    }
    assert_eq!(case.server.stats().waiting, 0);
    assert_eq!(case.reasons(), ["query_limit"; 2]);
}

/// The queue of all sessions is nobody's fault: no event blames who comes last.
#[tokio::test(flavor = "multi_thread")]
async fn what_waits_is_bounded_for_all_workers() {
    let upstream = StandIn::new(|_, _| Vec::new());
    let limits = Limits {
        waiting_per_session: 3,
        waiting: 4,
        ..Limits::DEFAULT
    };
    let case = limited(&upstream, limits);
    for (ip, queries) in [("127.0.0.1", 3), ("::1", 2)] {
        let socket = UdpSocket::bind((ip, 0)).await.expect("a socket");
        for number in 0..queries {
            let name = format!("n{number}.{}.cdn.example.", ip.len());
            let bytes = query(&name, RecordType::A).to_vec().expect("wire");
            socket.send_to(&bytes, (ip, case.port)).await.expect("sent");
        }
        while case.server.stats().waiting < 3 {
            tokio::task::yield_now().await;
        }
        if queries < 3 {
            let start = Instant::now();
            let mut buffer = [0; 512];
            let length = socket.recv(&mut buffer).await.expect("a reply");
            assert_eq!(buffer[..length][3] & 0xf, 2, "SERVFAIL");
            assert!(start.elapsed() < PATIENCE / 2, "at once");
        }
    }
    let stats = case.server.stats();
    assert_eq!((stats.waiting, stats.failed, stats.limited), (4, 1, 0));
    assert!(case.reasons().is_empty());
}
