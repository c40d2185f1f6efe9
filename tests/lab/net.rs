//! The two namespaces, their addresses and routes, and what runs in them from the start.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    sync::atomic::{AtomicU16, Ordering},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use nix::{
    sched::{CpuSet, sched_setaffinity},
    unistd::Pid,
};

use crate::{
    netns::Netns,
    patience,
    recorder::{Packet, Recorder},
    server::Servers,
};

/// The host's own IPv4 address. It is public-looking, so that a refusal of it proves that it was
/// known to be this host, not that it stands in a registry.
pub const HOST_V4: Ipv4Addr = Ipv4Addr::new(45, 33, 32, 2);
/// The host's own IPv6 address.
pub const HOST_V6: Ipv6Addr = Ipv6Addr::new(0x2600, 0x3c01, 0, 0, 0, 0, 0, 2);
/// A second address of the host, on its loopback device.
pub const HOST_SECOND_V4: Ipv4Addr = Ipv4Addr::new(45, 79, 1, 1);
/// The world's end of the wire.
pub const WORLD_V4: Ipv4Addr = Ipv4Addr::new(45, 33, 32, 1);
/// The world's end of the wire.
pub const WORLD_V6: Ipv6Addr = Ipv6Addr::new(0x2600, 0x3c01, 0, 0, 0, 0, 0, 1);
/// The host's end of the wire; its name is fixed because each host is a namespace of its own.
pub const HOST_DEVICE: &str = "h0";
/// The interface index of [`HOST_DEVICE`].
pub const HOST_DEVICE_INDEX: u32 = 2;

const BARRIER_ADDRESS: Ipv4Addr = Ipv4Addr::new(45, 33, 32, 1);
const BARRIER_WAIT: Duration = Duration::from_secs(10);

const BARRIER_FIRST: u16 = 20_000;
const BARRIER_PORTS: u16 = 20_000;

static BARRIER_PORT: AtomicU16 = AtomicU16::new(0);

const HOST_SETUP: &str = "\
link set h0 address 02:00:00:00:00:02
link set h0 addrgenmode none
addr add 45.33.32.2/24 broadcast 45.33.32.255 dev h0
addr add 45.79.1.1/32 dev lo
addr add 2600:3c01::2/64 dev h0 nodad
addr add fe80::2/64 dev h0 nodad
link set h0 up
neigh replace 45.33.32.1 lladdr 02:00:00:00:00:01 dev h0 nud permanent
neigh replace 45.33.32.200 lladdr 02:00:00:00:00:01 dev h0 nud permanent
neigh replace 2600:3c01::1 lladdr 02:00:00:00:00:01 dev h0 nud permanent
neigh replace fe80::1 lladdr 02:00:00:00:00:01 dev h0 nud permanent
route add default via 45.33.32.1
route add 224.0.0.0/4 dev h0
route add default via 2600:3c01::1 dev h0
";

// All addresses there are belong to the world, but for the wire's own two networks.
const WORLD_SETUP: &str = "\
link set w0 address 02:00:00:00:00:01
link set w0 addrgenmode none
addr add 45.33.32.1/24 broadcast 45.33.32.255 dev w0
addr add 2600:3c01::1/64 dev w0 nodad
addr add fe80::1/64 dev w0 nodad
link set w0 up
neigh replace 45.33.32.2 lladdr 02:00:00:00:00:02 dev w0 nud permanent
neigh replace 2600:3c01::2 lladdr 02:00:00:00:00:02 dev w0 nud permanent
neigh replace fe80::2 lladdr 02:00:00:00:00:02 dev w0 nud permanent
route add unicast 45.33.32.0/24 dev w0 table local
route add local 0.0.0.0/0 dev lo table local
route add unicast 2600:3c01::/64 dev w0 table local
route add unicast fe80::/64 dev w0 table local
route add local ::/0 dev lo table local
";

/// The lab. Its namespaces, servers and threads end with it.
#[derive(Debug)]
pub struct Lab {
    host: Netns,
    world: Netns,
    recorder: Option<Recorder>,
    servers: Servers,
}

impl Lab {
    /// Makes the namespaces, joins them and starts servers and recorder.
    pub fn new() -> Result<Self> {
        Self::with_listeners(crate::server::ORDINARY)
    }

    /// The same with other listeners.
    pub fn with_listeners(listeners: &[crate::server::Listener]) -> Result<Self> {
        let mut lab = Self::unrecorded(listeners)?;
        lab.recorder = Some(Recorder::start(&lab.world)?);
        Ok(lab)
    }

