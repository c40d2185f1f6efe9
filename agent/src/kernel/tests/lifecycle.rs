//! Taking over from an earlier agent, and leaving nothing behind.

use std::{fs, time::Duration};

use common::{
    decide::Mode,
    event::Hook,
    flow::TCP,
    id::{PolicyId, SessionId},
    verdict::{Outcome, Reason},
};

use super::{
    lab::{Fence, Lab, POLICY, in_force, runtime, scaled},
    policies::{LIMITS, NO_LIMITS, open, policy},
    worker::Worker,
};
use crate::kernel::{
    Error, Kernel, cgroup,
    closing::CLOSING_SECONDS_MAX,
    probe::{self, Need},
    remove_pins,
};

const WAIT: Duration = Duration::from_secs(2);

#[test]
fn fences_stand_without_an_agent_and_are_taken_over() {
    let lab = Lab::new();
    lab.tcp("93.184.216.34:443");
    lab.tcp("93.184.216.35:443");
    let rules = policy(
        Mode::Enforce,
        NO_LIMITS,
        &[open("93.184.216.34/32", TCP, 443, 7)],
    );
    let mut fence = Fence::new(&rules);
    let (session, mut worker) = fence.worker();
    let stands = |worker: &mut Worker| {
        assert_eq!(worker.ask("tcp 93.184.216.34:443"), "ok");
        assert_eq!(worker.ask("tcp 93.184.216.35:443"), "EPERM");
    };
    stands(&mut worker);
    let id = fence.cgroup(session).id();
    let fence = fence.without_agent();
    stands(&mut worker);

    let kernel = Kernel::open(&fence.instance, &fence.parent).unwrap();
    assert_eq!(kernel.sessions().unwrap(), [(session, id)]);
    stands(&mut worker);
    let wide = policy(
        Mode::Enforce,
        NO_LIMITS,
        &[open("93.184.216.0/24", TCP, 443, 8)],
    );
    let synced = kernel.sync(&in_force(&wide)).unwrap();
    assert_eq!(worker.ask("tcp 93.184.216.34:443"), "EPERM");
    assert_eq!(worker.ask("tcp 93.184.216.35:443"), "EPERM");
    let attached = kernel.attach(&fence.parent, &synced).unwrap();
    assert_eq!(kernel.sessions().unwrap(), []);

    let cgroup = fence.parent.session(SessionId(50), &LIMITS).unwrap();
    let _admitted = attached.admit(SessionId(50), cgroup.id(), POLICY).unwrap();
    let mut fresh = Worker::start(cgroup.path());
    assert_eq!(fresh.ask("tcp 93.184.216.35:443"), "ok");
    assert_eq!(fresh.ask("tcp 93.184.216.35:80"), "EPERM");
    let links = kernel.map_fill().unwrap();
    assert!(
        links
            .iter()
            .any(|fill| fill.name == "exact" && fill.entries == 0)
    );
    drop(fresh);
    cgroup.kill().unwrap();
    cgroup.remove().unwrap();
}

#[test]
fn a_severed_link_is_replaced() {
    let lab = Lab::new();
    lab.tcp("93.184.216.34:443");
    let rules = policy(
        Mode::Enforce,
        NO_LIMITS,
        &[open("93.184.216.34/32", TCP, 443, 7)],
    );
    let fence = Fence::new(&rules).without_agent();
    fs::remove_dir(fence.parent.path()).unwrap();
    let parent = cgroup::Parent::create(&fence.instance).unwrap();
    assert_ne!(parent.id(), fence.parent.id());
    let kernel = Kernel::open(&fence.instance, &parent).unwrap();
    let synced = kernel.sync(&in_force(&rules)).unwrap();
    let attached = kernel.attach(&parent, &synced).unwrap();
    let cgroup = parent.session(SessionId(1), &LIMITS).unwrap();
    let _admitted = attached.admit(SessionId(1), cgroup.id(), POLICY).unwrap();
    let mut worker = Worker::start(cgroup.path());
    assert_eq!(worker.ask("tcp 93.184.216.34:443"), "ok");
    assert_eq!(worker.ask("tcp 93.184.216.34:80"), "EPERM");
    drop(worker);
    cgroup.kill().unwrap();
    cgroup.remove().unwrap();
}

#[test]
fn nothing_is_left_of_an_instance() {
    let _lab = Lab::new();
    let rules = policy(Mode::Enforce, NO_LIMITS, &[]);
    let fence = Fence::new(&rules);
    let instance = fence.remains.instance.clone();
    assert!(instance.pin_folder().exists());
    drop(fence);
    assert!(!instance.pin_root().exists());
    remove_pins(&instance).unwrap();
    let mount = cgroup::mount_point().unwrap();
    assert!(!mount.join(instance.cgroup_name()).exists());
}

#[test]
fn nothing_is_left_of_a_fence_that_is_not_finished() {
    let _lab = Lab::new();
    let rules = policy(Mode::Enforce, NO_LIMITS, &[]);
    let fence = Fence::new(&rules);
    let (instance, parent) = (
        fence.remains.instance.clone(),
        fence.remains.parent.path().to_owned(),
    );
    let unfinished = fence.without_agent();
    let panicked = std::thread::spawn(move || {
        let _unfinished = unfinished;
        panic!("on purpose: the construction of a fence fails");
    });
    assert!(panicked.join().is_err());
    assert!(!instance.pin_root().exists());
    assert!(!parent.exists());
}

