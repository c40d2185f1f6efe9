//! Two network namespaces, joined by a veth, and an attached instance between them.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    net::{SocketAddr, TcpListener, UdpSocket},
    process::{self, Command},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};

use common::{
    id::{PolicyId, RuleId, SessionId},
    verdict::Reason,
};
use nix::sched::{CloneFlags, unshare};

use super::{policies, worker::Worker};
use crate::{
    config::{Instance, KernelLog},
    kernel::{
        Admitted, Attached, Error, Kernel, PolicyInForce, Synced,
        cgroup::{Parent, SessionCgroup, leftovers},
        remove_pins,
    },
    policy::compiled::CompiledPolicy,
    sys::netns,
};

static NEXT: AtomicU32 = AtomicU32::new(0);

/// The addresses of the world. All are public by the registries, none is ever dialled outside the
/// namespaces.
pub(super) const WORLD: &[&str] = &[
    "93.184.216.34/32",
    "93.184.216.35/32",
    "10.1.1.1/32",
    "169.254.169.254/32",
    "2606:2800:220:1::34/128",
    "fd00:ec2::254/128",
];

const HOST_MAC: &str = "02:00:00:00:00:01";
pub(super) const WORLD_MAC: &str = "02:00:00:00:00:02";

/// The namespaces. The calling thread is moved into `host` and stays there.
pub(super) struct Lab {
    world: File,
    _keeper: mpsc::Sender<()>,
}

impl Lab {
    pub(super) fn new() -> Self {
        unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace needs root");
        let (say, hear) = mpsc::channel();
        let (keeper, end) = mpsc::channel::<()>();
        thread::spawn(move || {
            unshare(CloneFlags::CLONE_NEWNET).unwrap();
            say.send(nix::unistd::gettid()).unwrap();
            // Ends when the lab is dropped; until then the namespace has a thread to be named by.
            let _ended = end.recv();
        });
        let thread = hear.recv().unwrap();
        let world = File::open(format!("/proc/self/task/{thread}/ns/net")).unwrap();
        let lab = Self {
            world,
            _keeper: keeper,
        };
        ip("link set lo up");
        // Else the kernel itself refuses ping sockets, and the hook is never asked.
        fs::write("/proc/sys/net/ipv4/ping_group_range", "0 2147483647").unwrap();
        ip(&format!(
            "link add veth-h address {HOST_MAC} type veth \
             peer name veth-w address {WORLD_MAC} netns {thread}"
        ));
        ip("addr add 192.168.77.1/24 dev veth-h");
        ip("addr add 2600:1f00::1/64 dev veth-h nodad");
        ip("link set veth-h up");
        // Nobody has to be asked for: a SYN that waits for a neighbour comes a second late, and
        // timers and pacing follow from that second.
        for address in ["192.168.77.2", "2600:1f00::2"] {
            ip(&format!(
                "neigh replace {address} lladdr {WORLD_MAC} dev veth-h nud permanent"
            ));
        }
        lab.in_world(|| {
            ip("link set lo up");
            ip("addr add 192.168.77.2/24 dev veth-w");
            ip("addr add 2600:1f00::2/64 dev veth-w nodad");
            ip("link set veth-w up");
            for address in ["192.168.77.1", "2600:1f00::1"] {
                ip(&format!(
                    "neigh replace {address} lladdr {HOST_MAC} dev veth-w nud permanent"
                ));
            }
            for address in WORLD {
                // An IPv6 address that has to be asked for first can not be bound to at once.
                let flag = if address.contains(':') { " nodad" } else { "" };
                ip(&format!("addr add {address} dev lo{flag}"));
            }
        });
        ip("route add default via 192.168.77.2");
        ip("-6 route add default via 2600:1f00::2");
        lab
    }

    pub(super) fn in_world<T: Send>(&self, task: impl FnOnce() -> T + Send) -> T {
        netns::run_in(&self.world, || Ok(task())).unwrap()
    }

    /// A TCP server in the world that echoes.
    pub(super) fn tcp(&self, address: &str) -> SocketAddr {
        let listener = self.in_world(|| TcpListener::bind(address).unwrap());
        serve(listener)
    }

    /// A UDP socket in the world.
    pub(super) fn udp(&self, address: &str) -> UdpSocket {
        let socket = self.in_world(|| UdpSocket::bind(address).unwrap());
        socket
            .set_read_timeout(Some(scaled(Duration::from_millis(500))))
            .unwrap();
        socket
    }
}

/// Echoes on every connection, on threads that end with the test process.
pub(super) fn serve(listener: TcpListener) -> SocketAddr {
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || {
                let mut reader = &stream;
                let mut writer = &stream;
                std::io::copy(&mut reader, &mut writer)
            });
        }
    });
    address
}

