//! The command line: exit codes, streams and signals of `run`, and what bad input gets.

use std::{
    io::Write as _,
    path::PathBuf,
    process::{Command, Output, Stdio},
};

use lab::{
    Lab,
    agent::{self, Agent},
    binary::{self, Scratch},
    leftovers,
};

const POLICY: &str = r#"
version = 1
tool = "shell"
description = "A shell"
[worker]
command = ["/usr/bin/sh", "-c"]
protocol = "exec"
environment = { LANG = "C.UTF-8", GREETING = "hello" }
[[egress.allow]]
cidr = "93.184.216.34/32"
ports = [443]
[filesystem]
read = ["/usr"]
execute = ["/usr/bin"]
[syscalls]
profile = "interpreter"
"#;

struct Scene {
    lab: Lab,
    scratch: Scratch,
    policy: PathBuf,
}

fn scene() -> Scene {
    let lab = Lab::new().expect("the lab can be made");
    let scratch = Scratch::new().expect("a folder");
    let policy = scratch
        .write("shell.toml", POLICY)
        .expect("the policy is written");
    Scene {
        lab,
        scratch,
        policy,
    }
}

impl Scene {
    fn command(words: &[&str]) -> Command {
        let mut command = Command::new(binary::stockade().expect("the binary is built"));
        command
            .args(words)
            .stdin(Stdio::null())
            .env("SECRET", "of the caller");
        command
    }

    fn stockade(&self, words: &[&str]) -> Output {
        let mut command = Self::command(words);
        let output = self.lab.host().enter(|| command.output());
        output.expect("the namespace").expect("it runs")
    }

    /// `run --policy FILE -- sh -c SCRIPT`
    fn shell(&self, script: &str) -> Output {
        self.stockade(&self.words(script))
    }

    fn words<'a>(&'a self, script: &'a str) -> Vec<&'a str> {
        let policy = self.policy.to_str().expect("a path of ours");
        vec!["run", "--policy", policy, "--", "/usr/bin/sh", "-c", script]
    }
}

fn out(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn err(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_worker_s_exit_code_is_passed_through() {
    let scene = scene();
    for code in [0, 1, 7, 99, 255] {
        let output = scene.shell(&format!("exit {code}"));
        assert_eq!(output.status.code(), Some(code), "{}", err(&output));
    }
    let output = scene.shell("kill -KILL $$");
    assert_eq!(output.status.code(), Some(128 + 9), "{}", err(&output));
}

#[test]
fn streams_are_passed_through() {
    let scene = scene();
    let mut command = Scene::command(&scene.words("cat; echo told >&2"));
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = scene
        .lab
        .host()
        .enter(|| command.spawn())
        .expect("the namespace")
        .expect("it starts");
    let text = "line\n".repeat(50_000);
    let mut input = child.stdin.take().expect("a pipe");
    let feeder = {
        let text = text.clone();
        std::thread::spawn(move || input.write_all(text.as_bytes()))
    };
    let output = child.wait_with_output().expect("it ends");
    feeder.join().expect("the feeder").expect("all is read");
    assert!(output.status.success());
    assert_eq!(out(&output).len(), text.len());
    assert_eq!(err(&output), "told\n");
}

#[test]
fn what_is_no_stream_is_not_handed_to_a_worker() {
    let scene = scene();
    let script = "ls /proc/self/fd/0/";
    let folder = || std::fs::File::open("/etc").expect("a folder");
    let control = Command::new("/usr/bin/sh")
        .args(["-c", script])
        .stdin(folder())
        .output();
    let control = control.expect("a shell");
    assert!(out(&control).contains("passwd"), "{control:?}");
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").expect("a socket");
    for (input, word) in [
        (Stdio::from(folder()), "neither a file"),
        (
            Stdio::from(std::os::fd::OwnedFd::from(socket)),
            "a network socket",
        ),
    ] {
        let mut command = Scene::command(&scene.words(script));
        command.stdin(input);
        let output = scene.lab.host().enter(|| command.output());
        let output = output.expect("the namespace").expect("it runs");
        assert_eq!(output.status.code(), Some(125), "{output:?}");
        assert!(err(&output).contains(word), "{output:?}");
        assert_eq!(out(&output), "");
    }
}

#[test]
fn the_environment_is_the_policy_s() {
    let output = scene().shell("echo $GREETING $SECRET; env | sort");
    let told = out(&output);
    assert!(told.starts_with("hello\n"), "{told}");
    assert!(!told.contains("of the caller"), "{told}");
}

#[test]
fn a_signal_reaches_the_worker() {
    let scene = scene();
    let script = "trap 'echo caught; exit 42' TERM; echo ready; while :; do sleep 0.05; done";
    let mut command = Scene::command(&scene.words(script));
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = scene
        .lab
        .host()
        .enter(|| command.spawn())
        .expect("the namespace")
        .expect("it starts");
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(
        child.stdout.take().expect("a pipe"),
    ));
    assert_eq!(lines.next().expect("a line").expect("text"), "ready");
    let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id()).expect("a pid"));
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).expect("the signal is sent");
    assert_eq!(lines.next().expect("a line").expect("text"), "caught");
    let status = agent::wait(child, agent::patience()).expect("it ends");
    assert_eq!(status.code(), Some(42));
}

