//! A lab with names, an agent, and cgroups that the agent did not make, with programs in them.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::atomic::{AtomicU32, Ordering},
    thread::sleep,
    time::{Duration, Instant},
};

use lab::{
    agent::{self, Agent},
    binary::Scratch,
    cgroup, dns,
    netns::Netns,
    patience::scaled,
    prober::{Answer, Prober},
};
use serde_json::Value;

use crate::names::scene::World;

/// How long anything may take that the agent does of itself.
const WAIT: Duration = Duration::from_secs(8);
const POLL: Duration = Duration::from_millis(50);

/// What the attached programs may reach.
pub(crate) const POLICY: &str = r#"
version = 1
tool = "service"
description = "A unit that somebody else starts"

[[egress.allow]]
cidr = "185.199.108.0/22"
ports = [8443]

[[egress.allow]]
domain = "third.example"
ports = [9000]
tls = "off"
"#;

/// Reaches an address of the policy.
pub(crate) const ALLOWED: &str = "socket inet stream; connect 185.199.110.7:8443; send 5; recv";
/// Reaches an address that it does not name.
pub(crate) const OTHER: &str = "socket inet stream; connect 93.184.216.34:8443; send 5; recv";
/// Asks for a name of the policy.
pub(crate) const NAME: &str = "ask udp 9.9.9.9:53 third.example A";
/// Asks for another name.
pub(crate) const OTHER_NAME: &str = "ask udp 9.9.9.9:53 site.example A";

/// What `setpriv` is told for a program as a unit with a user and without capabilities has it.
pub(crate) const PLAIN: [&str; 4] = [
    "--bounding-set=-all",
    "--reuid=65534",
    "--regid=65534",
    "--clear-groups",
];

static NUMBERS: AtomicU32 = AtomicU32::new(0);

/// A cgroup of the test's own. Its processes are killed and it is removed when this value goes.
pub(crate) struct Cgroup(PathBuf);

impl Cgroup {
    /// Below the root of the hierarchy.
    pub(crate) fn new(name: &str) -> Self {
        let number = NUMBERS.fetch_add(1, Ordering::Relaxed);
        let name = format!("attach-{}-{number}-{name}", std::process::id());
        Self::at(cgroup::mount().expect("a hierarchy").join(name))
    }

    pub(crate) fn at(path: PathBuf) -> Self {
        fs::create_dir(&path).expect("a cgroup");
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// What `stockade attach` is told.
    pub(crate) fn words(&self) -> [&str; 2] {
        ["--cgroup", self.0.to_str().expect("text")]
    }

    /// Ends what is in it, and removes it.
    pub(crate) fn remove(&self) {
        let kill = self.0.join("cgroup.kill");
        if kill.exists() {
            fs::write(kill, "1").expect("its processes are killed");
        }
        let until = Instant::now() + scaled(WAIT);
        while let Err(error) = fs::remove_dir(&self.0) {
            if error.kind() == std::io::ErrorKind::NotFound {
                return;
            }
            assert!(Instant::now() < until, "{}: {error}", self.0.display());
            sleep(POLL);
        }
    }

    /// Makes it again: another cgroup at the same place.
    pub(crate) fn make_again(&self) {
        self.remove();
        fs::create_dir(&self.0).expect("a cgroup");
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        if self.0.exists() {
            self.remove();
        }
    }
}

/// World and agent.
pub(crate) struct Scene {
    pub(crate) agent: Agent,
    pub(crate) world: World,
    prober: PathBuf,
}

impl Scene {
    pub(crate) fn new(policies: &[(&str, &str)]) -> Self {
        let scratch = Scratch::new().expect("a folder");
        let world = World::new(&scratch);
        scratch
            .write(agent::CONFIGURATION, dns::CONFIGURATION)
            .expect("the configuration is written");
        let prober = scratch.path().join("prober");
        let agent = Agent::start_in(world.lab.host(), scratch, policies).expect("an agent");
        Self {
            agent,
            world,
            prober,
        }
    }

    /// A program in a cgroup, as a unit with a user and without capabilities has it.
    pub(crate) fn plain(&self, cgroup: &Path) -> Prober {
        self.plain_in(self.world.lab.host(), cgroup)
    }

    /// The same in another network namespace.
    pub(crate) fn plain_in(&self, netns: &Netns, cgroup: &Path) -> Prober {
        start(
            netns,
            cgroup,
            &[PLAIN.as_slice(), &[self.prober()]].concat(),
        )
    }

    /// A program that keeps raw sockets.
    pub(crate) fn raw(&self, cgroup: &Path) -> Prober {
        let words = ["--bounding-set=-all,+net_raw", self.prober()];
        start(self.world.lab.host(), cgroup, &words)
    }

    /// A program that is root and has no capability.
    pub(crate) fn root(&self, cgroup: &Path) -> Prober {
        let words = ["--bounding-set=-all", self.prober()];
        start(self.world.lab.host(), cgroup, &words)
    }

