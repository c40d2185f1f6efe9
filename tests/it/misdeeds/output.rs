//! What a worker writes: bounded, and harmless on a terminal.

use std::{
    fs,
    io::{ErrorKind, PipeWriter, Read as _, Write as _},
    process::Stdio,
    thread::sleep,
    time::{Duration, Instant},
};

use lab::patience::scaled;
use nix::{
    fcntl::{FcntlArg, OFlag, fcntl},
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::{Value, json};

use super::{Scene, WALL, scene};

#[test]
fn output_without_end_is_ended() {
    let scene = scene(&[("talker", WALL, "")]);
    let program = "
import os
for _ in range(10 << 30 >> 16): os.write(1, b'x' * 65536)";
    let begun = Instant::now();
    let output = scene.agent.run("talker", &[program]).expect("it runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(137), "{said}");
    assert_eq!(output.stdout.len(), 1 << 20);
    assert_eq!(scene.last_end(), json!("output"));
    assert!(said.contains("`limits.output`"), "{said}");
    assert!(begun.elapsed() < scaled(Duration::from_secs(2)));
    scene.nothing_is_left("output");
    // Both streams together, and not a byte less than what is allowed.
    let both = "
import os
os.write(1, b'x' * (1 << 19)); os.write(2, b'y' * (1 << 19))";
    let output = scene.agent.run("talker", &[both]).expect("it runs");
    assert!(output.status.success(), "{:?}", output.status);
    assert_eq!(output.stdout.len() + output.stderr.len(), 1 << 20);
    // A reader that has seen enough ends a worker as it would without a fence.
    let mut command = scene.agent.tool("talker", &[program]).expect("the binary");
    command.stdout(Stdio::piped());
    let mut child = command.spawn().expect("it starts");
    let mut few = [0; 16];
    let mut stdout = child.stdout.take().expect("a pipe");
    stdout.read_exact(&mut few).expect("some bytes");
    drop(stdout);
    let status = lab::agent::wait(child, scaled(Duration::from_secs(10))).expect("it ends");
    assert!(!status.success(), "{status}");
    assert_ne!(scene.last_end(), json!("wall_timeout"));
    scene.end();
}

#[test]
fn whoever_wrote_too_much_and_ends_at_once_wrote_too_much() {
    let scene = scene(&[("talker", WALL, "")]);
    let program = "
import os
os.write(1, b'x' * ((1 << 20) + 1)); os._exit(0)";
    for round in 0..20 {
        let output = scene.agent.run("talker", &[program]).expect("it runs");
        assert_eq!(output.stdout.len(), 1 << 20, "{round}: {output:?}");
        assert_eq!(scene.last_end(), json!("output"), "{round}");
        assert_eq!(output.status.code(), Some(137), "{round}");
    }
    let just = "
import os
os.write(1, b'x' * (1 << 20)); os._exit(3)";
    let output = scene.agent.run("talker", &[just]).expect("it runs");
    assert_eq!(output.status.code(), Some(3), "{:?}", output.stderr);
    let last = scene.outcomes().pop().expect("an outcome");
    assert_eq!(last["end"], json!({"exit": 3}));
    assert_eq!(last.get("output_uncounted"), None, "{last}");
    scene.end();
}

/// The outcome of the one session that there was, while the command line that asked for it still runs.
fn outcome_meanwhile(scene: &Scene) -> Value {
    let until = Instant::now() + scaled(Duration::from_secs(10));
    loop {
        if let Some(outcome) = scene.outcomes().pop() {
            return outcome;
        }
        assert!(Instant::now() < until, "no outcome is recorded");
        sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_slow_reader_hides_nothing_that_was_written() {
    let scene = scene(&[("talker", WALL, "")]);
    // All that is allowed and a byte more; of the last 32 KiB nothing is read here for long.
    let program = "
import os, time
os.write(2, b'x' * ((1 << 20) - (1 << 15))); os.write(1, b'y')
time.sleep(0.3)
os.write(1, b'y' * (1 << 15)); os._exit(0)";
    let (mut reader, mut writer) = std::io::pipe().expect("a pipe");
    let full = fill(&mut writer);
    let mut command = scene.agent.tool("talker", &[program]).expect("the binary");
    command.stdout(writer).stderr(Stdio::null());
    let child = command.spawn().expect("it starts");
    drop(command);
    assert_eq!(outcome_meanwhile(&scene)["end"], json!("output"));
    let mut said = Vec::new();
    reader.read_to_end(&mut said).expect("what was written");
    assert_eq!(said.len() - full, 1 << 15);
    let status = lab::agent::wait(child, scaled(Duration::from_secs(10))).expect("it ends");
    assert_eq!(status.code(), Some(137));
    scene.end();
}

/// Writes to a pipe until it takes no more; tells how much that was.
fn fill(pipe: &mut PipeWriter) -> usize {
    let set = |flags| fcntl(&*pipe, FcntlArg::F_SETFL(flags)).expect("a pipe");
    set(OFlag::O_NONBLOCK);
    let mut bytes = 0;
    let refused = loop {
        match (&*pipe).write(&[b'z'; 4096]) {
            Ok(more) => bytes += more,
            Err(error) => break error,
        }
    };
    assert_eq!(refused.kind(), ErrorKind::WouldBlock);
    set(OFlag::empty());
    bytes
}

#[test]
fn who_counts_and_does_not_tell_is_not_waited_for_long_and_the_record_says_so() {
    let scene = scene(&[("talker", WALL, "")]);
    let program = "
import os
os.write(1, b'.'); os.read(0, 1); os._exit(5)";
    let mut command = scene.agent.tool("talker", &[program]).expect("the binary");
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().expect("it starts");
    let mut stdout = child.stdout.take().expect("a pipe");
    stdout.read_exact(&mut [0]).expect("it runs");
    let client = Pid::from_raw(child.id().cast_signed());
    kill(client, Signal::SIGSTOP).expect("our child");
    let begun = Instant::now();
    drop(child.stdin.take());
    let outcome = outcome_meanwhile(&scene);
    assert!(begun.elapsed() < scaled(Duration::from_secs(3)));
    assert_eq!(outcome["end"], json!({"exit": 5}));
    assert_eq!(outcome["output_uncounted"], json!(true), "{outcome}");
    kill(client, Signal::SIGCONT).expect("our child");
    let status = lab::agent::wait(child, scaled(Duration::from_secs(10))).expect("it ends");
    assert_eq!(status.code(), Some(5));
    scene.end();
}

/// What comes out at the other end of a terminal on which `run` writes.
fn on_a_terminal(scene: &Scene, flags: &[&str], program: &str) -> String {
    let pty = nix::pty::openpty(None, None).expect("a terminal");
    let mut words = vec!["run", "talker"];
    words.extend(flags);
    words.extend(["--", program]);
    let mut command = scene.agent.verb(&words).expect("the binary is built");
    let other = |slave: &std::os::fd::OwnedFd| slave.try_clone().expect("a descriptor");
    command
        .stdin(other(&pty.slave))
        .stdout(other(&pty.slave))
        .stderr(other(&pty.slave));
    let child = command.spawn().expect("it starts");
    drop((command, pty.slave));
    let status = lab::agent::wait(child, scaled(Duration::from_secs(10))).expect("it ends");
    let mut text = Vec::new();
    // EIO: the other end is closed.
    drop(fs::File::from(pty.master).read_to_end(&mut text));
    assert!(status.success(), "{status}: {text:?}");
    String::from_utf8_lossy(&text).into_owned()
}

#[test]
fn nothing_that_a_worker_writes_steers_a_terminal() {
    let scene = scene(&[("talker", WALL, "")]);
    let program = "
import os
os.write(1, b'one \\x1b[2J\\xc2\\x9b2J'); os.write(2, b' two \\x07')
try: os.write(0, b' three \\x1b[2J')
except OSError as error: os.write(1, b' refused')";
    let plain = on_a_terminal(&scene, &[], program);
    assert!(plain.contains("one \\u{1b}[2J\\u{9b}2J"), "{plain:?}");
    assert!(plain.contains(" two \\u{7}"), "{plain:?}");
    assert!(plain.contains(" refused"), "{plain:?}");
    assert!(!plain.contains(['\x1b', '\x07', '\u{9b}']), "{plain:?}");
    // The control: that is what it sent.
    let raw = on_a_terminal(&scene, &["--raw"], program);
    assert!(raw.contains("one \x1b[2J\u{9b}2J"), "{raw:?}");
    assert!(raw.contains(" three \x1b[2J"), "{raw:?}");
    // And what is no terminal gets the bytes.
    let piped = scene.agent.run("talker", &[program]).expect("it runs");
    assert!(piped.stdout.starts_with(b"one \x1b[2J\xc2\x9b2J"));
    scene.end();
}