    /// A lab for measurements: nobody looks at its packets.
    pub fn unrecorded(listeners: &[crate::server::Listener]) -> Result<Self> {
        let (host, world) = (Netns::new()?, Netns::new()?);
        join(&host, &world)?;
        let servers = Servers::start(&world, listeners)?;
        Ok(Self {
            host,
            world,
            recorder: None,
            servers,
        })
    }

    /// Where workers run.
    pub fn host(&self) -> &Netns {
        &self.host
    }

    /// Where everything else is.
    pub fn world(&self) -> &Netns {
        &self.world
    }

    /// What the servers have seen.
    pub fn servers(&self) -> &Servers {
        &self.servers
    }

    /// All packets that have arrived at the world's end of the wire so far. What was sent before this
    /// call is in it: a marker is sent from the host and awaited first.
    pub fn arrived(&self) -> Result<Vec<(Packet, u64)>> {
        let recorder = self.recorder.as_ref().context("nothing is recorded")?;
        self.settle(recorder)?;
        Ok(recorder.packets())
    }

    /// How many packets have arrived for an address, whatever their protocol and port.
    pub fn arrived_at(&self, address: IpAddr) -> Result<u64> {
        self.count(|packet| packet.destination == address)
    }

    /// How many packets have arrived for an address and port.
    pub fn arrived_at_port(&self, address: SocketAddr) -> Result<u64> {
        self.count(|packet| packet.destination == address.ip() && packet.port == address.port())
    }

    /// How many packets have arrived that the filter names.
    pub fn count(&self, filter: impl Fn(&Packet) -> bool) -> Result<u64> {
        let arrived = self.arrived()?;
        Ok(arrived
            .iter()
            .filter(|(packet, _)| filter(packet))
            .map(|(_, count)| count)
            .sum())
    }

    /// Each processor has a queue of its own between the two ends, so each sends a marker.
    fn settle(&self, recorder: &Recorder) -> Result<()> {
        let processors = std::thread::available_parallelism()?.get();
        let markers = (0..processors)
            .map(|processor| self.mark(recorder, processor))
            .collect::<Result<Vec<_>>>()?;
        let began = Instant::now();
        for marker in markers {
            while recorder.count_of(marker) == 0 {
                if began.elapsed() > patience::scaled(BARRIER_WAIT) {
                    bail!("the recorder does not see the marker");
                }
                std::thread::sleep(Duration::from_micros(200));
            }
        }
        Ok(())
    }

    fn mark(&self, recorder: &Recorder, processor: usize) -> Result<SocketAddr> {
        let port = BARRIER_FIRST + BARRIER_PORT.fetch_add(1, Ordering::Relaxed) % BARRIER_PORTS;
        let marker = SocketAddr::from((BARRIER_ADDRESS, port));
        recorder.forget(marker);
        self.host.enter(|| -> Result<()> {
            let mut only = CpuSet::new();
            only.set(processor)?;
            sched_setaffinity(Pid::from_raw(0), &only)?;
            UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?.send_to(b"marker", marker)?;
            Ok(())
        })??;
        Ok(marker)
    }
}

fn join(host: &Netns, world: &Netns) -> Result<()> {
    host.enter(|| -> Result<()> {
        use std::os::fd::AsRawFd as _;
        let peer = format!(
            "/proc/{}/fd/{}",
            std::process::id(),
            world.file().as_raw_fd()
        );
        let status = std::process::Command::new("ip")
            .args(["link", "add", HOST_DEVICE, "type", "veth"])
            .args(["peer", "name", "w0", "netns", &peer])
            .status()?;
        anyhow::ensure!(status.success(), "the veth pair can not be made");
        Ok(())
    })??;
    for (name, value) in [
        ("ipv4/ip_nonlocal_bind", "1"),
        ("ipv6/ip_nonlocal_bind", "1"),
        ("ipv4/ping_group_range", "0 2147483647"),
        ("ipv4/tcp_fastopen", "3"),
        ("ipv4/conf/all/rp_filter", "0"),
        ("ipv4/conf/default/rp_filter", "0"),
        ("ipv4/conf/all/accept_source_route", "1"),
        ("ipv6/conf/all/accept_ra", "0"),
        ("ipv6/conf/default/accept_ra", "0"),
    ] {
        host.sysctl(name, value)?;
        world.sysctl(name, value)?;
    }
    // Fast open without a cookie, so that the first packet already carries data.
    host.sysctl("ipv4/tcp_fastopen", "1543")?;
    world.sysctl("ipv4/tcp_fastopen", "1543")?;
    world.sysctl("ipv4/icmp_ratelimit", "0")?;
    host.ip(HOST_SETUP)?;
    world.ip(WORLD_SETUP)
}
