//! TCP Fast Open (RFC 7413): the hello comes with the SYN, before any other packet of the connection.

use std::fs;

use common::{
    decide::Mode,
    verdict::{Outcome, Reason},
};

use super::{
    hello::{digits, hello, post_quantum},
    scene::{Scene, WAYS},
};
use crate::kernel::tests::worker::Kept;

/// By `sendto` with `MSG_FASTOPEN`, and by `TCP_FASTOPEN_CONNECT`.
const CALLS: [&str; 2] = ["fast-open", "fast-open-connect"];

impl Scene {
    /// Connections that were opened with bytes in their SYN, which the servers took.
    fn opened_fast(&self) -> u64 {
        let text = || fs::read_to_string("/proc/thread-self/net/netstat").unwrap();
        let text = self.lab.in_world(text);
        let mut lines = text.lines().filter(|line| line.starts_with("TcpExt:"));
        let (names, values) = (lines.next().unwrap(), lines.next().unwrap());
        let mut both = names.split(' ').zip(values.split(' '));
        let (_, count) = both
            .find(|(name, _)| *name == "TCPFastOpenPassive")
            .unwrap();
        count.parse().unwrap()
    }

    /// Without a fence: the first connection gets the cookie, the next one brings its bytes along.
    /// The cookie is the host's, so workers have it too. The bytes that arrive go into `expected`.
    fn bare(&self, call: &str, way: &str, bytes: &[u8], expected: &mut Vec<u8>) {
        let mut bare = Kept::default();
        for _ in 0..2 {
            let before = self.opened_fast();
            let line = format!("{call} {way} {}", digits(bytes));
            assert_eq!(bare.ask(&line), bytes.len().to_string(), "{way}");
            expected.extend(bytes);
            assert_eq!(self.sink.wait(expected.len()), *expected, "control: {way}");
            if self.opened_fast() > before {
                return;
            }
        }
        panic!("control: no bytes came with a SYN: {call} {way}");
    }
}

#[test]
fn an_allowed_name_passes_with_the_syn() {
    let mut scene = Scene::new(Mode::Enforce);
    let mut expected: Vec<u8> = Vec::new();
    for way in WAYS {
        for call in CALLS {
            scene.bare(call, way, b"control", &mut expected);
            let bytes = hello(b"api.example", 32, None);
            let before = scene.opened_fast();
            let (_, mut worker) = scene.fence.worker();
            let line = format!("{call} {way} {}", digits(&bytes));
            assert_eq!(worker.ask(&line), bytes.len().to_string(), "{call} {way}");
            expected.extend(&bytes);
            assert_eq!(scene.sink.wait(expected.len()), expected, "{call} {way}");
            assert_eq!(scene.opened_fast(), before + 1, "{call} {way}");
            assert_eq!(worker.ask("stream-write 474554"), "ok");
            expected.extend(b"GET");
            assert_eq!(scene.sink.wait(expected.len()), expected, "{call} {way}");
        }
    }
}

#[test]
fn what_is_refused_does_not_come_with_the_syn_either() {
    let mut scene = Scene::new(Mode::Enforce);
    let refused = [
        (hello(b"evil.example", 32, None), Reason::TlsName),
        (hello(b"", 32, None), Reason::TlsNoName),
        (b"GET / HTTP/1.1\r\n\r\n".to_vec(), Reason::TlsMalformed),
    ];
    let mut expected: Vec<u8> = Vec::new();
    for way in WAYS {
        for call in CALLS {
            for (bytes, reason) in &refused {
                scene.bare(call, way, bytes, &mut expected);
                let before = scene.opened_fast();
                let (_, mut worker) = scene.fence.worker();
                worker.say(&format!("{call} {way} {}", digits(bytes)));
                let told = scene.event(Outcome::Deny);
                assert_eq!(Reason::from_number(told.reason), Some(*reason), "{way}");
                scene.destroy();
                let ends = [worker.answer(), worker.ask("stream-end")];
                let ends = ends.iter().any(|end| end == "ECONNABORTED");
                assert!(ends, "{call} {way}");
                assert_eq!(scene.sink.got(), expected, "{call} {way}");
                assert_eq!(scene.opened_fast(), before, "{call} {way}");
            }
        }
    }
}

/// The SYN goes without the piece that it brought, which comes again with the rest.
#[test]
fn a_piece_with_the_syn_waits_for_the_rest() {
    let mut scene = Scene::new(Mode::Enforce);
    let mut expected: Vec<u8> = Vec::new();
    for (way, at) in WAYS.into_iter().zip([5, 60, 1_000]) {
        let bytes = post_quantum("api.example");
        let (first, second) = bytes.split_at(at);
        scene.bare(CALLS[0], way, first, &mut expected);
        let before = scene.opened_fast();
        let (_, mut worker) = scene.fence.worker();
        let line = format!("{} {way} {}", CALLS[0], digits(first));
        assert_eq!(worker.ask(&line), first.len().to_string(), "{way}");
        assert_eq!(
            worker.ask(&format!("stream-write {}", digits(second))),
            "ok"
        );
        expected.extend(&bytes);
        assert_eq!(scene.sink.wait(expected.len()), expected, "{way}");
        assert_eq!(scene.opened_fast(), before, "{way}");
    }
}
