//! Every row of the hook table under the hooks alone: an attacker who is root, whom no seccomp
//! filter holds, and who still gets nowhere.

use std::{fs, net::SocketAddr, time::Duration};

use common::verdict::Reason;
use lab::patience::scaled;

use crate::rows::{self, Outcome, Under};

mod connected;
pub(crate) mod fence;
mod resolver;

use fence::HookFence;

#[test]
fn every_row_is_as_the_table_says() {
    let fence = HookFence::new(rows::POLICY);
    let mut prober = fence.prober();
    rows::check(&fence.lab, &fence.host, Under::Hooks, |script| {
        prober.ask(script).expect("the prober answers")
    });
    for reason in [
        Reason::SourceRouted,
        Reason::DnsNotRedirected,
        Reason::LocalAddress,
        Reason::PrivateAddress,
        Reason::NotAllowed,
        Reason::BindPort,
        Reason::SocketType,
    ] {
        assert!(fence.awaits(reason), "{reason:?} was never told");
    }
}

#[test]
fn observe_mode_opens_no_special_range() {
    let fence =
        HookFence::new(&rows::POLICY.replace("version = 1", "version = 1\nmode = \"observe\""));
    let mut prober = fence.prober();
    let complaints = rows::complaints(
        &fence.lab,
        &fence.host,
        rows::special(),
        Outcome::Refused(&["EPERM"]),
        |script| prober.ask(script).expect("the prober answers"),
    );
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
    let answer = prober
        .ask("socket inet stream; connect 1.2.3.4:443; send 5; recv")
        .expect("the prober answers");
    assert!(answer.ok, "observe lets the rest pass: {answer:?}");
}

#[test]
fn a_cgroup_that_nobody_admitted_gets_nowhere() {
    let fence = HookFence::new(rows::POLICY);
    let stranger = fence.parent_path.join("stranger");
    fs::create_dir(&stranger).expect("a cgroup");
    let mut prober = fence.prober_in(&stranger);
    for script in [
        "socket inet stream; connect 93.184.216.34:443; send 5",
        "socket inet dgram; sendto 93.184.216.34:443 5",
        "socket inet6 dgram; sendto [2606:2800:220:1::34]:443 5",
        "socket inet dgram icmp; payload echo; sendto 93.184.216.34:0",
    ] {
        let answer = prober.ask(script).expect("the prober answers");
        assert!(!answer.ok, "{script}: {answer:?}");
    }
    let seen = fence.lab.arrived_at([93, 184, 216, 34].into());
    assert_eq!(seen.expect("the recorder answers"), 0);
    assert!(fence.awaits(Reason::UnknownWorker));
    drop(prober);
    remove(&stranger);
}

#[test]
fn a_cgroup_below_the_session_is_in_the_fence() {
    let fence = HookFence::new(rows::POLICY);
    let below = fence.session.path().join("a");
    let deeper = below.join("b");
    fs::create_dir(&below).expect("a cgroup");
    fs::create_dir(&deeper).expect("a cgroup");
    let mut prober = fence.prober_in(&deeper);
    let allowed = prober.ask("socket inet stream; connect 93.184.216.34:443; send 5; recv");
    assert!(allowed.expect("the prober answers").ok);
    let refused = prober.ask("socket inet stream; connect 1.2.3.4:443; send 5");
    assert_eq!(refused.expect("the prober answers").errno(), "EPERM");
    drop(prober);
    remove(&deeper);
    remove(&below);
}

#[test]
fn nobody_dials_a_worker() {
    let fence = HookFence::new(rows::POLICY);
    let mut worker = fence.prober();
    let mut bare = fence.bare();
    for script in [
        "socket inet stream; listen; name; keep l",
        "socket inet stream; bind 0.0.0.0:0; listen; name; keep l",
        "socket inet6 stream; listen; name; keep l",
    ] {
        assert!(dial(&fence, &mut bare, script), "control: {script}");
        assert!(!dial(&fence, &mut worker, script), "{script}");
    }
    assert!(fence.awaits(Reason::Inbound));
}

