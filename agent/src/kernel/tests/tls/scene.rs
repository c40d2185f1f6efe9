//! Servers that see every byte, and a fence whose address owes a name.

use std::{
    fs,
    io::Read,
    net::{TcpListener, TcpStream},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use common::{
    decide::Mode,
    flow::TCP,
    id::RuleId,
    name::NameKey,
    rule::{ECH, PortRange, RuleSet, TLS},
    verdict::Outcome,
};

use crate::{
    kernel::{
        ring::Told,
        tests::{
            lab::{Fence, Lab, POLICY, runtime},
            policies::{NO_LIMITS, open, policy},
            worker::Worker,
        },
    },
    sys::bpf_map::Write,
};

const WAIT: Duration = Duration::from_secs(3);
/// The rule that admits the address, and those of the names.
const ADDRESS: u64 = 7;
const NAME: u64 = 8;
const HIDDEN: u64 = 9;

/// Servers that keep what they get.
pub(super) struct Sink(Arc<Mutex<Vec<u8>>>);

impl Sink {
    fn new(lab: &Lab, addresses: &[&str]) -> Self {
        let sink = Self(Arc::default());
        for address in addresses {
            let listener = lab.in_world(|| TcpListener::bind(address).unwrap());
            let got = Arc::clone(&sink.0);
            std::thread::spawn(move || {
                for stream in listener.incoming().flatten() {
                    let got = Arc::clone(&got);
                    std::thread::spawn(move || keep(stream, &got));
                }
            });
        }
        sink
    }

    pub(super) fn got(&self) -> Vec<u8> {
        self.0.lock().unwrap().clone()
    }

    /// Waits for this many bytes.
    pub(super) fn wait(&self, bytes: usize) -> Vec<u8> {
        let begin = Instant::now();
        while self.got().len() < bytes && begin.elapsed() < WAIT {
            std::thread::sleep(Duration::from_millis(5));
        }
        self.got()
    }
}

fn keep(mut stream: TcpStream, got: &Mutex<Vec<u8>>) {
    let mut buffer = [0; 4096];
    while let Ok(bytes @ 1..) = stream.read(&mut buffer) {
        got.lock().unwrap().extend(&buffer[..bytes]);
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

const V4: &str = "93.184.216.34:443";
const V6: &str = "[2606:2800:220:1::34]:443";
/// What a program dials: each of the servers, and the first by a socket of the other family.
pub(super) const WAYS: [&str; 3] = [V4, V6, "[::ffff:93.184.216.34]:443"];

/// TCP Fast Open for clients and on every listener, which demands a cookie (Linux,
/// networking/ip-sysctl, `tcp_fastopen`).
const FAST_OPEN: &str = "1027";

pub(super) struct Scene {
    pub(super) lab: Lab,
    pub(super) sink: Sink,
    pub(super) fence: Fence,
    runtime: tokio::runtime::Runtime,
}

impl Scene {
    pub(super) fn new(mode: Mode) -> Self {
        let lab = Lab::new();
        let fast_open = || fs::write("/proc/sys/net/ipv4/tcp_fastopen", FAST_OPEN).unwrap();
        fast_open();
        lab.in_world(fast_open);
        Self {
            sink: Sink::new(&lab, &[V4, V6]),
            lab,
            fence: fence(mode),
            runtime: runtime(),
        }
    }

    /// A worker that is connected this way.
    pub(super) fn worker(&mut self, way: &str) -> Worker {
        let (_, mut worker) = self.fence.worker();
        assert_eq!(worker.ask(&format!("tcp-keep {way}")), "ok", "{way}");
        worker
    }

    /// The last event of this outcome.
    pub(super) fn event(&self, outcome: Outcome) -> Told {
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
    pub(super) fn destroy(&self) {
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
