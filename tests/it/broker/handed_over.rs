//! The broker's socket from a service manager, which is played here: a call is served over the socket
//! that was handed over, and what is none of the agent's is refused in plain words.

use std::{
    fs::{self, File},
    io::{Read as _, Write as _},
    os::unix::{fs::MetadataExt as _, net::UnixStream},
    path::PathBuf,
    process::{Child, Command, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

use lab::agent;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::json;

use super::{Scene, text};

/// Makes what it is told (`name=kind`), hands it over as the service manager does (`sd_listen_fds(3)`),
/// and becomes the program.
const HAND_OVER: &str = r#"
import os, socket, sys
place, count, wanted, program = sys.argv[1], sys.argv[2], sys.argv[3].split(","), sys.argv[4:]
os.makedirs(os.path.dirname(place), mode=0o711, exist_ok=True)
made, names = [], []
for number, (name, kind) in enumerate(one.split("=") for one in wanted):
    path = place if number == 0 else f"{place}.{number}"
    if os.path.exists(path):
        os.unlink(path)
    if kind == "file":
        made.append(os.open("/dev/null", os.O_RDONLY))
    else:
        family = socket.AF_INET if kind == "tcp" else socket.AF_UNIX
        one = socket.socket(family, socket.SOCK_DGRAM if kind == "datagram" else socket.SOCK_STREAM)
        old = os.umask(0o117)
        one.bind({"tcp": ("127.0.0.1", 0), "abstract": "\0" + path}.get(kind, path))
        os.umask(old)
        if kind in ("stream", "tcp", "abstract"):
            one.listen()
        made.append(one.detach())
    names.append(name)
for number, one in enumerate(made):
    assert one == 3 + number
    os.set_inheritable(one, True)
os.environ["LISTEN_FDS"] = count if count != "all" else str(len(made))
os.environ["LISTEN_FDNAMES"] = ":".join(names)
os.environ["LISTEN_PID"] = str(os.getpid())
os.execv(program[0], program)
"#;

/// A scene whose agent has ended, to be started by the service manager.
struct Service {
    scene: Scene,
}

impl Service {
    fn new() -> Self {
        let mut scene = Scene::invoice();
        scene.agent.stop().expect("it ends");
        Self { scene }
    }

    fn socket(&self) -> PathBuf {
        PathBuf::from("/run")
            .join(self.scene.agent.instance())
            .join("broker.sock")
    }

    /// Starts it with these; `count` is what `LISTEN_FDS` says, or `all`.
    fn start(&self, sockets: &str, count: &str) -> Child {
        let own = self.scene.agent.agent_command().expect("it is built");
        let mut command = Command::new("/usr/bin/python3");
        let errors = self.scene.agent.scratch().path().join("service.log");
        command
            .args(["-c", HAND_OVER])
            .arg(self.socket())
            .args([count, sockets])
            .arg(own.get_program())
            .args(own.get_args())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(errors).expect("a file"));
        let host = self.scene.lab.host();
        let child = host.enter(|| command.spawn()).expect("a namespace");
        child.expect("it starts")
    }

    /// What it says when it does not start; it must end by itself.
    fn refusal(&self, sockets: &str, count: &str) -> String {
        let status = agent::wait(self.start(sockets, count), agent::patience());
        let status = status.expect("it ends by itself");
        let said = self.said();
        assert!(!status.success(), "{sockets}: {said}");
        said
    }

    fn said(&self) -> String {
        let errors = self.scene.agent.scratch().path().join("service.log");
        fs::read_to_string(errors).expect("its words")
    }

    fn ready(&self) {
        let until = Instant::now() + agent::patience();
        let answers = |output: Output| matches!(output.status.code(), Some(0 | 1));
        while !answers(self.scene.agent.command(&["status"]).expect("it runs")) {
            assert!(Instant::now() < until, "{}", self.said());
            thread::sleep(Duration::from_millis(5));
        }
    }
}

#[test]
fn calls_are_served_over_the_socket_that_was_handed_over() {
    let service = Service::new();
    let mut child = service.start("broker=stream", "all");
    let until = Instant::now() + agent::patience();
    // Before the agent is there: the request waits in the socket until somebody serves it.
    let mut early = loop {
        match UnixStream::connect(service.socket()) {
            Ok(stream) => break stream,
            Err(error) => assert!(Instant::now() < until, "{error}"),
        }
        thread::sleep(Duration::from_millis(1));
    };
    let handed_over = fs::metadata(service.socket()).expect("the socket");
    let body = r#"{"jsonrpc": "2.0", "id": 1, "method": "ping"}"#;
    let request = format!(
        "POST /mcp HTTP/1.1\r\nHost: broker\r\nConnection: close\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    early.write_all(request.as_bytes()).expect("it waits");
    early
        .set_read_timeout(Some(agent::patience()))
        .expect("a timeout");
    let mut answer = String::new();
    early.read_to_string(&mut answer).expect("it is answered");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    service.ready();
    let alice = service.scene.caller("alice", &["invoice:read"]);
    let read = alice.call("invoice", "read", json!({"id": "INV-0A1B2C3D"}));
    assert!(read.is_done(), "{read:?}\n{}", service.said());
    // No other socket took its place.
    let found = fs::metadata(service.socket()).expect("the socket");
    assert_eq!(found.ino(), handed_over.ino());
    assert_eq!(found.mode() & 0o777, 0o660);
    assert_eq!(
        service
            .scene
            .records(&["--user", "alice", "--outcome", "done"])
            .len(),
        1
    );
    let pid = i32::try_from(child.id()).expect("a process id");
    kill(Pid::from_raw(pid), Signal::SIGTERM).expect("it runs");
    assert!(
        child.wait().expect("it ends").success(),
        "{}",
        service.said()
    );
    service.scene.end();
}

#[test]
fn what_is_none_of_the_agent_s_is_refused_in_plain_words() {
    let service = Service::new();
    let kind = "socket `broker`: is no listening unix stream socket with a path";
    let name = "nothing takes one of that name";
    for (sockets, count, said) in [
        ("broker=datagram", "all", kind),
        ("broker=silent", "all", kind),
        ("broker=tcp", "all", kind),
        ("broker=abstract", "all", kind),
        ("broker=file", "all", kind),
        (
            "broker=stream,broker=stream",
            "all",
            "2 of that name, where 1 is taken",
        ),
        ("broker=stream,other=stream", "all", name),
        ("stockade-broker.socket=stream", "all", name),
        ("=stream", "all", name),
        ("resolver=stream", "all", "socket"),
        (
            "broker=stream",
            "2",
            "descriptor 4 of `LISTEN_FDS`: is not there",
        ),
        ("broker=stream", "65", "not a number from 0 to 64"),
        ("broker=stream", "many", "not a number from 0 to 64"),
    ] {
        let refused = service.refusal(sockets, count);
        println!("{sockets} {count}: {}", refused.trim_end());
        assert!(refused.contains(said), "{sockets} {count}: {refused}");
    }
    // The control: it is the sockets that were wrong.
    let mut child = service.start("broker=stream", "all");
    service.ready();
    let pid = i32::try_from(child.id()).expect("a process id");
    kill(Pid::from_raw(pid), Signal::SIGTERM).expect("it runs");
    assert!(
        child.wait().expect("it ends").success(),
        "{}",
        service.said()
    );
    service.scene.end();
}

/// The same with systemd's own tool, where the host has it: two that speak one protocol.
#[test]
fn systemd_s_own_tool_hands_it_over_too() {
    let service = Service::new();
    let own = service.scene.agent.agent_command().expect("it is built");
    let mut command = Command::new("systemd-socket-activate");
    command
        .args(["--fdname=broker", "--listen"])
        .arg(service.socket())
        .arg(own.get_program())
        .args(own.get_args())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    fs::create_dir_all(service.socket().parent().expect("a folder")).expect("made");
    drop(fs::remove_file(service.socket()));
    let host = service.scene.lab.host();
    let child = host.enter(|| command.spawn()).expect("a namespace");
    let mut child = child.expect("systemd is installed");
    let until = Instant::now() + agent::patience();
    // The tool starts the agent at the first connection.
    while let Err(error) = UnixStream::connect(service.socket()) {
        assert!(Instant::now() < until, "{error}");
        thread::sleep(Duration::from_millis(1));
    }
    service.ready();
    let alice = service.scene.caller("alice", &["invoice:read"]);
    let read = alice.call("invoice", "read", json!({"id": "INV-0A1B2C3D"}));
    assert!(read.is_done(), "{read:?}");
    let pid = i32::try_from(child.id()).expect("a process id");
    kill(Pid::from_raw(pid), Signal::SIGTERM).expect("it runs");
    let mut said = Vec::new();
    let mut errors = child.stderr.take().expect("a pipe");
    errors.read_to_end(&mut said).expect("its words");
    assert!(child.wait().expect("it ends").success(), "{}", text(&said));
    service.scene.end();
}