#[test]
fn slots_and_sessions_are_checked() {
    let _lab = Lab::new();
    let rules = policy(Mode::Enforce, NO_LIMITS, &[]);
    let mut fence = Fence::new(&rules);
    let (session, _worker) = fence.worker();
    let id = fence.cgroup(session).id();
    let admit = |session, policy| fence.attached.admit(session, id, policy).map(|_| ());
    assert!(matches!(admit(session, POLICY), Err(Error::SessionId(_))));
    assert!(matches!(
        admit(SessionId(0), POLICY),
        Err(Error::SessionId(_))
    ));
    assert!(matches!(
        admit(SessionId(9), PolicyId(2)),
        Err(Error::PolicyNotInForce(_))
    ));
    let twice = [in_force(&rules), in_force(&rules)].concat();
    assert!(matches!(
        fence.kernel.sync(&twice),
        Err(Error::PolicySlot(POLICY))
    ));
    let _none = fence.kernel.sync(&[]).unwrap();
    assert!(matches!(
        admit(SessionId(9), POLICY),
        Err(Error::PolicyNotInForce(_))
    ));
}

#[test]
fn a_session_that_ends_is_seen_off() {
    let lab = Lab::new();
    lab.tcp("93.184.216.34:443");
    let rules = policy(
        Mode::Enforce,
        NO_LIMITS,
        &[open("93.184.216.34/32", TCP, 443, 7)],
    );
    let mut fence = Fence::new(&rules);
    let (session, mut worker) = fence.worker();
    let id = fence.cgroup(session).id();
    assert_eq!(worker.ask("tcp-keep 93.184.216.34:443"), "ok");
    fence.attached.closing(session, id).unwrap();
    // What is open goes on, nothing new begins.
    assert_eq!(worker.ask("stream-echo"), "ok");
    assert_eq!(worker.ask("tcp 93.184.216.34:443"), "EPERM");
    let begin = std::time::Instant::now();
    let limit = Duration::from_secs(CLOSING_SECONDS_MAX) + scaled(WAIT);
    while fence.attached.usage(session).unwrap().is_some() {
        assert!(begin.elapsed() < limit);
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(begin.elapsed() > Duration::from_secs(CLOSING_SECONDS_MAX - 1));
    assert_eq!(worker.ask("stream-echo"), "ECONNABORTED");

    let (session, worker) = fence.worker();
    let id = fence.cgroup(session).id();
    drop(worker);
    let begin = std::time::Instant::now();
    fence.attached.closing(session, id).unwrap();
    while fence.attached.usage(session).unwrap().is_some() {
        assert!(
            begin.elapsed() < scaled(WAIT),
            "a session without sockets goes at once"
        );
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn events_say_what_was_decided() {
    let lab = Lab::new();
    lab.tcp("93.184.216.34:443");
    let rules = policy(
        Mode::Enforce,
        NO_LIMITS,
        &[open("93.184.216.34/32", TCP, 443, 7)],
    );
    let mut fence = Fence::new(&rules);
    let runtime = runtime();
    let _entered = runtime.enter();
    let mut events = fence.kernel.events().unwrap();
    let (session, mut worker) = fence.worker();
    let mut next = || {
        runtime
            .block_on(async { tokio::time::timeout(scaled(WAIT), events.next()).await })
            .unwrap()
            .unwrap()
    };
    assert_eq!(worker.ask("tcp 93.184.216.34:443"), "ok");
    let allowed = next();
    assert_eq!(allowed.outcome, Outcome::Allow as u8);
    assert_eq!(allowed.reason, Reason::Rule as u8);
    assert_eq!(allowed.rule.0, 7);
    assert_eq!(allowed.hook, Hook::Connect as u8);
    assert_eq!(worker.ask("tcp [::ffff:169.254.169.254]:80"), "EPERM");
    let refused = next();
    assert_eq!(refused.session, session);
    assert_eq!(refused.policy, POLICY);
    assert_eq!(refused.outcome, Outcome::Deny as u8);
    assert_eq!(refused.reason, Reason::PrivateAddress as u8);
    assert_eq!(refused.address.to_string(), "169.254.169.254");
    assert_eq!(
        (refused.port, refused.protocol, refused.family),
        (80, TCP, 10)
    );
    assert!(refused.pid > 0 && refused.cookie > 0);
    let age = crate::clock::boot_ns() - refused.time_ns;
    assert!(age < 5_000_000_000, "{age} ns old");
}

#[test]
fn this_host_has_what_is_needed() {
    for feature in probe::features() {
        println!("{feature:?}");
        assert!(
            feature.present || feature.need == Need::Wanted,
            "{feature:?}"
        );
    }
}

#[test]
fn a_flood_of_refusals_is_counted_not_sent() {
    let _lab = Lab::new();
    let rules = policy(Mode::Enforce, NO_LIMITS, &[]);
    let mut fence = Fence::new(&rules);
    let runtime = runtime();
    let _entered = runtime.enter();
    let mut events = fence.kernel.events().unwrap();
    let (_, mut worker) = fence.worker();
    assert_eq!(worker.ask("udp-flood 93.184.216.35:4000"), "EPERM");
    let sent = std::iter::from_fn(|| events.try_next()).count() as u64;
    let refused = fence.count(Reason::NotAllowed);
    let [lost, suppressed, ..] = fence.kernel.tallies().unwrap();
    assert_eq!(refused, 20_000);
    assert_eq!(sent + suppressed + lost, refused);
    assert!(suppressed > 10_000, "{suppressed}");
}
