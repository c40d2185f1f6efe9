//! Cgroups of sessions.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use common::{decide::Mode, flow::TCP, id::SessionId};

use nix::mount::{MntFlags, MsFlags, mount, umount2};

use super::{
    lab::{Fence, Lab},
    policies::{LIMITS, NO_LIMITS, open, policy},
    worker::Worker,
};
use crate::kernel::cgroup::{self, MeasuredBy};

#[test]
fn a_child_cgroup_is_the_same_session() {
    let lab = Lab::new();
    lab.tcp("93.184.216.34:443");
    let rules = [open("93.184.216.34/32", TCP, 443, 7)];
    let mut fence = Fence::new(&policy(Mode::Enforce, NO_LIMITS, &rules));
    let (session, _worker) = fence.worker();
    let below = fence.cgroup(session).path().join("a/b");
    fs::create_dir_all(&below).unwrap();
    let mut nested = Worker::start(&below);
    assert_eq!(nested.ask("tcp 93.184.216.34:443"), "ok");
    assert_eq!(nested.ask("tcp 93.184.216.34:80"), "EPERM");
}

#[test]
fn a_session_is_killed_and_removed_with_all_below_it() {
    let _lab = Lab::new();
    let mut fence = Fence::new(&policy(Mode::Enforce, NO_LIMITS, &[]));
    let (session, _worker) = fence.worker();
    let cgroup = fence.cgroup(session);
    fs::create_dir_all(cgroup.path().join("a/b")).unwrap();
    let nested = Worker::start(&cgroup.path().join("a/b"));
    assert!(cgroup.is_populated().unwrap());
    cgroup.kill().unwrap();
    drop(nested);
    cgroup.remove().unwrap();
    assert!(!cgroup.path().exists());
    cgroup.remove().unwrap();
}

#[test]
fn leftovers_are_found_and_limits_are_honest() {
    let _lab = Lab::new();
    let fence = Fence::new(&policy(Mode::Enforce, NO_LIMITS, &[]));
    let parent = &fence.remains.parent;
    let made = parent.session(SessionId(77), &LIMITS).unwrap();
    let controllers = fs::read_to_string(parent.path().join("cgroup.controllers")).unwrap();
    for measure in made.measures() {
        match &measure.by {
            MeasuredBy::Controller { name, .. } => assert!(controllers.contains(name)),
            MeasuredBy::Missing { reason } => assert!(reason.contains("controller")),
        }
    }
    assert_eq!(made.measures(), parent.measures(&LIMITS));
    assert_eq!(made.measures().len(), 4);
    let found = cgroup::leftovers(parent).unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].session(), SessionId(77));
    assert_eq!(found[0].id(), made.id());
    found[0].remove().unwrap();
}

/// A mount point: as busy, for whoever would remove it, as a cgroup whose process can not be killed.
struct Busy(PathBuf);

impl Busy {
    fn new(cgroup: &Path) -> Self {
        let none = None::<&str>;
        mount(Some(cgroup), cgroup, none, MsFlags::MS_BIND, none).unwrap();
        Self(cgroup.to_owned())
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        umount2(&self.0, MntFlags::MNT_DETACH).unwrap();
    }
}

#[test]
fn a_leftover_that_can_not_be_removed_holds_up_nothing_and_is_tried_again() {
    let _lab = Lab::new();
    let fence = Fence::new(&policy(Mode::Enforce, NO_LIMITS, &[]));
    let parent = &fence.remains.parent;
    let session = parent.session(SessionId(77), &LIMITS).unwrap();
    let free = parent.session(SessionId(78), &LIMITS).unwrap();
    let place = parent.path().join("session-place-of-nobody");
    fs::create_dir(&place).unwrap();
    let busy = [Busy::new(&place), Busy::new(session.path())];
    let left = cgroup::leftovers(parent).unwrap();
    assert_eq!(left.len(), 2, "a place is no session: {left:?}");
    parent.end_leftovers(&left).unwrap();
    drop(left);
    assert!(!free.path().exists());
    let stuck = || parent.stuck().into_iter().collect::<BTreeSet<_>>();
    let both = BTreeSet::from([place.clone(), session.path().to_owned()]);
    assert_eq!(stuck(), both);
    parent.retry_stuck();
    assert_eq!(stuck(), both, "they are busy still");
    drop(busy);
    parent.retry_stuck();
    assert_eq!(stuck(), BTreeSet::new());
    assert!(!place.exists() && !session.path().exists());
}
