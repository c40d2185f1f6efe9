//! Unix sockets under the hooks alone: workers are root, see the whole host, and no filter holds them.
//! On a kernel without these hooks the same acts succeed, which is what the other layers are for.

use std::{
    os::{
        linux::net::SocketAddrExt,
        unix::net::{SocketAddr, UnixDatagram, UnixListener},
    },
    path::{Path, PathBuf},
    sync::Arc,
};

use common::{decide::Mode, id::RuleId, verdict::Reason};

use super::{
    lab::{Fence, Lab},
    policies::{NO_LIMITS, policy},
};
use crate::policy::compiled::{CompiledPolicy, Profile, Rule, RuleKind, Target};

struct Sockets {
    folder: tempfile::TempDir,
    _listeners: [UnixListener; 3],
    _datagrams: UnixDatagram,
}

fn abstract_name() -> String {
    format!("stockade-kernel-test-{:?}", std::thread::current().id())
}

impl Sockets {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let hidden = SocketAddr::from_abstract_name(abstract_name()).unwrap();
        Self {
            _listeners: [
                UnixListener::bind(at("door")).unwrap(),
                UnixListener::bind(at("doors")).unwrap(),
                UnixListener::bind_addr(&hidden).unwrap(),
            ],
            _datagrams: UnixDatagram::bind(at("datagrams")).unwrap(),
            folder,
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

fn with_doors(doors: &[&Path], profile: Profile) -> Arc<CompiledPolicy> {
    let mut policy = (*policy(Mode::Enforce, NO_LIMITS, &[])).clone();
    policy.syscalls.profile = profile;
    policy.egress.rules = doors
        .iter()
        .map(|path| Rule {
            // The names differ in length.
            id: RuleId(path.as_os_str().len() as u64),
            kind: RuleKind::Local,
            target: Target::Unix(path.to_path_buf()),
            protocol: 0,
            ports: Vec::new(),
            reason: String::new(),
            line: 1,
            text: format!("unix {}", path.display()),
        })
        .collect();
    Arc::new(policy)
}

/// What comes of an act that the hooks refuse: on a kernel without them it works.
fn refused(fence: &Fence) -> &'static str {
    if fence.kernel.inner.unix_hooks {
        "EPERM"
    } else {
        "ok"
    }
}

#[test]
fn a_path_is_reached_that_is_a_door_to_the_letter() {
    let _lab = Lab::new();
    let sockets = Sockets::new();
    let door = sockets.path("door");
    let mut fence = Fence::new(&with_doors(&[&door], Profile::Default));
    let (_, mut worker) = fence.worker();
    let refused = refused(&fence);
    let link = sockets.path("link");
    std::os::unix::fs::symlink(sockets.path("doors"), &link).unwrap();
    let mut ask = |verb: &str, path: &str| worker.ask(&format!("{verb} {path}"));
    let text = |name: &str| sockets.path(name).display().to_string();
    assert_eq!(ask("unix", &text("door")), "ok");
    assert_eq!(ask("unix", &text("doors")), refused);
    assert_eq!(ask("unix", &text("link")), refused);
    assert_eq!(ask("unix", &text("./door")), refused);
    assert_eq!(
        ask("unix", &format!("/proc/self/root{}", text("door"))),
        refused
    );
    assert_eq!(ask("unix-abstract", &abstract_name()), refused);
    assert_eq!(ask("unix-datagram", &text("datagrams")), refused);
    assert_eq!(ask("unix-datagram-connect", &text("datagrams")), refused);
    if fence.kernel.inner.unix_hooks {
        assert_eq!(fence.count(Reason::UnixSocket), 5);
        assert_eq!(fence.count(Reason::SocketType), 2);
        assert_eq!(fence.count(Reason::Rule), 1);
    }
}

#[test]
fn a_push_opens_and_shuts_doors_at_once() {
    let _lab = Lab::new();
    let sockets = Sockets::new();
    let (door, other) = (sockets.path("door"), sockets.path("doors"));
    let mut fence = Fence::new(&with_doors(&[], Profile::Default));
    let (_, mut worker) = fence.worker();
    let refused = refused(&fence);
    let to = |path: &Path| format!("unix {}", path.display());
    assert_eq!(worker.ask(&to(&door)), refused);
    fence.push(&with_doors(&[&door], Profile::Default));
    assert_eq!(worker.ask(&to(&door)), "ok");
    assert_eq!(worker.ask(&to(&other)), refused);
    fence.push(&with_doors(&[&other], Profile::Default));
    assert_eq!(worker.ask(&to(&door)), refused);
    assert_eq!(worker.ask(&to(&other)), "ok");
    // A new agent takes the links over; nothing was open in between, and old doors are gone.
    let remains = fence.without_agent();
    assert_eq!(worker.ask(&to(&door)), refused);
    assert_eq!(worker.ask(&to(&other)), "ok");
    drop(worker);
    drop(remains);
}

#[test]
fn the_profile_with_names_of_its_own_has_no_abstract_ones() {
    let _lab = Lab::new();
    let sockets = Sockets::new();
    let mut fence = Fence::new(&with_doors(&[], Profile::Interpreter));
    let (_, mut worker) = fence.worker();
    let refused = refused(&fence);
    let path = sockets.path("door");
    assert_eq!(worker.ask(&format!("unix {}", path.display())), "ok");
    assert_eq!(
        worker.ask(&format!("unix-abstract {}", abstract_name())),
        refused
    );
    // The profile alone changes, no rule does: that is a change too.
    fence.push(&with_doors(&[], Profile::Default));
    assert_eq!(worker.ask(&format!("unix {}", path.display())), refused);
}
