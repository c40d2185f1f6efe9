//! Connections that owe a name: what passes, what never arrives, and how they end.

mod fast_open;
mod hello;
mod paced;
mod scene;
mod sizes;

use std::time::{Duration, Instant};

use common::{
    decide::Mode,
    verdict::{Outcome, Reason},
};

use self::{
    hello::{digits, hello, twelve},
    scene::{Scene, WAYS},
};

#[test]
fn an_allowed_name_passes_and_the_rest_after_it() {
    let mut scene = Scene::new(Mode::Enforce);
    let mut expected: Vec<u8> = Vec::new();
    for way in WAYS {
        for bytes in [
            hello(b"api.example", 32, None),
            hello(b"API.Example", 1_216, None),
            hello(b"a.b.cdn.example", 1_700, None),
            hello(b"ech.example", 32, Some(0xfe0d)),
            hello(b"api.example", 2_000, Some(0x0a0a)),
            twelve("api.example"),
        ] {
            let mut worker = scene.worker(way);
            assert_eq!(
                worker.ask(&format!("stream-write {}", digits(&bytes))),
                "ok"
            );
            expected.extend(&bytes);
            assert_eq!(scene.sink.wait(expected.len()), expected, "{way}");
            assert_eq!(worker.ask("stream-write 474554"), "ok");
            expected.extend(b"GET");
            assert_eq!(scene.sink.wait(expected.len()), expected, "{way}");
        }
    }
}

/// What may not pass, why, and the name that the event shows.
fn refused() -> Vec<(Vec<u8>, Reason, Option<&'static str>)> {
    let ech = Some(0xfe0d);
    vec![
        (
            hello(b"evil.example", 32, None),
            Reason::TlsName,
            Some("evil.example"),
        ),
        (
            hello(b"cdn.example", 32, None),
            Reason::TlsName,
            Some("cdn.example"),
        ),
        (
            hello(b"x.api.example", 32, None),
            Reason::TlsName,
            Some("x.api.example"),
        ),
        (
            twelve("evil.example"),
            Reason::TlsName,
            Some("evil.example"),
        ),
        (hello(b"", 32, None), Reason::TlsNoName, None),
        (bare(), Reason::TlsNoName, None),
        (
            hello(b"api.example", 32, ech),
            Reason::TlsHidden,
            Some("api.example"),
        ),
        (
            hello(b"api.example", 32, Some(0)),
            Reason::TlsMalformed,
            None,
        ),
        (
            hello(b"api.example.", 32, None),
            Reason::TlsMalformed,
            Some("api.example."),
        ),
        (
            hello(b"api.example\0x", 32, None),
            Reason::TlsMalformed,
            Some("api.example\\x00x"),
        ),
        (
            b"GET / HTTP/1.1\r\n\r\n".to_vec(),
            Reason::TlsMalformed,
            None,
        ),
    ]
}

/// A hello of TLS 1.2 without any extension, which that version permits (RFC 5246, 7.4.1.2).
fn bare() -> Vec<u8> {
    let mut bytes = vec![22, 3, 1, 0, 45, 1, 0, 0, 41, 3, 3];
    bytes.extend([0xab; 32]);
    bytes.extend([0, 0, 2, 0xc0, 0x2f, 1, 0]);
    bytes
}

#[test]
fn what_is_refused_never_arrives_and_ends_soon() {
    let mut scene = Scene::new(Mode::Enforce);
    for way in WAYS {
        for (bytes, reason, name) in refused() {
            let mut worker = scene.worker(way);
            assert_eq!(
                worker.ask(&format!("stream-write {}", digits(&bytes))),
                "ok"
            );
            let told = scene.event(Outcome::Deny);
            assert_eq!(Reason::from_number(told.reason), Some(reason), "{way}");
            assert_eq!(told.name.as_deref(), name, "{way}");
            scene.destroy();
            assert_eq!(worker.ask("stream-end"), "ECONNABORTED", "{way}");
        }
    }
    assert_eq!(scene.sink.got(), b"", "nothing arrived");
}

#[test]
fn pieces_pass_once_they_are_whole() {
    let mut scene = Scene::new(Mode::Enforce);
    let bytes = hello(b"api.example", 32, None);
    let (first, second) = bytes.split_at(60);
    let mut expected: Vec<u8> = Vec::new();
    for way in WAYS {
        let mut worker = scene.worker(way);
        let begin = Instant::now();
        let pieces = format!("stream-write {} {}", digits(first), digits(second));
        assert_eq!(worker.ask(&pieces), "ok");
        expected.extend(&bytes);
        assert_eq!(scene.sink.wait(expected.len()), expected, "{way}");
        let took = begin.elapsed();
        assert!(took < Duration::from_secs(2), "{way}: {took:?}");
    }
}

#[test]
fn too_many_pieces_are_refused() {
    let mut scene = Scene::new(Mode::Enforce);
    let bytes = hello(b"api.example", 32, None);
    let pieces: Vec<String> = bytes.iter().take(40).map(|b| format!("{b:02x}")).collect();
    for way in WAYS {
        let mut worker = scene.worker(way);
        worker.say(&format!("stream-write {}", pieces.join(" ")));
        let told = scene.event(Outcome::Deny);
        assert_eq!(
            Reason::from_number(told.reason),
            Some(Reason::TlsIncomplete),
            "{way}"
        );
        scene.destroy();
        worker.answer();
    }
    assert_eq!(scene.sink.got(), b"");
}

#[test]
fn garbage_before_a_hello_opens_nothing() {
    let mut scene = Scene::new(Mode::Enforce);
    let good = digits(&hello(b"api.example", 32, None));
    for way in WAYS {
        for line in [
            format!("stream-write 47455420 {good} {good}"),
            format!("stream-urgent {good}"),
        ] {
            let mut worker = scene.worker(way);
            worker.say(&line);
            let told = scene.event(Outcome::Deny);
            assert_eq!(Reason::from_number(told.reason), Some(Reason::TlsMalformed));
            scene.destroy();
            worker.answer();
        }
    }
    assert_eq!(scene.sink.got(), b"");
}

#[test]
fn observe_reports_and_passes() {
    let mut scene = Scene::new(Mode::Observe);
    let bytes = hello(b"evil.example", 32, None);
    let mut expected: Vec<u8> = Vec::new();
    for way in WAYS {
        let mut worker = scene.worker(way);
        assert_eq!(
            worker.ask(&format!("stream-write {}", digits(&bytes))),
            "ok"
        );
        expected.extend(&bytes);
        assert_eq!(scene.sink.wait(expected.len()), expected, "{way}");
        let told = scene.event(Outcome::Observe);
        assert_eq!(Reason::from_number(told.reason), Some(Reason::TlsName));
        assert_eq!(told.name.as_deref(), Some("evil.example"));
    }
}
