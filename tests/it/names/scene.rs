//! A lab with names: its name server, its TLS servers, real programs, and an agent that asks there.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    process::Output,
    sync::mpsc::Receiver,
    time::{Duration, Instant},
};

use lab::{
    Lab,
    agent::{self, Agent},
    bare::Bare,
    binary::Scratch,
    dns::{self, NameServer},
    prober::{Answer, Prober},
    server::Listener,
    tls::TlsServers,
};
use serde_json::Value;

/// How long an event may take.
const EVENT_WAIT: Duration = Duration::from_secs(3);
const LISTENERS: &[Listener] = &[
    Listener::Http(80),
    Listener::Echo(853),
    Listener::Echo(8443),
    Listener::Echo(9000),
    Listener::Sink(9),
    Listener::UdpEcho(443),
    Listener::UdpEcho(853),
    Listener::UdpEcho(9000),
];
/// Names that have a certificate.
const CERTIFICATES: &[&str] = &[
    "site.example",
    "other.example",
    "third.example",
    "v4.example",
    "v6.example",
    "chain.example",
    "many.example",
    "apart.example",
    "a.wild.example",
    "deep.down.wild.example",
    "wild.example",
    "strange.example",
    "behind-door.example",
    "xn--bcher-kva.example",
    RESOLVER,
];
/// The name in the certificate of the name server.
pub(crate) const RESOLVER: &str = "dns.example";
/// Where the name server speaks TLS.
pub(crate) const RESOLVER_TLS_PORT: u16 = 8530;

/// What every tool may reach.
pub(crate) const EGRESS: &str = r#"
[[egress.allow]]
domain = "site.example"
ports = [443, 8443]

[[egress.allow]]
domain = "*.wild.example"
ports = [443, 8443]

[[egress.allow]]
domain = "third.example"
ports = [9000]
tls = "off"

[[egress.allow]]
domain = "ech.example"
ports = [8443]
ech = "allow"

[[egress.allow]]
domain = "texts.example"
ports = [443]
records = ["A", "AAAA", "TXT", "MX"]

[[egress.allow]]
domain = "*.bench.example"
ports = [8443]
tls = "off"

[[egress.allow_private]]
cidr = "10.20.0.5/32"
protocol = "tcp"
ports = [443]
reason = "a service of this site"
"#;

/// More names with the ports 443 and 8443: one for each way in which an answer can be odd.
const ALLOWED: &[&str] = &[
    "v4.example",
    "v6.example",
    "apart.example",
    "many.example",
    "churn.example",
    "huge.example",
    "zero.example",
    "ages.example",
    "longest.example",
    "late.example",
    "chain.example",
    "long-chain.example",
    "loop.example",
    "private.example",
    "metadata.example",
    "loopback.example",
    "this-host.example",
    "mapped.example",
    "embedded.example",
    "unspecified.example",
    "mixed.example",
    "behind-door.example",
    "private-zone.example",
    "rebind.example",
    "wrong-id.example",
    "wrong-question.example",
    "pointer-loop.example",
    "lies.example",
    "cut-off.example",
    "silent.example",
    "fails.example",
    "refuses.example",
    "foreign.example",
    "missing.example",
    "bücher.example",
];

struct Tool {
    name: &'static str,
    command: &'static str,
    profile: &'static str,
}

/// The programs, each a tool of the same name.
const TOOLS: &[Tool] = &[
    Tool {
        name: "curl",
        command: r#""/usr/bin/curl", "--silent", "--show-error", "--max-time", "8", "--cacert", "{scratch}/world.crt""#,
        profile: "default",
    },
    Tool {
        name: "strict-curl",
        command: r#""/usr/bin/curl", "--silent", "--show-error", "--max-time", "8", "--cacert", "{scratch}/world.crt""#,
        profile: "strict",
    },
    // A client in Go, which asks the resolver itself.
    Tool {
        name: "promtool",
        command: r#""/usr/bin/promtool", "query", "instant""#,
        profile: "strict",
    },
    Tool {
        name: "python",
        command: r#""/usr/bin/python3", "-c""#,
        profile: "interpreter",
    },
    Tool {
        name: "node",
        command: r#""/usr/bin/node", "-e""#,
        profile: "interpreter",
    },
    Tool {
        name: "openssl",
        command: r#""/usr/bin/openssl", "s_client", "-brief", "-verify_return_error", "-CAfile", "{scratch}/world.crt""#,
        profile: "default",
    },
    Tool {
        name: "dig",
        command: r#""/usr/bin/dig", "+tries=1", "+time=6", "+nocookie""#,
        profile: "interpreter",
    },
    Tool {
        name: "prober",
        command: r#""{scratch}/prober""#,
        profile: "default",
    },
];

