//! What the packets of a TLS connection cost whose name is checked: the first one, which is read, and
//! a later one. Over real connections across the veth pair; the kernel itself times each run of the
//! program, ours and by turns one that decides nothing.

use std::{
    io::{Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
    path::Path,
    sync::Arc,
    time::Duration,
};

use agent::{
    clock::BootTime,
    config::Instance,
    kernel::cgroup::{Parent, SessionCgroup},
    sys::bpf,
};
use anyhow::{Context as _, Result, ensure};
use common::flow::Address;
use lab::Lab;
use rustls::{ClientConfig, ClientConnection, RootCertStore, crypto::aws_lc_rs};

use crate::{
    fenced::{Fenced, NAME, SESSION, Stay, policy},
    row::Row,
};

const CONNECTIONS: usize = 1_000;
const TARGET: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::new(93, 184, 216, 34)), 443);
/// Longer than the bench.
const GRANT_LIFE: Duration = Duration::from_mins(10);
/// `BPF_CGROUP_INET_EGRESS`
const EGRESS: u32 = 1;
/// An application data record of TLS (RFC 8446, 5.1).
const LATER: [u8; 10] = [23, 3, 3, 0, 5, 1, 2, 3, 4, 5];

/// The rows of this bench.
pub(crate) fn run() -> Result<Vec<Row>> {
    let lab = Lab::unrecorded(&[])?;
    swallow(lab.world().enter(|| TcpListener::bind(TARGET))??);
    let _counting = bpf::count_runs().context("the kernel counts no runs")?;
    lab.host().enter(|| {
        let (mut first, mut later) = (Samples::default(), Samples::default());
        let fenced = Fenced::new()?;
        grant(&fenced)?;
        let empty = Empty::new()?;
        // By turns, so that neither always meets the warmer caches.
        for _ in 0..10 {
            fenced.connect(CONNECTIONS / 10, &mut first.ours, &mut later.ours)?;
            empty.connect(CONNECTIONS / 10, &mut first.nothing, &mut later.nothing)?;
        }
        fenced.end()?;
        empty.end()?;
        let rows = [("tls_first_packet", first), ("tls_later_packet", later)];
        let rows = rows.map(|(metric, samples)| samples.rows(metric));
        anyhow::Ok(rows.into_iter().flatten().collect())
    })?
}

/// Reads whatever comes, on threads that end with the bench.
fn swallow(listener: TcpListener) {
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            std::thread::spawn(move || while stream.read(&mut [0; 4096]).is_ok_and(|n| n > 0) {});
        }
    });
}

/// Nanoseconds of single runs.
#[derive(Default)]
struct Samples {
    ours: Vec<f64>,
    nothing: Vec<f64>,
}

impl Samples {
    fn rows(mut self, metric: &str) -> [Row; 2] {
        [
            Row::new("packet", "empty", metric, "ns", &mut self.nothing),
            Row::new("packet", "stockade", metric, "ns", &mut self.ours),
        ]
    }
}

/// The session is told the address of the name.
fn grant(fenced: &Fenced) -> Result<()> {
    let ranges = policy()?
        .egress
        .rules
        .iter()
        .flat_map(agent::policy::compiled::Rule::grant_ranges)
        .collect::<Vec<_>>();
    let address = Address::from(TARGET.ip());
    let end = BootTime::now() + GRANT_LIFE;
    fenced
        .kernel
        .grants()
        .give(SESSION, address, &ranges, end)?;
    Ok(())
}

impl Fenced {
    fn connect(&self, times: usize, first: &mut Vec<f64>, later: &mut Vec<f64>) -> Result<()> {
        connect(
            self.cgroup.path(),
            || self.runs("egress"),
            times,
            first,
            later,
        )
    }
}

/// A cgroup with a program that decides nothing.
struct Empty {
    parent: Parent,
    cgroup: SessionCgroup,
    program: OwnedFd,
    link: OwnedFd,
}

impl Empty {
    fn new() -> Result<Self> {
        let instance = Instance::new(&lab::agent::instance_name()).context("a name")?;
        let parent = Parent::create(&instance)?;
        let program = bpf::load_passing()?;
        let link = bpf::link_create(program.as_fd(), parent.fd(), EGRESS)?;
        let cgroup = parent.session(SESSION, &policy()?.limits)?;
        Ok(Self {
            parent,
            cgroup,
            program,
            link,
        })
    }

    fn connect(&self, times: usize, first: &mut Vec<f64>, later: &mut Vec<f64>) -> Result<()> {
        let program: BorrowedFd<'_> = self.program.as_fd();
        let runs = || Ok(bpf::program_info(program)?);
        connect(self.cgroup.path(), runs, times, first, later)
    }

    fn end(self) -> Result<()> {
        drop(self.link);
        self.cgroup.remove()?;
        Ok(self.parent.remove()?)
    }
}

/// Connects from a cgroup, says hello, says something later; the runs of the program that those two
/// packets were.
fn connect(
    cgroup: &Path,
    runs: impl Fn() -> Result<bpf::ProgramInfo>,
    times: usize,
    first: &mut Vec<f64>,
    later: &mut Vec<f64>,
) -> Result<()> {
    let hello = hello()?;
    let _stay = Stay::begin(cgroup)?;
    for _ in 0..times {
        let mut stream = TcpStream::connect(TARGET)?;
        stream.set_nodelay(true)?;
        for (bytes, samples) in [(hello.as_slice(), &mut *first), (&LATER, &mut *later)] {
            let before = runs()?;
            stream.write_all(bytes)?;
            let after = runs()?;
            // An acknowledgement in between would be counted in.
            if after.runs - before.runs == 1 {
                let took = u32::try_from(after.run_ns - before.run_ns)?;
                samples.push(f64::from(took));
            }
        }
    }
    let enough = first.len().min(later.len()) * 2 > times;
    ensure!(
        enough,
        "packets of their own accord disturb the measurement"
    );
    Ok(())
}

/// What rustls says first.
fn hello() -> Result<Vec<u8>> {
    let config = ClientConfig::builder_with_provider(aws_lc_rs::default_provider().into())
        .with_safe_default_protocol_versions()?
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    let mut connection = ClientConnection::new(Arc::new(config), NAME.try_into()?)?;
    let mut bytes = Vec::new();
    connection.write_tls(&mut bytes)?;
    Ok(bytes)
}