#[test]
fn a_run_leaves_nothing_behind_even_when_it_is_killed() {
    let scene = scene();
    let mut command = Scene::command(&scene.words("echo ready; sleep 60"));
    command.stdout(Stdio::piped());
    let mut child = scene
        .lab
        .host()
        .enter(|| command.spawn())
        .expect("the namespace")
        .expect("it starts");
    let mut line = String::new();
    let mut output = std::io::BufReader::new(child.stdout.take().expect("a pipe"));
    std::io::BufRead::read_line(&mut output, &mut line).expect("a line");
    let instance = format!("stockade-run-{}", child.id());
    let during = leftovers::of_instance(&instance).expect("they can be listed");
    assert!(!during.is_empty(), "control");
    child.kill().expect("it is killed");
    child.wait().expect("it ends");
    // The next run sweeps what a killed one could not.
    assert!(scene.shell("true").status.success());
    let left = leftovers::after(&instance, agent::patience()).expect("they can be listed");
    assert_eq!(left, Vec::<String>::new());
}

#[test]
fn explain_names_the_line_that_would_allow_it() {
    let scene = scene();
    let policy = scene.policy.to_str().expect("a path of ours");
    let output = scene.stockade(&[
        "run",
        "--policy",
        policy,
        "--explain",
        "--",
        "/usr/bin/curl",
        "--silent",
        "http://1.2.3.4:8080/",
    ]);
    let told = err(&output);
    assert!(!output.status.success());
    assert!(told.contains("1.2.3.4:8080"), "{told}");
    assert!(told.contains("[[egress.allow]]"), "{told}");
    assert!(told.contains("cidr = \"1.2.3.4/32\""), "{told}");
    assert!(told.contains("8080"), "{told}");
}

#[test]
fn a_bad_policy_is_refused_with_place_and_hint() {
    let scene = scene();
    for (wrong, line, words) in [
        (
            POLICY.replace("read =", "raed ="),
            ":13:",
            &["raed", "read"][..],
        ),
        (
            POLICY.replace("ports = [443]", "ports = [0]"),
            ":11:",
            &["port"][..],
        ),
        (
            POLICY.replace("93.184.216.34/32", "10.0.0.0/8"),
            ":10:",
            &["allow_private"][..],
        ),
        (
            POLICY.replace("cidr = \"93.184.216.34/32\"", "domain = \"api.localhost\""),
            ":10:",
            &["domain"][..],
        ),
        (
            POLICY.replace("version = 1", "version = 1\nversion = 2"),
            ":3:",
            &[][..],
        ),
    ] {
        let file = scene
            .scratch
            .write("wrong.toml", &wrong)
            .expect("it is written");
        let file = file.to_str().expect("a path of ours");
        for words_of in [
            vec!["policy", "check", file],
            vec!["run", "--policy", file, "--", "/usr/bin/true"],
        ] {
            let output = scene.stockade(&words_of);
            let told = err(&output) + &out(&output);
            assert!(!output.status.success(), "{words_of:?}: {told}");
            assert!(told.contains("wrong.toml"), "no file: {told}");
            assert!(told.contains(line), "no line {line}: {told}");
            for word in words {
                assert!(told.contains(word), "no `{word}`: {told}");
            }
        }
    }
}