/// The policy of one of the tools, with these rules.
pub(crate) fn policy(tool: &str, egress: &str) -> String {
    let tool = TOOLS
        .iter()
        .find(|known| known.name == tool)
        .expect("a tool of the table");
    format!(
        r#"
version = 1
tool = "{}"
description = "A program that knows names"
[worker]
command = [{}]
protocol = "exec"
environment = {{ LANG = "C.UTF-8", NODE_EXTRA_CA_CERTS = "{{scratch}}/world.crt", SSL_CERT_FILE = "{{scratch}}/world.crt" }}
{egress}
[filesystem]
read = ["/usr", "/etc/ssl", "{{scratch}}"]
execute = ["/usr/bin", "{{scratch}}"]
[syscalls]
profile = "{}"
[limits]
memory = "1GiB"
processes = 128
open_files = 1024
"#,
        tool.name, tool.command, tool.profile
    )
}

/// A policy that only watches.
pub(crate) fn watching(policy: &str) -> String {
    policy.replace("version = 1", "version = 1\nmode = \"observe\"")
}

/// The rules of every tool.
pub(crate) fn egress() -> String {
    let more = ALLOWED
        .iter()
        .map(|name| format!("[[egress.allow]]\ndomain = \"{name}\"\nports = [443, 8443]\n\n"));
    format!("{EGRESS}\n{}", more.collect::<String>())
}

/// The lab and its servers, without an agent.
pub(crate) struct World {
    pub(crate) names: NameServer,
    pub(crate) tls: TlsServers,
    pub(crate) lab: Lab,
    bare: Bare,
    folder: PathBuf,
}

impl World {
    /// Starts everything; what programs need lies in the folder.
    pub(crate) fn new(scratch: &Scratch) -> Self {
        scratch.install("prober").expect("the prober is built");
        let lab = Lab::with_listeners(LISTENERS).expect("the lab can be made");
        let world = lab.world();
        let tls = TlsServers::start(world, scratch.path(), &[443], CERTIFICATES);
        let tls = tls.expect("TLS servers");
        let mut names = NameServer::start(world).expect("a name server");
        let certificate = tls.certificate_of(RESOLVER).expect("a certificate");
        let over_tls = names.add_tls(world, RESOLVER_TLS_PORT, certificate);
        over_tls.expect("a name server that speaks TLS");
        Self {
            names,
            tls,
            lab,
            bare: Bare::new(scratch).expect("files are written"),
            folder: scratch.path().to_owned(),
        }
    }

    /// The words that a tool's command begins with.
    fn words(&self, tool: &str) -> Vec<String> {
        let known = TOOLS.iter().find(|known| known.name == tool);
        let command = known.expect("a tool of the table").command;
        let folder = self.folder.display().to_string();
        let command = format!("[{}]", command.replace("{scratch}", &folder));
        serde_json::from_str(&command).expect("words")
    }

    /// Runs a tool's program without a fence.
    pub(crate) fn bare(&self, tool: &str, arguments: &[&str]) -> Output {
        let words = self.words(tool);
        let certificate = format!("NODE_EXTRA_CA_CERTS={}/world.crt", self.folder.display());
        let of_go = format!("SSL_CERT_FILE={}/world.crt", self.folder.display());
        let mut all = vec!["/usr/bin/env", certificate.as_str(), of_go.as_str()];
        all.extend(words.iter().map(String::as_str));
        all.extend(arguments);
        let output = self.bare.run(self.lab.host(), &all);
        output.expect("the program starts")
    }

