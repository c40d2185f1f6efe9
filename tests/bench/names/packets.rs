//! What the programs take for a question on its way to the resolver and for its answer: over real
//! sockets; the kernel itself times each run.

use std::{
    net::{SocketAddr, UdpSocket},
    num::NonZeroU32,
    time::Duration,
};

use agent::{kernel::clients::Pace, sys::bpf};
use anyhow::{Context as _, Result, ensure};
use lab::Lab;

use crate::{
    fenced::{Fenced, Stay},
    row::Row,
};

const ROUNDS: usize = 31;
/// Questions of a round, one after the other.
const QUESTIONS: u32 = 2_000;
const QUESTION_BYTES: usize = 40;
const ANSWER_BYTES: usize = 512;
/// Below those that a worker may take.
const PORT: u16 = 1023;
/// No limit is what is measured.
const PACE: Pace = Pace {
    per_second: NonZeroU32::MAX,
    burst: NonZeroU32::MAX,
};
const PATIENCE: Duration = Duration::from_secs(2);

/// A kind of socket that asks.
struct Kind {
    name: &'static str,
    own: &'static str,
    server: &'static str,
    is_connected: bool,
    /// Which programs see each question or its answer.
    hooks: &'static [&'static str],
}

const KINDS: &[Kind] = &[
    Kind {
        name: "connected",
        own: "0.0.0.0:0",
        server: "8.8.8.8:53",
        is_connected: true,
        hooks: &["egress", "ingress"],
    },
    Kind {
        name: "unconnected",
        own: "0.0.0.0:0",
        server: "8.8.8.8:53",
        is_connected: false,
        hooks: &["sendmsg4", "egress", "ingress", "recvmsg4"],
    },
    Kind {
        name: "unconnected_v6",
        own: "[::]:0",
        server: "[2001:4860:4860::8888]:53",
        is_connected: false,
        hooks: &["sendmsg6", "egress", "ingress", "recvmsg6"],
    },
];

/// The rows of this part.
pub(crate) fn run() -> Result<Vec<Row>> {
    let lab = Lab::unrecorded(&[])?;
    let _counting = bpf::count_runs().context("the kernel counts no runs")?;
    lab.host().enter(|| {
        for endpoint in ["127.0.0.1", "::1"] {
            echo(UdpSocket::bind((endpoint, PORT))?);
        }
        let fenced = Fenced::new()?;
        fenced.kernel.set_resolver(PORT, PACE)?;
        let rows = KINDS.iter().map(|kind| kind.rows(&fenced));
        let rows = rows.collect::<Result<Vec<_>>>();
        fenced.end()?;
        Ok(rows?.into_iter().flatten().collect())
    })?
}

/// Sends back whatever comes, on a thread that ends with the bench.
fn echo(socket: UdpSocket) {
    std::thread::spawn(move || {
        let mut buffer = [0; ANSWER_BYTES];
        while let Ok((length, from)) = socket.recv_from(&mut buffer) {
            // Best effort, as datagrams are.
            drop(socket.send_to(buffer.get(..length).unwrap_or_default(), from));
        }
    });
}

impl Kind {
    fn rows(&self, fenced: &Fenced) -> Result<Vec<Row>> {
        let socket = {
            let _stay = Stay::begin(fenced.cgroup.path())?;
            UdpSocket::bind(self.own)?
        };
        socket.set_read_timeout(Some(PATIENCE))?;
        if self.is_connected {
            socket.connect(self.server)?;
        }
        self.ask(&socket)?;
        let mut samples = vec![Vec::with_capacity(ROUNDS); self.hooks.len()];
        for _ in 0..ROUNDS {
            let before = self.runs(fenced)?;
            self.ask(&socket)?;
            let after = self.runs(fenced)?;
            for ((before, after), samples) in before.iter().zip(after).zip(&mut samples) {
                let runs = after.runs - before.runs;
                ensure!(runs == u64::from(QUESTIONS), "{}: {runs} runs", self.name);
                let took = u32::try_from(after.run_ns - before.run_ns)?;
                samples.push(f64::from(took) / f64::from(QUESTIONS));
            }
        }
        let rows = self.hooks.iter().zip(&mut samples);
        Ok(rows
            .map(|(hook, samples)| {
                let metric = format!("resolver_{}", self.name);
                let row = Row::new("names", hook, metric, "ns", samples);
                Row {
                    n: ROUNDS as u64 * u64::from(QUESTIONS),
                    ..row
                }
            })
            .collect())
    }

    fn runs(&self, fenced: &Fenced) -> Result<Vec<bpf::ProgramInfo>> {
        self.hooks.iter().map(|hook| fenced.runs(hook)).collect()
    }

    /// A round.
    fn ask(&self, socket: &UdpSocket) -> Result<()> {
        let question = [b'q'; QUESTION_BYTES];
        let mut buffer = [0; ANSWER_BYTES];
        let server: SocketAddr = self.server.parse()?;
        for _ in 0..QUESTIONS {
            if self.is_connected {
                socket.send(&question)?;
                socket.recv(&mut buffer)?;
            } else {
                socket.send_to(&question, server)?;
                let (_, from) = socket.recv_from(&mut buffer)?;
                ensure!(from == server, "answered by {from}");
            }
        }
        Ok(())
    }
}
