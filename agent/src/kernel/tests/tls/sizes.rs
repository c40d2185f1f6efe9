//! Hellos of more than one segment, and those that a program writes in pieces.

use common::{
    decide::Mode,
    verdict::{Outcome, Reason},
};

use super::{
    hello::{digits, hello, post_quantum},
    scene::{Scene, WAYS},
};

/// Largest segments: that of Ethernet, and smaller ones.
const SEGMENTS: [usize; 4] = [1_460, 1_220, 800, 536];
/// The option for timestamps takes as many of each segment (RFC 7323, 3.2).
const TIMESTAMPS: usize = 12;
/// A hello by hand without its name and its key share.
const REST: usize = 72;

/// Hellos for a name: with keys of today as rustls sends them, and as long as two segments.
fn long(name: &str, mss: usize) -> Vec<Vec<u8>> {
    let two = 2 * (mss - TIMESTAMPS);
    let longest = hello(name.as_bytes(), two - REST - name.len(), None);
    assert_eq!(longest.len(), two);
    let mut all = vec![longest];
    let post_quantum = post_quantum(name);
    if post_quantum.len() <= two {
        all.push(post_quantum);
    }
    all
}

#[test]
fn a_hello_of_two_segments_passes_and_is_judged() {
    let mut scene = Scene::new(Mode::Enforce);
    let mut expected: Vec<u8> = Vec::new();
    for way in WAYS {
        for mss in SEGMENTS {
            let dial = format!("tcp-keep-mss {mss} {way}");
            for bytes in long("api.example", mss) {
                let (_, mut worker) = scene.fence.worker();
                assert_eq!(worker.ask(&dial), "ok");
                let line = format!("stream-write {}", digits(&bytes));
                assert_eq!(worker.ask(&line), "ok");
                expected.extend(&bytes);
                let got = scene.sink.wait(expected.len());
                assert!(got == expected, "{dial}: {} bytes", bytes.len());
            }
            for bytes in long("evil.example", mss) {
                let (_, mut worker) = scene.fence.worker();
                assert_eq!(worker.ask(&dial), "ok");
                worker.say(&format!("stream-write {}", digits(&bytes)));
                let told = scene.event(Outcome::Deny);
                assert_eq!(Reason::from_number(told.reason), Some(Reason::TlsName));
                assert_eq!(told.name.as_deref(), Some("evil.example"));
                scene.destroy();
                worker.answer();
                assert!(scene.sink.got() == expected, "{dial}: it arrived");
            }
        }
    }
}

#[test]
fn a_hello_in_pieces_passes_once_it_is_whole() {
    let mut scene = Scene::new(Mode::Enforce);
    let bytes = post_quantum("api.example");
    let last = bytes.len() - 1;
    let mut expected: Vec<u8> = Vec::new();
    for (n, at) in [1, 5, 9, 43, 100, 700, 1_300, last].into_iter().enumerate() {
        let way = WAYS[n % WAYS.len()];
        let mut worker = scene.worker(way);
        let (first, second) = bytes.split_at(at);
        let line = format!("stream-write {} {}", digits(first), digits(second));
        assert_eq!(worker.ask(&line), "ok");
        expected.extend(&bytes);
        assert!(scene.sink.wait(expected.len()) == expected, "{way}: {at}");
    }
    // As many pieces as are waited for.
    let mut worker = scene.worker(WAYS[1]);
    let pieces: Vec<_> = bytes.chunks(bytes.len() / 4).map(digits).collect();
    assert_eq!(
        worker.ask(&format!("stream-write {}", pieces.join(" "))),
        "ok"
    );
    expected.extend(&bytes);
    assert!(
        scene.sink.wait(expected.len()) == expected,
        "in five pieces"
    );
}

#[test]
fn a_refused_hello_in_pieces_never_arrives() {
    let mut scene = Scene::new(Mode::Enforce);
    let bytes = post_quantum("evil.example");
    for (n, at) in [1, 5, 43, 100, 700, 1_300].into_iter().enumerate() {
        let way = WAYS[n % WAYS.len()];
        let mut worker = scene.worker(way);
        let (first, second) = bytes.split_at(at);
        worker.say(&format!(
            "stream-write {} {}",
            digits(first),
            digits(second)
        ));
        let told = scene.event(Outcome::Deny);
        let reason = Reason::from_number(told.reason);
        assert_eq!(reason, Some(Reason::TlsName), "{way}: {at}");
        scene.destroy();
        worker.answer();
        assert_eq!(scene.sink.got(), b"", "{way}: {at}");
    }
}
