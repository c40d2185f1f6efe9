//! An agent under everything at once: launches, questions and answers, pushes of policies, traffic. Two
//! sets of policies go back and forth; each allows an address that the other lacks, and neither allows
//! a third. What arrives at the other end of the wire is the proof.

mod kills;
mod load;
mod soak;

use std::{
    fs,
    net::IpAddr,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use agent::sys::xattr::attribute;
use lab::{
    Lab,
    agent::{Agent, CONFIGURATION},
    binary::{Scratch, stockade},
    cgroup,
    dns::{self, NameServer},
    prober::Prober,
    server::Listener,
};
use serde_json::Value;

use load::Load;

const LISTENERS: &[Listener] = &[Listener::Echo(8443), Listener::UdpEcho(9000)];
/// What only the set of the same place allows.
const OWN: [&str; 2] = ["20.0.0.1", "20.0.0.2"];
/// What both allow.
const BOTH: &str = "185.199.108.1";
/// What neither does.
const NEVER: &str = "1.2.3.4";
/// Whose sessions come and go.
const SHORT: &str = "prober";
/// Whose sessions stay.
const STEADY: &str = "steady";

fn policy(tool: &str, own: &str, folder: &Path) -> String {
    let folder = folder.display();
    format!(
        r#"version = 1
tool = "{tool}"
description = "One of many"
[worker]
command = ["{folder}/prober"]
protocol = "exec"
wall_timeout = "4h"

[[egress.allow]]
domain = "*.bench.example"
ports = [8443]
tls = "off"

[[egress.allow]]
cidr = "{BOTH}/32"
protocol = "udp"
ports = [9000]

[[egress.allow]]
cidr = "{own}/32"
protocol = "udp"
ports = [9000]

[filesystem]
read = ["/usr"]
execute = ["{folder}"]
"#
    )
}

/// Packets that have arrived for each set's own address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Arrived([u64; 2]);

impl Arrived {
    fn total(self) -> u64 {
        self.0.iter().sum()
    }
}

struct Scene {
    lab: Lab,
    agent: Agent,
    /// The folders of the two sets.
    sets: [PathBuf; 2],
    /// Their digests.
    digests: [String; 2],
    program: PathBuf,
    _names: NameServer,
}

impl Scene {
    fn new() -> Self {
        let scratch = Scratch::new().expect("a folder");
        let program = scratch.install("prober").expect("the prober is built");
        let written = scratch.write(CONFIGURATION, dns::CONFIGURATION);
        written.expect("the configuration is written");
        let lab = Lab::with_listeners(LISTENERS).expect("the lab can be made");
        let names = NameServer::start(lab.world()).expect("a name server");
        let sets = [0, 1].map(|place| set(scratch.path(), place));
        let agent = Agent::start_in(lab.host(), scratch, &[]).expect("an agent");
        let mut scene = Self {
            lab,
            agent,
            sets,
            digests: Default::default(),
            program,
            _names: names,
        };
        scene.digests = [0, 1].map(|place| {
            let load = Load::new(&scene);
            assert!(load.push(place), "the set is pushed: {}", scene.agent.log());
            scene.digest()
        });
        scene
    }

    fn digest(&self) -> String {
        let status = self.agent.json("status").expect("the agent answers");
        crate::policies::digest(&status)
    }

    /// Which of the two sets is in force.
    fn in_force(&self) -> usize {
        let digest = self.digest();
        let place = self.digests.iter().position(|known| *known == digest);
        place.unwrap_or_else(|| panic!("neither set: {digest}"))
    }

    /// What has arrived by now. What neither set allows never does.
    fn arrived(&self) -> Arrived {
        let packets = self.lab.arrived().expect("the recorder answers");
        let count = |address: &str| -> u64 {
            let address: IpAddr = address.parse().expect("an address");
            let those = packets.iter().filter(|(to, _)| to.destination == address);
            those.map(|(_, count)| count).sum()
        };
        assert_eq!(count(NEVER), 0, "a packet that neither set allows");
        Arrived(OWN.map(count))
    }

    /// A session that stays, and processes in its cgroup that the agent knows nothing of, which send to
    /// all addresses, whoever else lives.
    fn steady(&self) -> Steady {
        let worker = self.worker(STEADY);
        let sessions = self.agent.json("sessions").expect("the agent answers");
        let ours = |session: &&Value| session["tool"] == STEADY;
        let ours = sessions.as_array().into_iter().flatten().filter(ours);
        // The one before may be about to end.
        let number = ours.filter_map(|session| session["session"].as_u64()).max();
        let number = number.unwrap_or_else(|| panic!("no session: {sessions}"));
        let cgroup = session_cgroup(self.agent.instance(), number);
        let senders = OWN.into_iter().chain([NEVER, BOTH]).map(|address| {
            let sender = Prober::in_cgroup(self.lab.host(), &self.program, &cgroup);
            let mut sender = sender.expect("the sender starts");
            let script = format!("socket inet dgram; pump {address}:9000 86400000 1000");
            sender.say(&script).expect("the sender listens");
            sender
        });
        Steady {
            _senders: senders.collect(),
            worker,
            cgroup,
        }
    }

    fn worker(&self, tool: &str) -> Prober {
        let mut command = self.agent.tool(tool, &[]).expect("the binary is built");
        let worker = Prober::start(self.lab.host(), &mut command);
        let mut worker = worker.expect("the worker starts");
        let answer = worker.ask("sleep 1");
        assert!(answer.expect("the worker answers").ok);
        worker
    }

    /// What `audit verify --json` finds; the journal must be whole.
    fn journal(&self) -> Value {
        let mut command = Command::new(stockade().expect("the binary is built"));
        command.args(["audit", "verify", "--json", "--instance"]);
        let output = command.arg(self.agent.instance()).output();
        let output = output.expect("it runs");
        assert!(output.status.success(), "{output:?}");
        serde_json::from_slice(&output.stdout).expect("JSON")
    }
}

/// A session that stays.
struct Steady {
    _senders: Vec<Prober>,
    worker: Prober,
    cgroup: PathBuf,
}

/// Writes a set into a folder of its own.
fn set(scratch: &Path, place: usize) -> PathBuf {
    let folder = scratch.join(format!("set-{place}"));
    fs::create_dir(&folder).expect("a folder");
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).expect("its mode");
    for tool in [SHORT, STEADY] {
        let text = policy(tool, OWN[place], scratch);
        fs::write(folder.join(format!("{tool}.toml")), text).expect("it is written");
    }
    folder
}

fn session_cgroup(instance: &str, session: u64) -> PathBuf {
    let number = session.to_string();
    let cgroups = cgroup::sessions(instance).expect("cgroup v2");
    let found = cgroups.into_iter().find(|folder| {
        // One that goes while we look is another session's.
        let Ok(open) = fs::File::open(folder) else {
            return false;
        };
        let value = attribute(&open, "trusted.stockade.session").ok().flatten();
        value.is_some_and(|value| value == number.as_bytes())
    });
    found.unwrap_or_else(|| panic!("session {number} has no cgroup"))
}
