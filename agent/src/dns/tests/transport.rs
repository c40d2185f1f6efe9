//! UDP, TCP and TLS, downstream and upstream; servers that die and come back.

use std::{
    fs,
    net::SocketAddr,
    path::Path,
    process,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use hickory_proto::{
    op::{Message, ResponseCode},
    rr::RecordType,
};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::ServerConfig;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::{
    Case, query,
    standin::{Over, StandIn, addresses, public, reply},
    told,
};
use crate::dns::{Limits, PATIENCE, Settings, TlsServer, Upstream, inquire};

async fn dial(case: &Case) -> TcpStream {
    TcpStream::connect(("127.0.0.1", case.port))
        .await
        .expect("a connection")
}

async fn write(stream: &mut TcpStream, bytes: &[u8]) {
    let length = u16::try_from(bytes.len()).expect("a short query");
    let framed = [&length.to_be_bytes()[..], bytes].concat();
    stream.write_all(&framed).await.expect("written");
}

async fn read(stream: &mut TcpStream) -> Message {
    let length = stream.read_u16().await.expect("a length");
    let mut bytes = vec![0; usize::from(length)];
    stream.read_exact(&mut bytes).await.expect("a reply");
    Message::from_vec(&bytes).expect("a message")
}

#[tokio::test(flavor = "multi_thread")]
async fn many_queries_share_a_connection_and_large_answers_fit() {
    let upstream = StandIn::new(|query, over| {
        if over == Over::Udp {
            let mut short = reply(query);
            short.metadata.truncation = true;
            return vec![short.to_vec().expect("wire")];
        }
        addresses(query, 300, &public(60))
    });
    let case = Case::new(upstream.address);
    let mut stream = dial(&case).await;
    let bytes = query("api.example.", RecordType::A).to_vec().expect("wire");
    for _ in 0..3 {
        write(&mut stream, &bytes).await;
    }
    for _ in 0..3 {
        let reply = read(&mut stream).await;
        assert_eq!(reply.answers.len(), 60);
        assert!(!reply.metadata.truncation);
    }
    assert_eq!(case.server.stats().connections, 1);
    // An asker that shuts its side still gets what it asked for.
    let other = query("a.cdn.example.", RecordType::A)
        .to_vec()
        .expect("wire");
    write(&mut stream, &other).await;
    stream.shutdown().await.expect("shut");
    assert_eq!(read(&mut stream).await.answers.len(), 60);
    assert_eq!(stream.read(&mut [0; 1]).await.expect("the end"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_are_bounded_and_lying_frames_end_them() {
    let upstream = StandIn::new(|query, _| addresses(query, 300, &public(1)));
    let case = Case::with(Settings {
        upstream: Upstream::Plain(vec![upstream.address]),
        limits: Limits {
            connections_per_session: 2,
            ..Limits::DEFAULT
        },
        ..Settings::default()
    });
    let bytes = query("api.example.", RecordType::A).to_vec().expect("wire");
    let mut kept = dial(&case).await;
    write(&mut kept, &bytes).await;
    assert_eq!(told(&read(&mut kept).await), ["8.8.8.1"]);
    let mut liar = dial(&case).await;
    liar.write_all(&[0xff, 0xff, 1, 2, 3])
        .await
        .expect("written");
    assert!(matches!(liar.read(&mut [0; 1]).await, Ok(0) | Err(_)));
    let mut second = dial(&case).await;
    write(&mut second, &bytes).await;
    read(&mut second).await;
    let mut third = dial(&case).await;
    assert!(matches!(third.read(&mut [0; 1]).await, Ok(0) | Err(_)));
    case.around.nobody.store(true, Ordering::Release);
    drop(second);
    let mut nobody = dial(&case).await;
    assert!(matches!(nobody.read(&mut [0; 1]).await, Ok(0) | Err(_)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_connection_is_closed_and_a_waiting_one_is_not() {
    const IDLE: Duration = Duration::from_millis(200);
    let upstream = StandIn::new(|query, _| {
        std::thread::sleep(4 * IDLE);
        addresses(query, 300, &public(1))
    });
    let case = Case::with(Settings {
        upstream: Upstream::Plain(vec![upstream.address]),
        limits: Limits {
            connection_idle: IDLE,
            ..Limits::DEFAULT
        },
        ..Settings::default()
    });
    let bytes = query("api.example.", RecordType::A).to_vec().expect("wire");
    // Before the server can have seen the first of them.
    let start = Instant::now();
    let (mut silent, mut half, mut waiting) =
        (dial(&case).await, dial(&case).await, dial(&case).await);
    half.write_all(&[0, 40, 1]).await.expect("written");
    write(&mut waiting, &bytes).await;
    for closed in [&mut silent, &mut half] {
        assert_eq!(closed.read(&mut [0; 1]).await.expect("the end"), 0);
        assert!(start.elapsed() >= IDLE);
        assert!(start.elapsed() < 4 * IDLE, "{:?}", start.elapsed());
    }
    assert_eq!(told(&read(&mut waiting).await), ["8.8.8.1"]);
    assert_eq!(waiting.read(&mut [0; 1]).await.expect("the end"), 0);
    while case.server.stats().connections > 0 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_server_costs_the_patience_and_is_back_at_once() {
    let upstream = StandIn::new(|_, _| Vec::new());
    let case = Case::new(upstream.address);
    let start = Instant::now();
    assert_eq!(case.code("api.example.").await, ResponseCode::ServFail);
    let took = start.elapsed();
    assert!(took < PATIENCE + Duration::from_millis(900), "{took:?}");
    assert_eq!(case.server.stats().upstream_failures, 1);
    upstream.say(|query, _| addresses(query, 300, &public(1)));
    assert_eq!(
        told(&case.ask("api.example.", RecordType::A).await),
        ["8.8.8.1"]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_server_beside_a_living_one_costs_nothing() {
    let dead = StandIn::new(|_, _| Vec::new());
    let living = StandIn::new(|query, _| addresses(query, 300, &public(1)));
    let case = Case::with(Settings {
        upstream: Upstream::Plain(vec![dead.address, living.address]),
        ..Settings::default()
    });
    let start = Instant::now();
    assert_eq!(
        told(&case.ask("api.example.", RecordType::A).await),
        ["8.8.8.1"]
    );
    assert!(start.elapsed() < Duration::from_secs(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_resolv_conf_is_read_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("resolv.conf");
    let [high, low] = (process::id() & 0x3fff).to_be_bytes()[2..] else {
        panic!("two bytes");
    };
    let stand_in = |last: u8| {
        // Port 53 of an address of loopback that nobody else uses.
        let address = SocketAddr::from(([127, 100 + high, low, last], 53));
        let other = public(last).pop().expect("an address");
        StandIn::at(address, None, move |query, _| addresses(query, 0, &[other]))
    };
    let (one, two) = (stand_in(1), stand_in(2));
    let name = |server: &StandIn| {
        let text = format!("search example\nnameserver {}\n", server.address.ip());
        fs::write(&path, text).expect("written");
    };
    let case = Case::with(Settings {
        upstream: Upstream::ResolvConf(path.clone()),
        ..Settings::default()
    });
    assert_eq!(
        case.code("api.example.").await,
        ResponseCode::ServFail,
        "no file"
    );
    name(&one);
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    assert_eq!(
        told(&case.ask("api.example.", RecordType::A).await),
        ["8.8.8.1"]
    );
    name(&two);
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    assert_eq!(
        told(&case.ask("api.example.", RecordType::A).await),
        ["8.8.8.2"]
    );
}

/// A server certificate for a name, and the PEM file of its authority.
fn certificate(folder: &Path, name: &str) -> Arc<ServerConfig> {
    let key = KeyPair::generate().expect("a key");
    let mut authority = CertificateParams::default();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let root = authority.self_signed(&key).expect("an authority");
    fs::write(folder.join("roots.pem"), root.pem()).expect("written");
    let issuer = Issuer::new(authority, key);
    let key = KeyPair::generate().expect("a key");
    let leaf = CertificateParams::new([name.to_owned()])
        .expect("a name")
        .signed_by(&key, &issuer)
        .expect("a certificate");
    let key = rustls::pki_types::PrivateKeyDer::try_from(key.serialize_der()).expect("a key");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![leaf.der().clone()], key)
        .expect("a certificate");
    Arc::new(config)
}

fn upstream_over_tls(server: &StandIn, name: &str, roots: &Path) -> Upstream {
    let servers = vec![TlsServer {
        address: server.address,
        name: name.to_owned(),
    }];
    Upstream::Tls {
        servers,
        roots: roots.to_owned(),
    }
}

fn over_tls(server: &StandIn, name: &str, roots: &Path) -> Case {
    Case::with(Settings {
        upstream: upstream_over_tls(server, name, roots),
        ..Settings::default()
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn over_tls_only_the_named_server_is_believed() {
    let folder = tempfile::tempdir().expect("a folder");
    let other = tempfile::tempdir().expect("a folder");
    let config = certificate(folder.path(), "dns.example");
    certificate(other.path(), "dns.example");
    let anywhere = SocketAddr::from(([127, 0, 0, 1], 0));
    let upstream = StandIn::at(anywhere, Some(config), |query, _| {
        addresses(query, 0, &public(1))
    });
    let roots = folder.path().join("roots.pem");
    let case = over_tls(&upstream, "dns.example", &roots);
    for _ in 0..2 {
        assert_eq!(
            told(&case.ask("api.example.", RecordType::A).await),
            ["8.8.8.1"]
        );
    }
    assert!(!upstream.asked().is_empty());
    let before = upstream.asked().len();
    let strange = other.path().join("roots.pem");
    for (name, roots, why) in [
        ("other.example", &roots, "not valid for name"),
        ("dns.example", &strange, "invalid peer certificate"),
    ] {
        let case = over_tls(&upstream, name, roots);
        assert_eq!(case.code("api.example.").await, ResponseCode::ServFail);
        let upstream = upstream_over_tls(&upstream, name, roots);
        let heard = inquire(&upstream).await.expect("a transport").remove(0);
        let error = heard.answer.expect_err("believed").to_string();
        assert!(error.contains(why), "{error}");
    }
    assert_eq!(
        upstream.asked().len(),
        before,
        "nothing was asked of a stranger"
    );
}