#[test]
fn what_can_not_be_started_says_so() {
    let scene = scene();
    let policy = scene.policy.to_str().expect("a path of ours");
    let none = scene.stockade(&["run", "--policy", policy, "--", "/usr/bin/no-such-program"]);
    assert_eq!(none.status.code(), Some(127), "{}", err(&none));
    assert!(err(&none).contains("no-such-program"), "{}", err(&none));
    let outside = scene.stockade(&[
        "run",
        "--policy",
        policy,
        "--",
        "/usr/sbin/agetty",
        "--version",
    ]);
    assert_eq!(outside.status.code(), Some(126), "{}", err(&outside));
    let missing = scene.stockade(&[
        "run",
        "--policy",
        "/no/such/file.toml",
        "--",
        "/usr/bin/true",
    ]);
    assert!(!missing.status.success());
    assert!(err(&missing).contains("/no/such/file.toml"));
    let usage = scene.stockade(&["run"]);
    assert_eq!(usage.status.code(), Some(2));
    let nobody = scene.stockade(&["status", "--instance", "stockade-lab-none"]);
    assert_eq!(nobody.status.code(), Some(75), "{}", err(&nobody));
}

#[test]
fn who_is_not_root_is_told() {
    let scene = scene();
    // The build folder may not be open to others; a copy in a folder that is.
    let copy = scene
        .scratch
        .install("stockade")
        .expect("the binary is built");
    let mut command = Command::new("/usr/bin/setpriv");
    command
        .args([
            "--reuid",
            "65534",
            "--regid",
            "65534",
            "--clear-groups",
            "--",
        ])
        .arg(copy)
        .args(["run", "--policy"])
        .arg(&scene.policy)
        .args(["--", "/usr/bin/true"]);
    let output = scene.lab.host().enter(|| command.output());
    let output = output.expect("the namespace").expect("it runs");
    assert_eq!(output.status.code(), Some(77), "{}", err(&output));
    assert!(err(&output).contains("root"), "{}", err(&output));
}

#[test]
fn a_second_agent_says_so_and_ends() {
    let scene = scene();
    let agent = Agent::start(scene.lab.host(), &[("shell", POLICY)]).expect("an agent");
    let mut second = agent.agent_command().expect("the binary is built");
    second.args(["--metrics", "off"]);
    let mut words: Vec<_> = second.get_args().map(ToOwned::to_owned).collect();
    // `--metrics` may stand once only.
    let first = words
        .iter()
        .position(|word| word == "--metrics")
        .expect("it stands there");
    words.drain(first..first + 2);
    let mut second = Command::new(binary::stockade().expect("the binary is built"));
    second.args(words);
    let output = scene.lab.host().enter(|| second.output());
    let output = output.expect("the namespace").expect("it runs");
    assert_eq!(output.status.code(), Some(75), "{}", err(&output));
    let still = agent.run("shell", &["exit 3"]).expect("it runs");
    assert_eq!(still.status.code(), Some(3), "{}", err(&still));
    let unknown = agent.run("shel", &[]).expect("it runs");
    assert!(!unknown.status.success());
    assert!(err(&unknown).contains("shel"), "{}", err(&unknown));
}

#[test]
fn a_stranger_may_not_use_the_control_socket() {
    let scene = scene();
    let agent = Agent::start(scene.lab.host(), &[("shell", POLICY)]).expect("an agent");
    let copy = scene
        .scratch
        .install("stockade")
        .expect("the binary is built");
    for verb in [
        vec!["status"],
        vec!["run", "shell", "--", "true"],
        vec!["sessions"],
    ] {
        let mut command = Command::new("/usr/bin/setpriv");
        command
            .args([
                "--reuid",
                "65534",
                "--regid",
                "65534",
                "--clear-groups",
                "--",
            ])
            .arg(&copy)
            .arg(verb[0])
            .args(["--instance", agent.instance()])
            .args(&verb[1..]);
        let output = scene.lab.host().enter(|| command.output());
        let output = output.expect("the namespace").expect("it runs");
        assert_eq!(output.status.code(), Some(77), "{verb:?}: {}", err(&output));
    }
}
