//! Resolvers as Debian has them, asked on loopback, with the lab's name server behind them.

use std::{
    net::SocketAddr,
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use lab::{netns::Netns, prober::Prober};

const DNSMASQ: &str = "10.53.0.1:5301";
const UNBOUND: &str = "10.53.0.1:5302";
const PATIENCE: Duration = Duration::from_secs(5);
const UNBOUND_CONFIGURATION: &str = r#"
server:
    do-daemonize: no
    use-syslog: no
    logfile: ""
    pidfile: ""
    username: ""
    chroot: ""
    directory: "/"
    interface: 10.53.0.1@5302
    access-control: 10.53.0.1/32 allow
    num-threads: 2
    so-reuseport: yes
    so-rcvbuf: 4m
    so-sndbuf: 4m
    verbosity: 0
    log-queries: no
    statistics-interval: 0
    module-config: "iterator"
    msg-cache-size: 64m
    msg-cache-slabs: 2
    rrset-cache-size: 128m
    rrset-cache-slabs: 2
    infra-cache-slabs: 2
    minimal-responses: yes
    outgoing-range: 4096
    num-queries-per-thread: 2048
    local-zone: "example." nodefault
remote-control:
    control-enable: no
forward-zone:
    name: "."
    forward-addr: 9.9.9.9
"#;

/// A running resolver; it ends with this value.
pub(super) struct Peer {
    /// Asked from inside a fence, and by an unfenced program.
    pub(super) names: [&'static str; 2],
    pub(super) address: SocketAddr,
    child: Child,
}

impl Peer {
    /// dnsmasq with a cache that holds what is asked, and without a log.
    pub(super) fn dnsmasq(netns: &Netns, folder: &Path) -> Result<Self> {
        let mut command = Command::new("/usr/sbin/dnsmasq");
        command
            .args(["--keep-in-foreground", "--conf-file=/dev/null"])
            .args(["--pid-file=", "--user=root", "--no-resolv", "--no-hosts"])
            .args(["--server=9.9.9.9", "--listen-address=10.53.0.1"])
            .args(["--bind-interfaces", "--port=5301", "--cache-size=10000"])
            .arg("--dns-forward-max=4096");
        Self::start(netns, folder, ["dnsmasq", "dnsmasq-bare"], DNSMASQ, command)
    }

    /// unbound as a forwarder, set up as its manual advises for speed: a thread and a socket for each of
    /// two processors, tables that threads do not share locks of, no log.
    pub(super) fn unbound(netns: &Netns, folder: &Path) -> Result<Self> {
        let file = folder.join("unbound.conf");
        std::fs::write(&file, UNBOUND_CONFIGURATION)?;
        let mut command = Command::new("/usr/sbin/unbound");
        command.arg("-d").arg("-c").arg(file);
        Self::start(netns, folder, ["unbound", "unbound-bare"], UNBOUND, command)
    }

    fn start(
        netns: &Netns,
        folder: &Path,
        names: [&'static str; 2],
        address: &str,
        mut command: Command,
    ) -> Result<Self> {
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let child = netns
            .enter(|| command.spawn())?
            .with_context(|| format!("{} is missing; hint: cargo xtask setup", names[0]))?;
        let peer = Self {
            names,
            address: address.parse()?,
            child,
        };
        peer.await_answer(netns, folder)?;
        Ok(peer)
    }

    fn await_answer(&self, netns: &Netns, folder: &Path) -> Result<()> {
        let mut prober = Prober::bare(netns, &folder.join("prober"))?;
        let until = Instant::now() + PATIENCE;
        let script = format!("ask udp {} site.example A", self.address);
        while !prober.ask(&script)?.ok {
            ensure!(Instant::now() < until, "{} does not answer", self.names[0]);
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }
}

impl Peer {
    /// Its process.
    pub(super) fn process(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // It has no reason to end by itself; if it did, that is well.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