    /// A prober without a fence.
    pub(crate) fn bare_prober(&self) -> Prober {
        let words = self.words("prober");
        let words: Vec<_> = words.iter().map(String::as_str).collect();
        let mut command = self.bare.command(&words);
        Prober::start(self.lab.host(), &mut command).expect("the prober starts")
    }
}

/// The lab, its servers, and an agent with the tools.
pub(crate) struct Scene {
    pub(crate) agent: Agent,
    pub(crate) world: World,
}

impl Scene {
    /// With the rules of every tool.
    pub(crate) fn new() -> Self {
        Self::with(&egress(), dns::CONFIGURATION)
    }

    /// With rules and configuration of its own. `{scratch}` in the configuration is the folder in which
    /// the authority's certificate lies, as `world.crt`.
    pub(crate) fn with(egress: &str, configuration: &str) -> Self {
        let scratch = Scratch::new().expect("a folder");
        let world = World::new(&scratch);
        let folder = scratch.path().display().to_string();
        scratch
            .write(
                agent::CONFIGURATION,
                &configuration.replace("{scratch}", &folder),
            )
            .expect("the configuration is written");
        let policies: Vec<_> = TOOLS
            .iter()
            .map(|tool| (tool.name, policy(tool.name, egress)))
            .collect();
        let policies: Vec<_> = policies
            .iter()
            .map(|(tool, text)| (*tool, text.as_str()))
            .collect();
        let agent = Agent::start_in(world.lab.host(), scratch, &policies).expect("an agent");
        Self { agent, world }
    }

    /// Runs a tool to its end inside its fence.
    pub(crate) fn fenced(&self, tool: &str, arguments: &[&str]) -> Output {
        self.agent.run(tool, arguments).expect("the tool runs")
    }

    /// A prober inside a fence.
    pub(crate) fn prober(&self) -> Prober {
        let mut command = self.agent.tool("prober", &[]).expect("the binary is built");
        Prober::start(self.world.lab.host(), &mut command).expect("the worker starts")
    }

    /// Follows the events.
    pub(crate) fn events(&self) -> Events {
        let events = self.agent.events().expect("events").stream();
        // The command has to connect first.
        std::thread::sleep(Duration::from_millis(300));
        Events(events)
    }

    /// Replaces a tool's rules and waits until they are in force.
    pub(crate) fn replace(&self, tool: &str, egress: &str) {
        self.put(tool, &policy(tool, egress));
    }

    /// Puts the whole policy of a tool in force.
    pub(crate) fn put(&self, tool: &str, text: &str) {
        let written = self.agent.write_policy(tool, text);
        written.expect("it is written");
        self.agent.reload().expect("the agent reloads");
    }

    /// The agent ends and nothing is left.
    pub(crate) fn end(self) {
        assert_eq!(self.agent.end().expect("it ends"), Vec::<String>::new());
    }
}

/// The events of a scene.
pub(crate) struct Events(Receiver<Value>);

impl Events {
    /// Waits for an event with this reason.
    pub(crate) fn await_reason(&self, reason: &str) -> Value {
        let until = Instant::now() + EVENT_WAIT;
        let mut others = BTreeMap::<String, u32>::new();
        while let Ok(event) = self
            .0
            .recv_timeout(until.saturating_duration_since(Instant::now()))
        {
            if event["reason"] == reason {
                return event;
            }
            *others.entry(event.to_string()).or_default() += 1;
        }
        panic!("no event says `{reason}`; there were {others:#?}");
    }

    /// Forgets what has come so far.
    pub(crate) fn forget(&self) {
        while self.0.try_recv().is_ok() {}
    }
}

/// What a program printed, both streams.
pub(crate) fn text(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

/// Asks a prober; a script that is wrong fails the test.
pub(crate) fn ask(prober: &mut Prober, script: &str) -> Answer {
    prober.ask(script).expect("the prober answers")
}
