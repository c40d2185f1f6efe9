//! Servers that lie, and names that lead where they must not.

use std::{net::IpAddr, time::Instant};

use hickory_proto::{
    op::{Message, ResponseCode},
    rr::RecordType,
};

use super::{
    Case,
    standin::{Over, StandIn, addresses, alias, public, reply},
    told,
};

#[tokio::test(flavor = "multi_thread")]
async fn private_and_embedded_addresses_never_arrive() {
    let upstream = StandIn::new(|query, _| {
        let all = [
            "10.0.0.1",
            "169.254.169.254",
            "::ffff:10.0.0.1",
            "::1",
            "64:ff9b::a00:1",
        ];
        let all: Vec<IpAddr> = all.iter().map(|ip| ip.parse().expect("an ip")).collect();
        addresses(query, 300, &all)
    });
    let case = Case::new(upstream.address);
    for record in [RecordType::A, RecordType::AAAA] {
        let reply = case.ask("api.example.", record).await;
        assert_eq!(reply.metadata.response_code, ResponseCode::NoError);
        assert!(reply.answers.is_empty());
    }
    assert_eq!(case.reasons(), ["private_answer", "private_answer"]);
    assert_eq!(case.given(), []);
    assert_eq!(case.server.stats().private, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_alias_is_judged_by_the_name_that_was_asked() {
    let upstream = StandIn::new(|query, _| {
        let name = query.queries[0].name().to_ascii().to_lowercase();
        match name.as_str() {
            "api.example." => alias(query, "hidden.other.test."),
            "hidden.other.test." => addresses(query, 300, &public(1)),
            other => panic!("asked for {other}"),
        }
    });
    let case = Case::new(upstream.address);
    let reply = case.ask("api.example.", RecordType::A).await;
    assert_eq!(told(&reply), ["hidden.other.test.", "8.8.8.1"]);
    assert_eq!(
        case.code("hidden.other.test.").await,
        ResponseCode::NXDomain
    );
    assert_eq!(upstream.asked().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn circles_and_endless_chains_end() {
    let upstream = StandIn::new(|query, _| {
        let name = query.queries[0].name().to_ascii().to_lowercase();
        match name.strip_prefix('n').and_then(|rest| rest.split_once('.')) {
            Some((number, _)) => {
                let next = number.parse::<u32>().expect("a number") + 1;
                alias(query, &format!("n{next}.cdn.example."))
            }
            None if name == "api.example." => alias(query, "b.cdn.example."),
            None => alias(query, "api.example."),
        }
    });
    let case = Case::new(upstream.address);
    assert_eq!(case.code("api.example.").await, ResponseCode::ServFail);
    assert_eq!(case.code("n0.cdn.example.").await, ResponseCode::ServFail);
    assert!(upstream.asked().len() <= 2 + 9, "{:?}", upstream.asked());
}

#[tokio::test(flavor = "multi_thread")]
async fn forged_and_broken_answers_are_passed_over() {
    let upstream = StandIn::new(|query, over| {
        let good = addresses(query, 300, &public(1)).remove(0);
        if over == Over::Stream {
            return vec![good];
        }
        let evil: IpAddr = "9.9.9.9".parse().expect("an ip");
        let forged = addresses(query, 300, &[evil]).remove(0);
        let mut wrong_id = forged.clone();
        wrong_id[0] ^= 0x55;
        let mut other = Message::from_vec(&forged).expect("a message");
        other.queries[0].set_query_type(RecordType::MX);
        vec![vec![0; 3], wrong_id, other.to_vec().expect("wire"), good]
    });
    let case = Case::new(upstream.address);
    let reply = case.ask("api.example.", RecordType::A).await;
    assert_eq!(told(&reply), ["8.8.8.1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn loops_in_compression_and_lying_lengths_fail_quickly() {
    // (bytes of the answer section, answers that the header counts)
    let lies: [&[u8]; 5] = [
        b"\xc0\x0c\xc0\x0c",
        // A name that points to itself.
        b"\xc0\x1d\0\x01\0\x01\0\0\0\x3c\0\x04\x08\x08\x08\x08",
        // Data longer than the message.
        b"\xc0\x0c\0\x01\0\x01\0\0\0\x3c\xff\xff\x08\x08\x08\x08",
        // An address of five bytes.
        b"\xc0\x0c\0\x01\0\x01\0\0\0\x3c\0\x05\x08\x08\x08\x08\x08",
        b"",
    ];
    for (number, lie) in lies.into_iter().enumerate() {
        let upstream = StandIn::new(move |query, _| {
            let mut bytes = reply(query).to_vec().expect("wire");
            bytes[7] = 200;
            bytes.extend_from_slice(lie);
            vec![bytes]
        });
        let case = Case::new(upstream.address);
        let start = Instant::now();
        let code = case.code("api.example.").await;
        assert_eq!(code, ResponseCode::ServFail, "lie {number}");
        assert!(start.elapsed() < super::LATE / 2);
        assert_eq!(case.given(), []);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn thousands_of_records_give_a_bounded_answer() {
    let upstream = StandIn::new(|query, over| {
        if over == Over::Udp {
            let mut short = reply(query);
            short.metadata.truncation = true;
            return vec![short.to_vec().expect("wire")];
        }
        let many: Vec<IpAddr> = (0..4_000_u16)
            .map(|number| {
                let [high, low] = number.to_be_bytes();
                IpAddr::from([8, 8, high, low])
            })
            .collect();
        addresses(query, 300, &many)
    });
    let case = Case::new(upstream.address);
    let reply = case.ask("api.example.", RecordType::A).await;
    assert_eq!(reply.metadata.response_code, ResponseCode::NoError);
    assert!(reply.metadata.truncation, "more than 512 bytes over UDP");
    assert!(reply.answers.is_empty());
    assert_eq!(case.given().len(), 64);
}

/// There is no third way to ask: the answer is not taken for whole.
#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_is_cut_over_tcp_too_is_none() {
    let upstream = StandIn::new(|query, _| {
        let mut bytes = addresses(query, 300, &public(2)).remove(0);
        bytes[2] |= 0x02;
        vec![bytes]
    });
    let case = Case::new(upstream.address);
    let start = Instant::now();
    assert_eq!(case.code("api.example.").await, ResponseCode::ServFail);
    assert!(start.elapsed() < super::LATE / 2);
    assert_eq!(case.given(), []);
    assert_eq!(case.server.stats().upstream_failures, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn times_to_live_at_both_ends_are_taken() {
    let upstream = StandIn::new(|query, _| {
        let name = query.queries[0].name().to_ascii().to_lowercase();
        let ttl = match name.as_str() {
            "zero.cdn.example." => 0,
            "high.cdn.example." => 1 << 31,
            _ => (1 << 31) - 1,
        };
        addresses(query, ttl, &public(1))
    });
    let case = Case::new(upstream.address);
    for (name, expected) in [
        ("zero.cdn.example.", 0),
        ("high.cdn.example.", 0),
        ("long.cdn.example.", 86_400),
    ] {
        let reply = case.ask(name, RecordType::A).await;
        assert_eq!(reply.answers[0].ttl, expected, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_queries_get_a_code_or_nothing() {
    let upstream = StandIn::new(|query, _| addresses(query, 300, &public(1)));
    let case = Case::new(upstream.address);
    let good = super::query("api.example.", RecordType::A)
        .to_vec()
        .expect("wire");
    let with = |at: usize, byte: u8| {
        let mut bytes = good.clone();
        bytes[at] = byte;
        bytes
    };
    for (bytes, code) in [
        (with(2, 0x10), ResponseCode::NotImp),
        (with(5, 2), ResponseCode::FormErr),
        (with(12, 0xc0), ResponseCode::FormErr),
        (vec![0; 5_000], ResponseCode::FormErr),
    ] {
        let reply = case.send(&bytes).await.expect("a reply");
        assert_eq!(reply.metadata.response_code, code);
    }
    let mut edns = good.clone();
    edns[11] = 1;
    edns.extend_from_slice(&[0, 0, 41, 4, 0, 0, 7, 0, 0, 0, 0]);
    let reply = case.send(&edns).await.expect("a reply");
    assert_eq!(u16::from(reply.metadata.response_code), 16, "BADVERS");
    assert!(upstream.asked().is_empty());
    assert_eq!(case.reasons(), ["query_malformed"; 4]);
    // A reply and a fragment are passed over; what comes after them on the socket is not.
    let socket = tokio::net::UdpSocket::bind("127.0.0.1:0")
        .await
        .expect("a socket");
    let to = ("127.0.0.1", case.port);
    for bytes in [&with(2, 0x81)[..], &good[..7], &good] {
        socket.send_to(bytes, to).await.expect("sent");
    }
    let mut buffer = [0; 512];
    let length = socket.recv(&mut buffer).await.expect("a reply");
    let reply = Message::from_vec(&buffer[..length]).expect("a message");
    assert_eq!(told(&reply), ["8.8.8.1"]);
    assert_eq!(case.server.stats().malformed, 7);
}
