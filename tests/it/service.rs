//! The agent under a service manager, which is played here: what it is handed, what it tells, and
//! when its signs of life stop.

use std::{
    fs,
    os::unix::net::UnixDatagram,
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use lab::{
    Lab,
    agent::{self, Agent},
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

const POLICY: &str = "version = 1\ntool = \"idle\"\ndescription = \"Does nothing\"\n\
    [worker]\ncommand = [\"/usr/bin/true\"]\nprotocol = \"exec\"\n\
    [filesystem]\nread = [\"/usr\", \"/etc/ld.so.cache\"]\nexecute = [\"/usr/bin\"]\n";
/// The port of the sockets that are handed over; free in a lab's network namespace.
const PORT: u16 = 599;
/// Microseconds in which a sign of life is wanted; long enough for a busy machine.
const WATCHDOG: Duration = Duration::from_secs(6);

/// Makes the sockets of the resolver's unit, hands them over as the service manager does, and becomes
/// the program.
const HAND_OVER: &str = r#"
import os, socket, sys
made = []
for family, address in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
    for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
        made.append(socket.socket(family, kind))
        made[-1].bind((address, int(sys.argv[1])))
        if kind == socket.SOCK_STREAM:
            made[-1].listen()
for number, one in enumerate(made):
    assert one.fileno() == 3 + number
    os.set_inheritable(one.fileno(), True)
os.environ["LISTEN_FDS"] = str(len(made))
os.environ["LISTEN_FDNAMES"] = ":".join(sys.argv[2].split(",") * len(made))
os.environ["LISTEN_PID"] = str(os.getpid())
os.execv(sys.argv[3], sys.argv[3:])
"#;

/// An agent that is told it has a service manager.
struct Service {
    _lab: Lab,
    agent: Agent,
    child: Child,
    manager: UnixDatagram,
}

impl Service {
    fn start(sockets: &str) -> Self {
        let lab = Lab::new().expect("the lab can be made");
        let mut agent = Agent::start(lab.host(), &[("idle", POLICY)]).expect("an agent");
        agent.stop().expect("it ends");
        let place = agent.scratch().path().join("notify");
        let manager = UnixDatagram::bind(&place).expect("a socket");
        let own = agent.agent_command().expect("the binary is built");
        let mut command = Command::new("/usr/bin/python3");
        command
            .args(["-c", HAND_OVER, &PORT.to_string(), sockets])
            .arg(own.get_program())
            .args(own.get_args())
            .env("NOTIFY_SOCKET", &place)
            .env("WATCHDOG_USEC", WATCHDOG.as_micros().to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        let child = lab.host().enter(|| command.spawn()).expect("a namespace");
        Self {
            _lab: lab,
            agent,
            child: child.expect("it starts"),
            manager,
        }
    }

    /// Waits until it says this, for so long; tells whether it did.
    fn says(&self, word: &str, within: Duration) -> bool {
        let until = Instant::now() + within;
        let mut bytes = [0; 4096];
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            let set = self.manager.set_read_timeout(Some(left));
            set.expect("a timeout can be set");
            if let Ok(length) = self.manager.recv(&mut bytes) {
                let text = String::from_utf8_lossy(bytes.get(..length).unwrap_or_default());
                if text.lines().any(|line| line.starts_with(word)) {
                    return true;
                }
            }
        }
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.id()).expect("a process id"))
    }

    fn send(&self, signal: Signal) {
        kill(self.pid(), signal).expect("it runs");
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        // The agent's own value clears up after it.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

#[test]
fn it_tells_when_it_is_ready_reloads_and_stops() {
    let service = Service::start("resolver");
    assert!(
        service.says("READY=1", agent::patience()),
        "{}",
        service.agent.log()
    );
    let status = service.agent.json("status").expect("a status");
    assert_eq!(status["resolver"]["port"], PORT, "{status}");
    assert!(service.says("WATCHDOG=1", WATCHDOG), "no sign of life");
    service.send(Signal::SIGHUP);
    assert!(service.says("RELOADING=1", agent::patience()));
    assert!(service.says("READY=1", agent::patience()));
    let ran = service.agent.run("idle", &[]).expect("a run");
    assert!(ran.status.success(), "{ran:?}");
    service.send(Signal::SIGTERM);
    assert!(service.says("STOPPING=1", agent::patience()));
}

/// The positive half is above: with a launcher that answers the signs come.
#[test]
fn a_launcher_that_hangs_ends_the_signs_of_life() {
    let service = Service::start("resolver");
    assert!(service.says("READY=1", agent::patience()));
    assert!(service.says("WATCHDOG=1", WATCHDOG));
    let children = format!("/proc/{0}/task/{0}/children", service.pid());
    let children = fs::read_to_string(children).expect("its children");
    let launcher = children.split_whitespace().next().expect("a launcher");
    let launcher = Pid::from_raw(launcher.parse().expect("a process id"));
    kill(launcher, Signal::SIGSTOP).expect("it runs");
    // One that was on its way may still come.
    let _on_its_way = service.says("WATCHDOG=1", WATCHDOG / 3);
    assert!(!service.says("WATCHDOG=1", WATCHDOG), "a sign of life");
    kill(launcher, Signal::SIGCONT).expect("it runs");
    assert!(
        service.says("WATCHDOG=1", WATCHDOG * 3),
        "it does not recover"
    );
}

#[test]
fn sockets_of_another_name_are_not_the_resolver_s() {
    let mut service = Service::start("other");
    // What it says then: `broker::handed_over`.
    let until = Instant::now() + agent::patience();
    let status = loop {
        if let Some(status) = service.child.try_wait().expect("a child") {
            break status;
        }
        assert!(Instant::now() < until, "it runs");
        std::thread::sleep(Duration::from_millis(5));
    };
    assert!(!status.success(), "{status}");
}

#[test]
fn every_thread_of_the_agent_is_confined_and_its_launcher_is_not() {
    let lab = Lab::new().expect("the lab can be made");
    let agent = Agent::start(lab.host(), &[("idle", POLICY)]).expect("an agent");
    let ran = agent.run("idle", &[]).expect("a run");
    assert!(ran.status.success(), "{ran:?}");
    let process = Path::new("/proc").join(agent.id().expect("it runs").to_string());
    let mut threads = 0;
    for thread in fs::read_dir(process.join("task")).expect("its threads") {
        let thread = thread.expect("a thread").path();
        let Ok(status) = fs::read_to_string(thread.join("status")) else {
            continue;
        };
        threads += 1;
        assert_eq!(field(&status, "NoNewPrivs:"), "1");
        assert_eq!(field(&status, "Seccomp:"), "2");
        let set = u64::from_str_radix(field(&status, "CapEff:"), 16).expect("a set");
        // Modules, raw I/O, tracing, reboot, time.
        for capability in [16, 17, 19, 22, 25] {
            assert_eq!(set >> capability & 1, 0, "capability {capability}");
        }
    }
    assert!(threads > 2, "{threads}");
    let children = process
        .join("task")
        .join(process.file_name().expect("a name"));
    let children = fs::read_to_string(children.join("children")).expect("its children");
    let launcher = children.split_whitespace().next().expect("a launcher");
    let status = fs::read_to_string(format!("/proc/{launcher}/status")).expect("it runs");
    assert_eq!(field(&status, "NoNewPrivs:"), "0");
    assert_eq!(field(&status, "Seccomp:"), "0");
}

fn field<'a>(status: &'a str, name: &str) -> &'a str {
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    line.expect("a field").trim()
}
