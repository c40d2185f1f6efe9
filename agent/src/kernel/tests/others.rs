//! An agent that finds the hooks of another version of its programs.

use std::{fs, os::fd::AsFd as _, path::PathBuf, sync::Arc, thread, time::Duration};

use common::{decide::Mode, flow::TCP, id::SessionId};

use super::{
    lab::{Fence, Lab, POLICY, Remains, in_force},
    policies::{LIMITS, NO_LIMITS, open, policy},
    worker::Worker,
};
use crate::{
    kernel::{Attached, Kernel, cgroup, outpost::Ground},
    policy::compiled::CompiledPolicy,
    sys::bpf,
};

const OPEN: &str = "tcp 93.184.216.34:443";
const REFUSED: &str = "tcp 93.184.216.35:443";

fn lab() -> (Lab, Arc<CompiledPolicy>) {
    let lab = Lab::new();
    lab.tcp("93.184.216.34:443");
    lab.tcp("93.184.216.35:443");
    let rule = open("93.184.216.34/32", TCP, 443, 7);
    (lab, policy(Mode::Enforce, NO_LIMITS, &[rule]))
}

/// Makes the pins those of another version.
fn age(fence: &Remains) -> PathBuf {
    let pins = fence.instance.pin_folder();
    let other = pins.with_file_name("v0");
    fs::rename(pins, &other).unwrap();
    other
}

fn attach(fence: &Remains, rules: &Arc<CompiledPolicy>) -> (Kernel, Attached) {
    let kernel = Kernel::open(&fence.instance, &fence.parent).unwrap();
    let synced = kernel.sync(&in_force(rules)).unwrap();
    let attached = kernel.attach(&fence.parent, &synced).unwrap();
    (kernel, attached)
}

#[test]
fn hooks_of_another_version_go_when_this_one_s_stand() {
    let (_lab, rules) = lab();
    let mut fence = Fence::new(&rules);
    let (_, mut worker) = fence.worker();
    let fence = fence.without_agent();
    let other = age(&fence);
    let link = bpf::open_pin(&other.join("link_egress")).unwrap();
    let on = || bpf::link_info(link.as_fd()).unwrap().cgroup;
    assert_eq!(
        worker.ask(OPEN),
        "ok",
        "control: they stand without an agent"
    );

    let (_kernel, attached) = attach(&fence, &rules);
    let cgroup = fence.parent.session(SessionId(50), &LIMITS).unwrap();
    let _admitted = attached.admit(SessionId(50), cgroup.id(), POLICY).unwrap();
    let mut fresh = Worker::start(cgroup.path());
    assert_eq!(on(), fence.parent.id().0, "until they are taken off");
    assert_eq!(fresh.ask(OPEN), "EPERM", "they know no session of this one");
    assert_eq!(worker.ask(OPEN), "EPERM", "which knows none of theirs");

    assert_eq!(attached.supersede().unwrap(), []);
    assert_eq!(on(), 0);
    assert!(!other.exists());
    assert_eq!(fresh.ask(OPEN), "ok");
    assert_eq!(fresh.ask(REFUSED), "EPERM");
    assert_eq!(worker.ask(OPEN), "EPERM");
    assert_eq!(
        attached.supersede().unwrap(),
        [],
        "there is no other any more"
    );
    drop(fresh);
    cgroup.kill().unwrap();
    cgroup.remove().unwrap();
}

/// A cgroup that somebody else has made.
struct Foreign(PathBuf);

impl Foreign {
    fn new(fence: &Remains) -> Self {
        let name = format!("{}-foreign", fence.instance.name());
        let path = cgroup::mount_point().unwrap().join(name);
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    fn ground(&self, fence: &Remains) -> Ground {
        Ground::open(&self.0, &fence.parent).unwrap()
    }
}

impl Drop for Foreign {
    fn drop(&mut self) {
        let killed = fs::write(self.0.join("cgroup.kill"), "1");
        // Its last process may be on its way out.
        let gone = (0..100).any(|_| {
            thread::sleep(Duration::from_millis(20));
            fs::remove_dir(&self.0).is_ok()
        });
        if !thread::panicking() {
            killed.unwrap();
            assert!(gone, "a process is still in it");
        }
    }
}

#[test]
fn an_outpost_keeps_the_hooks_of_another_version_until_it_has_this_one_s() {
    const SESSION: SessionId = SessionId(60);
    let (_lab, rules) = lab();
    let fence = Fence::new(&rules);
    let foreign = Foreign::new(&fence.remains);
    let ground = foreign.ground(&fence.remains);
    fence.attached.occupy(SESSION, &ground, POLICY).unwrap();
    let mut worker = Worker::start(&foreign.0);
    let mut is_fenced = || {
        assert_eq!(worker.ask(OPEN), "ok");
        assert_eq!(worker.ask(REFUSED), "EPERM");
    };
    is_fenced();
    let fence = fence.without_agent();
    let other = age(&fence);

    let (_kernel, attached) = attach(&fence, &rules);
    assert_eq!(attached.supersede().unwrap(), [SESSION]);
    let left: Vec<_> = fs::read_dir(&other).unwrap().flatten().collect();
    assert_eq!(left.len(), 1, "its own hooks alone: {left:?}");
    is_fenced();
    attached.occupy(SESSION, &ground, POLICY).unwrap();
    assert_eq!(attached.supersede().unwrap(), []);
    assert!(!other.exists());
    is_fenced();

    let other = age(&fence);
    fs::create_dir(fence.instance.pin_folder()).unwrap();
    attached.leave(SESSION, ground.id()).unwrap();
    assert!(!other.join("attached_60").exists());
    assert_eq!(worker.ask(REFUSED), "ok", "who is detached is free of both");
}
