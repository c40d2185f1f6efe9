//! The way to the resolver under the hooks alone: what a socket that was sent there can still be made
//! to do, and for whom the resolver takes it. The control of each attempt aims at the resolver's own
//! endpoint, or past it, without a fence.

use std::{
    net::{SocketAddr, TcpListener, UdpSocket},
    sync::{Arc, Mutex},
    time::Duration,
};

use agent::kernel::clients::Pace;
use common::{flow::UDP, id::SessionId, verdict::Reason};
use lab::{
    patience::scaled,
    prober::{Answer, Prober},
};

use super::fence::{HookFence, lock};
use crate::rows;

mod counts;
mod headers;
mod shared;
mod sources;
mod ways;

const PORT: u16 = 1023;
const OWN: SessionId = SessionId(1);
/// Between two looks at what has come over streams, and how many find nothing where nothing comes.
const MOMENT: Duration = Duration::from_millis(60);
const LOOKS: u32 = 8;
/// Within this much a datagram is back that the test itself has sent.
const BACK: Duration = Duration::from_secs(5);
const FREE: u32 = 1_000_000;
/// In the resolver's place: sends back what comes, and remembers it.
struct StandIn {
    fence: HookFence,
    datagrams: Arc<Mutex<Vec<(SocketAddr, usize)>>>,
    streams: Arc<Mutex<Vec<(SocketAddr, usize)>>>,
    /// The test's own, one to each of its sockets.
    marks: Vec<UdpSocket>,
}

impl StandIn {
    fn new() -> Self {
        let fence = HookFence::new(rows::POLICY);
        let (datagrams, streams) = (Arc::default(), Arc::default());
        let mut marks = Vec::new();
        for host in ["127.0.0.1", "[::1]"] {
            let address = format!("{host}:{PORT}");
            let sockets = fence.lab.host().enter(|| {
                let socket = UdpSocket::bind(&address).expect("a socket");
                let listener = TcpListener::bind(&address).expect("a listener");
                let mark = UdpSocket::bind(format!("{host}:0")).expect("a socket");
                mark.connect(&address).expect("connected");
                (socket, listener, mark)
            });
            let (socket, listener, mark) = sockets.expect("the namespace");
            mark.set_read_timeout(Some(scaled(BACK))).expect("a limit");
            marks.push(mark);
            echo(socket, Arc::clone(&datagrams));
            accept(listener, &streams);
        }
        let stand_in = Self {
            fence,
            datagrams,
            streams,
            marks,
        };
        stand_in.pace(FREE, FREE);
        stand_in
    }

    fn pace(&self, per_second: u32, burst: u32) {
        let set = self
            .fence
            .kernel
            .set_resolver(PORT, Pace::new(per_second, burst));
        set.expect("the resolver is set");
    }

    /// The datagrams that have come since it was asked last.
    fn came(&self) -> Vec<(SocketAddr, usize)> {
        // One of the test's own comes after all of them, and is back once it is seen.
        let mut own = Vec::new();
        for mark in &self.marks {
            mark.send(b"mark").expect("sent");
            mark.recv(&mut [0; 8]).expect("it comes back");
            own.push(mark.local_addr().expect("its address"));
        }
        let mut came = std::mem::take(&mut *lock(&self.datagrams));
        came.retain(|(from, _)| !own.contains(from));
        came
    }

    /// Bytes of streams that have come since it was asked last.
    fn read(&self) -> usize {
        for _ in 0..LOOKS {
            std::thread::sleep(scaled(MOMENT));
            if !lock(&self.streams).is_empty() {
                std::thread::sleep(scaled(MOMENT));
                break;
            }
        }
        std::mem::take(&mut *lock(&self.streams))
            .iter()
            .map(|(_, bytes)| bytes)
            .sum()
    }

    /// Who the kernel says has sent from there.
    fn asker(&self, from: SocketAddr) -> Option<SessionId> {
        let found = self.fence.kernel.clients().find(from, UDP);
        found.expect("the table is read")
    }

    fn counted(&self, reason: Reason) -> u64 {
        let counters = self.fence.kernel.counters().expect("the counters");
        let all = counters
            .iter()
            .filter(|(key, _)| key.reason == reason as u8);
        all.map(|(_, count)| count).sum()
    }
}

fn echo(socket: UdpSocket, seen: Arc<Mutex<Vec<(SocketAddr, usize)>>>) {
    std::thread::spawn(move || {
        let mut buffer = vec![0; 65_536];
        while let Ok((bytes, from)) = socket.recv_from(&mut buffer) {
            lock(&seen).push((from, bytes));
            // Who is gone gets no reply.
            drop(socket.send_to(&buffer[..bytes], from));
        }
    });
}

fn accept(listener: TcpListener, seen: &Arc<Mutex<Vec<(SocketAddr, usize)>>>) {
    let seen = Arc::clone(seen);
    std::thread::spawn(move || {
        use std::io::{Read as _, Write as _};
        for mut stream in listener.incoming().flatten() {
            let seen = Arc::clone(&seen);
            std::thread::spawn(move || {
                // One that was destroyed before it was taken has said nothing.
                let Ok(from) = stream.peer_addr() else {
                    return;
                };
                let mut buffer = [0; 4096];
                while let Ok(bytes @ 1..) = stream.read(&mut buffer) {
                    lock(&seen).push((from, bytes));
                    if stream.write_all(&buffer[..bytes]).is_err() {
                        break;
                    }
                }
            });
        }
    });
}

fn ask(prober: &mut Prober, script: &str) -> Answer {
    prober.ask(script).expect("the prober answers")
}

fn port(prober: &mut Prober, script: &str) -> u16 {
    let answer = ask(prober, script);
    let port = answer.values.first().and_then(|port| port.parse().ok());
    port.unwrap_or_else(|| panic!("no port: {answer:?}"))
}