fn ip(arguments: &str) {
    let status = Command::new("ip")
        .args(arguments.split(' '))
        .status()
        .expect("`ip` (iproute2) is needed");
    assert!(status.success(), "ip {arguments}");
}

/// An attached instance. Everything of it goes when it is dropped.
pub(super) struct Fence {
    pub(super) kernel: Kernel,
    pub(super) attached: Attached,
    pub(super) synced: Synced,
    sessions: Vec<(SessionCgroup, Admitted)>,
    pub(super) remains: Remains,
}

/// What stands of an instance without its agent: pins, links and cgroups, until it is dropped. Made
/// first, so that a fence that can not be finished leaves nothing behind either.
pub(super) struct Remains {
    pub(super) instance: Instance,
    pub(super) parent: Parent,
}

impl Remains {
    fn clear(&self) -> Result<(), Error> {
        for cgroup in leftovers(&self.parent)? {
            cgroup.kill()?;
            cgroup.remove()?;
        }
        remove_pins(&self.instance)
    }
}

impl Drop for Remains {
    fn drop(&mut self) {
        let cleared = self.clear();
        let removed = fs::remove_dir(self.parent.path());
        // A test that fails already says more than its traces would.
        if !thread::panicking() {
            cleared.unwrap();
            removed.unwrap();
        }
    }
}

pub(super) const POLICY: PolicyId = PolicyId(1);

impl Fence {
    pub(super) fn new(policy: &Arc<CompiledPolicy>) -> Self {
        Self::with_log(policy, KernelLog::Off)
    }

    pub(super) fn with_log(policy: &Arc<CompiledPolicy>, log: KernelLog) -> Self {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let instance = Instance::new(&format!("kt-{}-{number}", process::id())).unwrap();
        let parent = Parent::create(&instance).unwrap();
        let remains = Remains { instance, parent };
        let kernel = Kernel::open_with_log(&remains.instance, &remains.parent, log).unwrap();
        let synced = kernel.sync(&in_force(policy)).unwrap();
        let attached = kernel.attach(&remains.parent, &synced).unwrap();
        Self {
            kernel,
            attached,
            synced,
            sessions: Vec::new(),
            remains,
        }
    }

    /// Drops the agent's side, as a crash would.
    pub(super) fn without_agent(self) -> Remains {
        self.remains
    }

    /// Starts a worker in a session of its own.
    pub(super) fn worker(&mut self) -> (SessionId, Worker) {
        let session = SessionId(self.sessions.len() as u64 + 1);
        let cgroup = self
            .remains
            .parent
            .session(session, &policies::LIMITS)
            .unwrap();
        let admitted = self.attached.admit(session, cgroup.id(), POLICY).unwrap();
        let worker = Worker::start(cgroup.path());
        self.sessions.push((cgroup, admitted));
        (session, worker)
    }

    pub(super) fn cgroup(&self, session: SessionId) -> &SessionCgroup {
        let found = self.sessions.iter().find(|(c, _)| c.session() == session);
        &found.unwrap().0
    }

    pub(super) fn push(&mut self, policy: &Arc<CompiledPolicy>) {
        self.synced = self.kernel.sync(&in_force(policy)).unwrap();
    }

    /// Elements of all generations in the tables of addresses, prefixes and rules.
    pub(super) fn inner_sizes(&self) -> (usize, usize, usize) {
        let maps = &self.kernel.inner.maps;
        (
            maps.exact.keys().unwrap().len(),
            maps.prefixes.keys().unwrap().len(),
            maps.live.keys().unwrap().len(),
        )
    }

    /// Rules in the table of living rules, of all generations.
    pub(super) fn live_rules(&self) -> BTreeSet<RuleId> {
        let keys = self.kernel.inner.maps.live.keys().unwrap();
        keys.into_iter().map(|key| key.rule).collect()
    }

    /// Decisions with this reason, in all hooks.
    pub(super) fn count(&self, reason: Reason) -> u64 {
        let counters = self.kernel.counters().unwrap();
        let with_reason = counters.iter().filter(|(k, _)| k.reason == reason as u8);
        with_reason.map(|(_, count)| count).sum()
    }
}

/// A wait that was chosen on an ordinary machine, on this one: `STOCKADE_SLOW` says how many times
/// slower it is, as an emulated one is.
pub(super) fn scaled(time: Duration) -> Duration {
    let factor = std::env::var("STOCKADE_SLOW").map_or(1, |text| text.parse().unwrap());
    time * factor
}

/// A runtime for the readers of rings.
pub(super) fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
}

pub(super) fn in_force(policy: &Arc<CompiledPolicy>) -> [PolicyInForce; 1] {
    [PolicyInForce {
        id: POLICY,
        policy: Arc::clone(policy),
    }]
}
