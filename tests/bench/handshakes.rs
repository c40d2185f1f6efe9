//! What the packets of a TLS connection cost whose name is checked: the first one, which is read, and
//! a later one. Over real connections across the veth pair; the kernel itself times each run of the
//! program, ours and by turns one that decides nothing.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use agent::{
    clock::BootTime,
    config::Instance,
    kernel::{
        Attached, Kernel, PolicyInForce,
        cgroup::{Parent, SessionCgroup},
        remove_pins,
    },
    policy::compiled::CompiledPolicy,
    sys::bpf,
};
use anyhow::{Context as _, Result, anyhow, ensure};
use common::{
    flow::Address,
    id::{PolicyId, SessionId},
};
use lab::{Lab, binary::Scratch};
use rustls::{ClientConfig, ClientConnection, RootCertStore, crypto::aws_lc_rs};

use crate::row::Row;

const CONNECTIONS: usize = 1_000;
const NAME: &str = "site.example";
const TARGET: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::new(93, 184, 216, 34)), 443);
const POLICY: PolicyId = PolicyId(1);
const SESSION: SessionId = SessionId(1);
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

/// An instance with one policy and one session, which has been told the address of a name.
struct Fenced {
    instance: Instance,
    parent: Parent,
    cgroup: SessionCgroup,
    kernel: Kernel,
    attached: Attached,
}

impl Fenced {
    fn new() -> Result<Self> {
        let instance = Instance::new(&lab::agent::instance_name()).context("a name")?;
        let parent = Parent::create(&instance)?;
        let kernel = Kernel::open(&instance, &parent)?;
        let policy = Arc::new(policy()?);
        let synced = kernel.sync(&[PolicyInForce {
            id: POLICY,
            policy: Arc::clone(&policy),
        }])?;
        let attached = kernel.attach(&parent, &synced)?;
        let cgroup = parent.session(SESSION, &policy.limits)?;
        let _admitted = attached.admit(SESSION, cgroup.id(), POLICY)?;
        let ranges = policy
            .egress
            .rules
            .iter()
            .flat_map(agent::policy::compiled::Rule::grant_ranges);
        let ranges: Vec<_> = ranges.collect();
        let address = Address::from(TARGET.ip());
        let end = BootTime::now() + GRANT_LIFE;
        kernel.grants().give(SESSION, address, &ranges, end)?;
        Ok(Self {
            instance,
            parent,
            cgroup,
            kernel,
            attached,
        })
    }

    fn connect(&self, times: usize, first: &mut Vec<f64>, later: &mut Vec<f64>) -> Result<()> {
        let runs = || {
            let programs = self.kernel.programs()?;
            let mut egress = programs.into_iter().filter(|(hook, _)| *hook == "egress");
            let (_, info) = egress.next().context("no egress program")?;
            Ok(info)
        };
        connect(self.cgroup.path(), runs, times, first, later)
    }

    fn end(self) -> Result<()> {
        drop(self.attached);
        self.cgroup.remove()?;
        remove_pins(&self.instance)?;
        Ok(self.parent.remove()?)
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

fn policy() -> Result<CompiledPolicy> {
    let scratch = Scratch::new()?;
    let text = format!(
        "version = 1\ntool = \"bench\"\ndescription = \"What is measured\"\n\
         [worker]\ncommand = [\"{0}/prober\"]\nprotocol = \"exec\"\n\
         [filesystem]\nread = [\"/usr\"]\nexecute = [\"{0}\"]\n\
         [[egress.allow]]\ndomain = \"{NAME}\"\nports = [443]\n",
        scratch.path().display()
    );
    agent::policy::compile("bench.toml", &text).map_err(|error| anyhow!("{error}"))
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

/// This process in another cgroup, which its sockets then belong to, until it is dropped.
struct Stay {
    home: PathBuf,
}

impl Stay {
    fn begin(cgroup: &Path) -> Result<Self> {
        let own = fs::read_to_string("/proc/self/cgroup")?;
        let own = own.lines().find_map(|line| line.strip_prefix("0::/"));
        let home = lab::cgroup::mount()?.join(own.context("no cgroup v2")?);
        enter(cgroup)?;
        Ok(Self { home })
    }
}

impl Drop for Stay {
    fn drop(&mut self) {
        // Where it fails, the cgroup can not be removed, which is reported.
        enter(&self.home).ok();
    }
}

fn enter(cgroup: &Path) -> Result<()> {
    let path = cgroup.join("cgroup.procs");
    fs::write(&path, "0").with_context(|| path.display().to_string())
}
