//! Connections that owe a name: what passes, what never arrives, and how they end.

use std::{
    io::Read,
    net::TcpListener,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use common::{
    decide::Mode,
    flow::TCP,
    id::RuleId,
    name::NameKey,
    rule::{ECH, PortRange, RuleSet, TLS},
    verdict::{Outcome, Reason},
};

use super::{
    lab::{Fence, Lab, POLICY, runtime},
    policies::{NO_LIMITS, open, policy},
    worker::Worker,
};
use crate::{kernel::ring::Told, sys::bpf_map::Write};

const WAIT: Duration = Duration::from_secs(3);
/// The rule that admits the address, and those of the names.
const ADDRESS: u64 = 7;
const NAME: u64 = 8;
const HIDDEN: u64 = 9;

/// A hello for a name, with a key share of this size and this other extension.
fn hello(name: &[u8], share: usize, other: Option<u16>) -> Vec<u8> {
    let two = |n: usize| u16::try_from(n).unwrap().to_be_bytes();
    let mut block = Vec::new();
    let mut extension = |kind: u16, body: &[u8]| {
        block.extend(kind.to_be_bytes());
        block.extend(two(body.len()));
        block.extend(body);
    };
    let mut names = Vec::new();
    names.extend(two(name.len() + 3));
    names.push(0);
    names.extend(two(name.len()));
    names.extend(name);
    if !name.is_empty() {
        extension(0, &names);
    }
    extension(43, &[2, 3, 4]);
    extension(51, &vec![0x5a; share]);
    if let Some(kind) = other {
        extension(kind, &[0; 4]);
    }
    let mut message = vec![3, 3];
    message.extend([0xab; 32]);
    message.extend([0, 0, 2, 0x13, 0x01, 1, 0]);
    message.extend(two(block.len()));
    message.extend(block);
    let mut bytes = vec![22, 3, 1];
    bytes.extend(two(message.len() + 4));
    bytes.extend([1, 0]);
    bytes.extend(two(message.len()));
    bytes.extend(message);
    bytes
}

fn digits(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A server that keeps what it gets.
struct Sink(Arc<Mutex<Vec<u8>>>);

impl Sink {
    fn new(lab: &Lab, address: &str) -> Self {
        let listener = lab.in_world(|| TcpListener::bind(address).unwrap());
        let got = Arc::new(Mutex::new(Vec::new()));
        let sink = Self(Arc::clone(&got));
        std::thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let got = Arc::clone(&got);
                std::thread::spawn(move || {
                    let mut buffer = [0; 4096];
                    while let Ok(bytes @ 1..) = stream.read(&mut buffer) {
                        got.lock().unwrap().extend(&buffer[..bytes]);
                    }
                });
            }
        });
        sink
    }

    fn got(&self) -> Vec<u8> {
        self.0.lock().unwrap().clone()
    }

    /// Waits for this many bytes.
    fn wait(&self, bytes: usize) -> Vec<u8> {
        let begin = Instant::now();
        while self.got().len() < bytes && begin.elapsed() < WAIT {
            std::thread::sleep(Duration::from_millis(5));
        }
        self.got()
    }
}

fn fence(mode: Mode) -> Fence {
    let mut rules = (*policy(
        mode,
        NO_LIMITS,
        &[
            open("93.184.216.34/32", TCP, 443, ADDRESS),
            open("2606:2800:220:1::34/128", TCP, 443, ADDRESS),
            open("9.9.9.9/32", TCP, 1, NAME),
            open("9.9.9.8/32", TCP, 1, HIDDEN),
        ],
    ))
    .clone();
    for entry in &mut rules.egress.table {
        entry.set.ranges[0].flags |= TLS;
    }
    let fence = Fence::new(&Arc::new(rules));
    names(&fence);
    fence
}

/// Writes the names for the generation in force.
fn names(fence: &Fence) {
    let generation = fence.synced.generation(POLICY).unwrap();
    let maps = &fence.kernel.inner.maps;
    let set = |rule, flags| {
        let mut set = RuleSet::EMPTY;
        set.count = 1;
        set.ranges[0] = PortRange {
            rule: RuleId(rule),
            low: 443,
            high: 443,
            protocol: 6,
            flags: TLS | flags,
            pad: 0,
        };
        set
    };
    let write = |key: Option<NameKey>, set: &RuleSet| {
        maps.names.write(&key.unwrap(), set, Write::Any).unwrap();
    };
    write(
        NameKey::exact(POLICY, generation, "api.example"),
        &set(NAME, 0),
    );
    write(
        NameKey::below(POLICY, generation, "cdn.example"),
        &set(NAME, 0),
    );
    write(
        NameKey::exact(POLICY, generation, "ech.example"),
        &set(HIDDEN, ECH),
    );
}

const SERVER: &str = "93.184.216.34:443";

struct Scene {
    _lab: Lab,
    sink: Sink,
    fence: Fence,
    runtime: tokio::runtime::Runtime,
}

impl Scene {
    fn new(mode: Mode) -> Self {
        let lab = Lab::new();
        Self {
            sink: Sink::new(&lab, SERVER),
            _lab: lab,
            fence: fence(mode),
            runtime: runtime(),
        }
    }

    /// A connected worker.
    fn worker(&mut self) -> Worker {
        let (_, mut worker) = self.fence.worker();
        assert_eq!(worker.ask(&format!("tcp-keep {SERVER}")), "ok");
        worker
    }