/// Listens by the script, dials from the world, and says whether the connection was accepted.
fn dial(fence: &HookFence, listener: &mut lab::prober::Prober, script: &str) -> bool {
    let listening = listener.ask(script).expect("the prober answers");
    let port: u16 = listening
        .values
        .first()
        .and_then(|port| port.parse().ok())
        .unwrap_or_else(|| panic!("no port: {listening:?}"));
    let target = SocketAddr::from((lab::net::HOST_V4, port));
    let patience = scaled(Duration::from_millis(700));
    let dialled = fence
        .lab
        .world()
        .enter(|| std::net::TcpStream::connect_timeout(&target, patience))
        .expect("the namespace");
    let accepted = listener
        .ask("use l; accept; drop l")
        .expect("the prober answers");
    dialled.is_ok() && accepted.ok
}

#[test]
fn datagrams_come_in_only_from_where_they_may_go() {
    let fence = HookFence::new(rows::POLICY);
    let mut worker = fence.prober();
    let mut bare = fence.bare();
    let allowed: SocketAddr = "93.184.216.34:9000".parse().expect("an address");
    let stranger: SocketAddr = "1.2.3.4:9001".parse().expect("an address");
    // The answer of an allowed server gets in (a row of the table shows it); a stranger's datagram
    // reaches the control and not the worker.
    assert!(receives(&fence, &mut bare, stranger), "control");
    assert!(!receives(&fence, &mut worker, stranger));
    let answer = worker
        .ask(&format!("socket inet dgram; sendto {allowed} 5; recv"))
        .expect("the prober answers");
    assert!(answer.ok, "{answer:?}");
}

fn receives(fence: &HookFence, prober: &mut lab::prober::Prober, from: SocketAddr) -> bool {
    let bound = prober
        .ask("socket inet dgram; bind 0.0.0.0:0; name; keep u")
        .expect("the prober answers");
    let port: u16 = bound
        .values
        .first()
        .and_then(|port| port.parse().ok())
        .unwrap_or_else(|| panic!("no port: {bound:?}"));
    let socket = fence
        .lab
        .world()
        .enter(|| std::net::UdpSocket::bind(from))
        .expect("the namespace")
        .expect("the stranger's socket");
    let sent = socket.send_to(b"hello", (lab::net::HOST_V4, port));
    sent.expect("the datagram is sent");
    prober
        .ask("use u; recv; drop u")
        .expect("the prober answers")
        .ok
}

#[test]
fn a_session_that_closes_makes_no_sockets_and_loses_those_it_has() {
    let fence = HookFence::new(rows::POLICY);
    let mut prober = fence.prober();
    let open = prober
        .ask("socket inet stream; connect 93.184.216.34:443; send 5; recv; keep c")
        .expect("the prober answers");
    assert!(open.ok, "{open:?}");
    let session = &fence.session;
    fence
        .attached
        .closing(session.session(), session.id())
        .expect("the session closes");
    let made = prober
        .ask("socket inet stream")
        .expect("the prober answers");
    assert_eq!(made.errno(), "EPERM", "{made:?}");
    let lost = (0..90).any(|_| {
        std::thread::sleep(Duration::from_millis(100));
        !prober.ask("use c; send 5").expect("the prober answers").ok
    });
    assert!(lost, "a connection outlives its session");
}

#[test]
fn a_socket_made_before_the_fence_is_seen_by_no_hook() {
    // Why a worker starts inside its cgroup and is given no descriptor: this is what the kernel
    // does, and it must be noticed if it ever changes.
    let fence = HookFence::new(rows::POLICY);
    let mut prober = fence.bare();
    let made = prober
        .ask("socket inet stream; keep early")
        .expect("the prober answers");
    assert!(made.ok);
    let procs = fence.session.path().join("cgroup.procs");
    fs::write(procs, prober.id().to_string()).expect("the prober is moved");
    let early = prober
        .ask("use early; connect 1.2.3.4:443; send 5")
        .expect("it answers");
    assert!(early.ok, "{early:?}");
    let late = prober
        .ask("socket inet stream; connect 1.2.3.4:443")
        .expect("it answers");
    assert_eq!(late.errno(), "EPERM");
}

fn remove(cgroup: &std::path::Path) {
    let removed = (0..100).any(|_| {
        std::thread::sleep(Duration::from_millis(10));
        fs::remove_dir(cgroup).is_ok()
    });
    assert!(removed, "{} can not be removed", cgroup.display());
}