    /// The same, which moves itself into another cgroup first.
    pub(crate) fn leaving(&self, cgroup: &Path, to: &Path) -> Prober {
        let moves = "echo $$ > \"$0\"/cgroup.procs && exec \"$1\"";
        let to = to.to_str().expect("text");
        let words = ["--bounding-set=-all", "sh", "-c", moves, to, self.prober()];
        start(self.world.lab.host(), cgroup, &words)
    }

    fn prober(&self) -> &str {
        self.prober.to_str().expect("text")
    }

    /// The command line.
    pub(crate) fn command(&self, words: &[&str]) -> Output {
        self.agent.command(words).expect("the command runs")
    }

    /// `stockade attach`, with what it says.
    pub(crate) fn attach(&self, tool: &str, around: [&str; 2], more: &[&str]) -> (i32, String) {
        let [how, what] = around;
        let words = [&["attach", "--policy", tool, how, what], more].concat();
        said(&self.command(&words))
    }

    /// Attaches, which has to succeed.
    pub(crate) fn attached(&self, tool: &str, around: [&str; 2]) {
        let (code, text) = self.attach(tool, around, &[]);
        assert_eq!(code, 0, "{text}\n{}", self.agent.log());
    }

    /// `stockade detach`, with what it says.
    pub(crate) fn detach(&self, [how, what]: [&str; 2]) -> (i32, String) {
        said(&self.command(&["detach", how, what]))
    }

    /// The attachments that `status` shows.
    pub(crate) fn attachments(&self) -> Vec<Value> {
        let status = self.agent.json("status").expect("the agent answers");
        status["attachments"]
            .as_array()
            .cloned()
            .unwrap_or_default()
    }

    /// Waits until the only attachment is in this state, and returns it.
    pub(crate) fn becomes(&self, state: &str) -> Value {
        let until = Instant::now() + scaled(WAIT);
        loop {
            let attachments = self.attachments();
            if let [one] = attachments.as_slice()
                && one["state"] == state
            {
                return one.clone();
            }
            assert!(
                Instant::now() < until,
                "not {state}: {attachments:?}\n{}",
                self.agent.log()
            );
            sleep(POLL);
        }
    }

    /// Waits until nothing is attached.
    pub(crate) fn becomes_empty(&self) {
        let until = Instant::now() + scaled(WAIT);
        while !self.attachments().is_empty() {
            assert!(Instant::now() < until, "{:?}", self.attachments());
            sleep(POLL);
        }
    }

    /// The agent ends and nothing is left.
    pub(crate) fn end(self) {
        assert_eq!(self.agent.end().expect("it ends"), Vec::<String>::new());
    }
}

fn start(netns: &Netns, cgroup: &Path, words: &[&str]) -> Prober {
    let mut command = privileged(cgroup, words);
    let mut prober = Prober::start(netns, &mut command).expect("the program starts");
    // It has become what it is.
    ask(&mut prober, "sleep 1");
    prober
}

/// `setpriv` with these words, in a cgroup.
pub(crate) fn privileged(cgroup: &Path, words: &[&str]) -> Command {
    let mut command = Command::new("/bin/sh");
    let enters = "echo $$ > \"$0\" && exec setpriv \"$@\"";
    command.args(["-c", enters]);
    command.arg(cgroup.join("cgroup.procs")).args(words);
    command
}

/// Exit code and text of a command.
fn said(output: &Output) -> (i32, String) {
    let text = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    (output.status.code().unwrap_or(-1), text)
}

/// Asks a prober; a script that is wrong fails the test.
pub(crate) fn ask(prober: &mut Prober, script: &str) -> Answer {
    prober.ask(script).expect("the prober answers")
}

/// Waits until a script ends so.
pub(crate) fn until(prober: &mut Prober, script: &str, so: impl Fn(&Answer) -> bool) -> Answer {
    let end = Instant::now() + scaled(WAIT);
    loop {
        let answer = ask(prober, script);
        if so(&answer) {
            return answer;
        }
        assert!(Instant::now() < end, "{script}: {answer:?}");
        sleep(POLL);
    }
}

/// It reaches everything: what every test begins with.
pub(crate) fn assert_free(prober: &mut Prober) {
    for script in [ALLOWED, OTHER, NAME, OTHER_NAME] {
        let answer = ask(prober, script);
        assert!(answer.ok, "{script}: {answer:?}");
    }
}

/// It reaches what the policy names, and nothing else.
pub(crate) fn assert_fenced(prober: &mut Prober) {
    assert_closed(prober);
    for script in [ALLOWED, NAME] {
        let answer = ask(prober, script);
        assert!(answer.ok, "{script}: {answer:?}");
    }
    let answer = ask(prober, NAME);
    assert!(
        answer.values.iter().any(|value| value.contains("NOERROR")),
        "{answer:?}"
    );
}

/// It does not reach what the policy does not name.
pub(crate) fn assert_closed(prober: &mut Prober) {
    let answer = ask(prober, OTHER);
    assert_eq!(answer.errno(), "EPERM", "{answer:?}");
    let answer = ask(prober, OTHER_NAME);
    let refused = answer.values.iter().all(|value| !value.contains("NOERROR"));
    assert!(!answer.ok || refused, "{answer:?}");
}
