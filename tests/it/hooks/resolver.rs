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
/// Long after what was sent over loopback has come.
const MOMENT: Duration = Duration::from_millis(60);
const FREE: u32 = 1_000_000;
/// In the resolver's place: sends back what comes, and remembers it.
struct StandIn {
    fence: HookFence,
    datagrams: Arc<Mutex<Vec<(SocketAddr, usize)>>>,
    streams: Arc<Mutex<Vec<(SocketAddr, usize)>>>,
}

impl StandIn {
    fn new() -> Self {
        let fence = HookFence::new(rows::POLICY);
        let (datagrams, streams) = (Arc::default(), Arc::default());
        for host in ["127.0.0.1", "[::1]"] {
            let address = format!("{host}:{PORT}");
            let sockets = fence.lab.host().enter(|| {
                let socket = UdpSocket::bind(&address).expect("a socket");
                (socket, TcpListener::bind(&address).expect("a listener"))
            });
            let (socket, listener) = sockets.expect("the namespace");
            echo(socket, Arc::clone(&datagrams));
            accept(listener, &streams);
        }
        let stand_in = Self {
            fence,
            datagrams,
            streams,
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
        std::thread::sleep(scaled(MOMENT));
        std::mem::take(&mut *lock(&self.datagrams))
    }

    /// Bytes of streams that have come since it was asked last.
    fn read(&self) -> usize {
        std::thread::sleep(scaled(MOMENT));
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
