//! What processes have that shows at a second look only.

use std::{
    fs,
    net::TcpStream,
    os::fd::OwnedFd,
    process::{Child, Stdio},
    sync::mpsc::{RecvTimeoutError, channel},
    thread::{sleep, spawn},
    time::{Duration, Instant},
};

use lab::{cgroup, netns::Netns, patience::scaled};

use super::scene::{Cgroup, OTHER, PLAIN, POLICY, Scene, ask, assert_fenced, privileged};

/// A process whose first thread ends, and whose second one goes on.
const SECOND_THREAD: &str = "import ctypes, platform, threading, time
threading.Thread(target=time.sleep, args=(600,)).start()
ctypes.CDLL(None).syscall({'x86_64': 60, 'aarch64': 93}[platform.machine()], 0)";

/// A process that ends with this value, so that its cgroup can be removed.
struct Inside(Child);

impl Drop for Inside {
    fn drop(&mut self) {
        // One that has ended by itself is what we want.
        drop(self.0.kill().and_then(|()| self.0.wait()));
    }
}

#[test]
fn root_could_leave_without_any_capability() {
    let scene = Scene::new(&[("service", POLICY)]);
    let (cgroup, outside) = (Cgroup::new("root"), Cgroup::new("outside"));
    let mut program = scene.root(cgroup.path());
    let (code, text) = scene.attach("service", cgroup.words(), &[]);
    assert_eq!(code, 1, "{text}");
    assert!(text.contains("keeps root's user id"), "{text}");
    // What the refusal is about.
    let (code, text) = scene.attach("service", cgroup.words(), &["--weak"]);
    assert_eq!(code, 0, "{text}");
    assert_fenced(&mut program);
    let mut gone = scene.leaving(cgroup.path(), outside.path());
    let answer = ask(&mut gone, OTHER);
    assert!(answer.ok, "{answer:?}");
    drop((program, gone));
    scene.end();
}

#[test]
fn a_process_whose_first_thread_has_ended_is_looked_at() {
    let scene = Scene::new(&[("service", POLICY)]);
    let cgroup = Cgroup::new("thread");
    let [_, user @ ..] = PLAIN;
    let mut words = vec!["--bounding-set=-all,+net_raw"];
    words.extend(user);
    words.extend(["/usr/bin/python3", "-c", SECOND_THREAD]);
    let inside = Inside(privileged(cgroup.path(), &words).spawn().expect("python3"));
    let until = Instant::now() + scaled(Duration::from_secs(8));
    let process = format!("/proc/{}", inside.0.id());
    let is_half_over = || {
        let threads = fs::read_dir(format!("{process}/task")).map(Iterator::count);
        let status = fs::read_to_string(format!("{process}/status"));
        threads.is_ok_and(|count| count == 2) && status.is_ok_and(|s| s.contains("State:\tZ"))
    };
    while !is_half_over() {
        assert!(Instant::now() < until, "its first thread goes on");
        sleep(Duration::from_millis(20));
    }
    let (code, text) = scene.attach("service", cgroup.words(), &[]);
    assert_eq!(code, 1, "{text}");
    assert!(text.contains("keeps CAP_NET_RAW"), "{text}");
    drop(inside);
    scene.end();
}

#[test]
fn a_socket_of_another_network_namespace_is_a_hole() {
    let scene = Scene::new(&[("service", POLICY)]);
    let (cgroup, netns) = (Cgroup::new("socket"), Netns::new().expect("a namespace"));
    let host = scene.world.lab.host();
    let stream = host.enter(|| TcpStream::connect("93.184.216.34:8443"));
    let stream = stream.expect("the namespace").expect("a connection");
    let words = [PLAIN.as_slice(), &["sleep", "600"]].concat();
    let mut command = privileged(cgroup.path(), &words);
    command.stdin(Stdio::from(OwnedFd::from(stream)));
    let child = netns.enter(|| command.spawn()).expect("the namespace");
    let inside = Inside(child.expect("a shell"));
    drop(command);
    // It is in its cgroup and has become what it is.
    let until = Instant::now() + scaled(Duration::from_secs(8));
    let name = format!("/proc/{}/comm", inside.0.id());
    while !fs::read_to_string(&name).is_ok_and(|name| name == "sleep\n") {
        assert!(Instant::now() < until, "it does not sleep");
        sleep(Duration::from_millis(20));
    }
    let (code, text) = scene.attach("service", cgroup.words(), &[]);
    assert_eq!(code, 1, "{text}");
    assert!(
        text.contains("holds a socket that was made elsewhere: tcp"),
        "{text}"
    );
    drop(inside);
    scene.end();
}

#[test]
fn cgroups_that_come_and_go_hide_no_hole() {
    /// Oftener than the agent looks at a new fence.
    const EVERY: Duration = Duration::from_millis(50);
    let scene = Scene::new(&[("service", POLICY)]);
    let cgroup = Cgroup::new("busy");
    let mut program = scene.plain(&cgroup::mount().expect("a hierarchy"));
    let open = "socket inet stream; connect 93.184.216.34:8443; send 5; recv; keep old";
    assert!(ask(&mut program, open).ok);
    // They come and go until the other end is gone, be it with a test that fails.
    let (end, ended) = channel::<()>();
    let others = spawn(move || {
        let mut count = 0;
        while ended.recv_timeout(EVERY) == Err(RecvTimeoutError::Timeout) {
            drop(Cgroup::new("comes-and-goes"));
            count += 1;
        }
        count
    });
    scene.attached("service", cgroup.words());
    fs::write(cgroup.path().join("cgroup.procs"), program.id().to_string()).expect("moved");
    let closed = scene.becomes("closed");
    drop(end);
    let count: u32 = others.join().expect("they came and went");
    assert!(count >= 10, "in two seconds and more: {count}");
    assert!(
        closed["holes"].to_string().contains("made elsewhere"),
        "{closed}"
    );
    let answer = ask(&mut program, "socket inet stream");
    assert!(!answer.ok, "{answer:?}");
    drop(program);
    scene.end();
}