    /// The last event of this outcome.
    fn event(&self, outcome: Outcome) -> Told {
        let _entered = self.runtime.enter();
        let mut events = self.fence.kernel.events().unwrap();
        let wanted = async {
            loop {
                let told = events.next().await.unwrap();
                if told.outcome == outcome as u8 {
                    return told;
                }
            }
        };
        self.runtime
            .block_on(async { tokio::time::timeout(WAIT, wanted).await })
            .unwrap()
    }

    /// Carries out the next order to destroy.
    fn destroy(&self) {
        let _entered = self.runtime.enter();
        let mut destroyer = self.fence.kernel.destroyer().unwrap();
        let order = self
            .runtime
            .block_on(async { tokio::time::timeout(WAIT, destroyer.next()).await })
            .unwrap()
            .unwrap();
        assert_eq!(destroyer.carry_out(&order).unwrap().sockets, 1);
    }
}

#[test]
fn an_allowed_name_passes_and_the_rest_after_it() {
    let mut scene = Scene::new(Mode::Enforce);
    let mut expected: Vec<u8> = Vec::new();
    for bytes in [
        hello(b"api.example", 32, None),
        hello(b"API.Example", 1_216, None),
        hello(b"a.b.cdn.example", 1_700, None),
        hello(b"ech.example", 32, Some(0xfe0d)),
        hello(b"api.example", 2_000, Some(0x0a0a)),
    ] {
        let mut worker = scene.worker();
        assert_eq!(
            worker.ask(&format!("stream-write {}", digits(&bytes))),
            "ok"
        );
        expected.extend(&bytes);
        assert_eq!(scene.sink.wait(expected.len()), expected);
        assert_eq!(worker.ask("stream-write 474554"), "ok");
        expected.extend(b"GET");
        assert_eq!(scene.sink.wait(expected.len()), expected);
    }
}

#[test]
fn what_is_refused_never_arrives_and_ends_soon() {
    let mut scene = Scene::new(Mode::Enforce);
    let ech = Some(0xfe0d);
    let cases: Vec<(Vec<u8>, Reason, Option<&str>)> = vec![
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
        (hello(b"", 32, None), Reason::TlsNoName, None),
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
    ];
    for (bytes, reason, name) in cases {
        let mut worker = scene.worker();
        assert_eq!(
            worker.ask(&format!("stream-write {}", digits(&bytes))),
            "ok"
        );
        let told = scene.event(Outcome::Deny);
        assert_eq!(Reason::from_number(told.reason), Some(reason));
        assert_eq!(told.name.as_deref(), name);
        scene.destroy();
        assert_eq!(worker.ask("stream-end"), "ECONNABORTED");
    }
    assert_eq!(scene.sink.got(), b"", "nothing arrived");
}

#[test]
fn pieces_pass_once_they_are_whole() {
    let mut scene = Scene::new(Mode::Enforce);
    let bytes = hello(b"api.example", 32, None);
    let (first, second) = bytes.split_at(60);
    let mut worker = scene.worker();
    let begin = Instant::now();
    let pieces = format!("stream-write {} {}", digits(first), digits(second));
    assert_eq!(worker.ask(&pieces), "ok");
    assert_eq!(scene.sink.wait(bytes.len()), bytes);
    assert!(
        begin.elapsed() < Duration::from_secs(2),
        "{:?}",
        begin.elapsed()
    );
}

#[test]
fn too_many_pieces_are_refused() {
    let mut scene = Scene::new(Mode::Enforce);
    let bytes = hello(b"api.example", 32, None);
    let mut worker = scene.worker();
    let pieces: Vec<String> = bytes.iter().take(40).map(|b| format!("{b:02x}")).collect();
    worker.say(&format!("stream-write {}", pieces.join(" ")));
    let told = scene.event(Outcome::Deny);
    assert_eq!(
        Reason::from_number(told.reason),
        Some(Reason::TlsIncomplete)
    );
    scene.destroy();
    worker.answer();
    assert_eq!(scene.sink.got(), b"");
}

#[test]
fn garbage_before_a_hello_opens_nothing() {
    let mut scene = Scene::new(Mode::Enforce);
    let good = digits(&hello(b"api.example", 32, None));
    let mut worker = scene.worker();
    worker.say(&format!("stream-write 47455420 {good} {good}"));
    let told = scene.event(Outcome::Deny);
    assert_eq!(Reason::from_number(told.reason), Some(Reason::TlsMalformed));
    scene.destroy();
    worker.answer();
    assert_eq!(scene.sink.got(), b"");

    let mut worker = scene.worker();
    worker.say(&format!("stream-urgent {good}"));
    let told = scene.event(Outcome::Deny);
    assert_eq!(Reason::from_number(told.reason), Some(Reason::TlsMalformed));
    scene.destroy();
    worker.answer();
    assert_eq!(scene.sink.got(), b"");
}

#[test]
fn observe_reports_and_passes() {
    let mut scene = Scene::new(Mode::Observe);
    let bytes = hello(b"evil.example", 32, None);
    let mut worker = scene.worker();
    assert_eq!(
        worker.ask(&format!("stream-write {}", digits(&bytes))),
        "ok"
    );
    assert_eq!(scene.sink.wait(bytes.len()), bytes);
    let told = scene.event(Outcome::Observe);
    assert_eq!(Reason::from_number(told.reason), Some(Reason::TlsName));
    assert_eq!(told.name.as_deref(), Some("evil.example"));
}
