//! The kernel's part of a fence alone: hooks on a cgroup, and a prober in it as root, without
//! seccomp, landlock or namespaces.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use agent::{
    config::Instance,
    kernel::{Attached, Kernel, PolicyInForce, Synced, cgroup, remove_pins},
    policy::{
        self,
        compiled::{CompiledPolicy, Limits},
    },
};
use common::{
    event::Event,
    id::{PolicyId, SessionId},
    verdict::{Outcome, Reason},
};
use lab::{
    Lab,
    binary::Scratch,
    prober::Prober,
    server::{Listener, Servers},
};

/// What the host itself listens on, for rows that dial this host.
pub(crate) const HOST_LISTENERS: &[Listener] = &[Listener::Echo(7100), Listener::UdpEcho(7100)];
const SLOT: PolicyId = PolicyId(1);
const WAKE: Duration = Duration::from_millis(100);

/// Compiles a policy whose `{program}` is a folder.
pub(crate) fn compiled(text: &str, program: &Path) -> Arc<CompiledPolicy> {
    let text = text.replace("{program}", &program.display().to_string());
    let compiled = policy::compile("test.toml", &text);
    Arc::new(compiled.unwrap_or_else(|error| panic!("{error}")))
}

/// What stands of an instance on this host. It goes whatever becomes of a test, even of one whose
/// fence can not be finished.
struct Traces {
    instance: Instance,
    parent: cgroup::Parent,
}

impl Drop for Traces {
    fn drop(&mut self) {
        // Each step is tried whatever became of the one before; a test that fails says why itself.
        for session in cgroup::leftovers(&self.parent).unwrap_or_default() {
            drop(session.kill());
            drop(session.remove());
        }
        drop(remove_pins(&self.instance));
        for _ in 0..100 {
            if fs::remove_dir(self.parent.path()).is_ok() {
                break;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// The hooks of an instance of their own, in a lab of their own.
pub(crate) struct HookFence {
    pub(crate) lab: Lab,
    pub(crate) host: Servers,
    pub(crate) kernel: Kernel,
    pub(crate) attached: Attached,
    pub(crate) session: cgroup::SessionCgroup,
    pub(crate) events: Arc<Mutex<Vec<Event>>>,
    pub(crate) parent_path: PathBuf,
    limits: Limits,
    program: PathBuf,
    ended: Arc<AtomicBool>,
    reader: Option<JoinHandle<()>>,
    traces: Traces,
    _scratch: Scratch,
}

impl HookFence {
    /// Loads, syncs one policy, attaches, admits session 1.
    pub(crate) fn new(policy_text: &str) -> Self {
        let lab = Lab::new().expect("the lab can be made");
        let host = Servers::start(lab.host(), HOST_LISTENERS).expect("the host listens");
        let scratch = Scratch::new().expect("a folder");
        let program = scratch.install("prober").expect("the prober is built");
        let policy = compiled(policy_text, scratch.path());
        let instance = Instance::new(&lab::agent::instance_name()).expect("a name");
        let parent = cgroup::Parent::create(&instance).expect("the parent cgroup");
        let traces = Traces { instance, parent };
        let Traces { instance, parent } = &traces;
        let kernel = lab
            .host()
            .enter(|| Kernel::open(instance, parent))
            .expect("the namespace")
            .expect("the programs load");
        let synced = sync(&kernel, &policy);
        let attached = lab
            .host()
            .enter(|| kernel.attach(parent, &synced))
            .expect("the namespace")
            .expect("the hooks attach");
        let session = parent
            .session(SessionId(1), &policy.limits)
            .expect("the session's cgroup");
        let _admitted = attached
            .admit(SessionId(1), session.id(), SLOT)
            .expect("the session is admitted");
        let (events, ended) = (Arc::default(), Arc::new(AtomicBool::new(false)));
        let reader = read_rings(&lab, &kernel, Arc::clone(&events), Arc::clone(&ended));
        Self {
            parent_path: parent.path().to_owned(),
            lab,
            host,
            kernel,
            attached,
            session,
            events,
            limits: policy.limits,
            program,
            ended,
            reader: Some(reader),
            traces,
            _scratch: scratch,
        }
    }

    /// A prober in a session of its own, under the same policy.
    pub(crate) fn neighbour(&self) -> (SessionId, Prober) {
        let id = SessionId(2);
        let session = self.traces.parent.session(id, &self.limits);
        let session = session.expect("the session's cgroup");
        let admitted = self.attached.admit(id, session.id(), SLOT);
        let _admitted = admitted.expect("the session is admitted");
        (id, self.prober_in(session.path()))
    }

    /// Puts another policy in force.
    pub(crate) fn swap(&self, policy: &Arc<CompiledPolicy>) {
        let _synced = sync(&self.kernel, policy);
    }

    /// A prober in the session's cgroup.
    pub(crate) fn prober(&self) -> Prober {
        self.prober_in(self.session.path())
    }

    /// A prober in some cgroup.
    pub(crate) fn prober_in(&self, cgroup: &Path) -> Prober {
        Prober::in_cgroup(self.lab.host(), &self.program, cgroup).expect("the prober starts")
    }

    /// A prober in no cgroup of the instance.
    pub(crate) fn bare(&self) -> Prober {
        Prober::bare(self.lab.host(), &self.program).expect("the prober starts")
    }

    /// Refusals told so far, by reason.
    pub(crate) fn refusals(&self) -> BTreeMap<Reason, u64> {
        let mut all = BTreeMap::new();
        for event in lock(&self.events).iter() {
            let reason = Reason::from_number(event.reason);
            if event.outcome == Outcome::Deny as u8
                && let Some(reason) = reason
            {
                *all.entry(reason).or_default() += 1;
            }
        }
        all
    }

    /// Waits until a reason was told.
    pub(crate) fn awaits(&self, reason: Reason) -> bool {
        (0..100).any(|_| {
            let told = self.refusals().contains_key(&reason);
            if !told {
                std::thread::sleep(Duration::from_millis(20));
            }
            told
        })
    }
}

impl Drop for HookFence {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        if let Some(reader) = self.reader.take() {
            drop(reader.join());
        }
    }
}

fn sync(kernel: &Kernel, policy: &Arc<CompiledPolicy>) -> Synced {
    kernel
        .sync(&[PolicyInForce {
            id: SLOT,
            policy: Arc::clone(policy),
        }])
        .expect("the policy is published")
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Collects events and destroys the sockets that the programs order.
fn read_rings(
    lab: &Lab,
    kernel: &Kernel,
    events: Arc<Mutex<Vec<Event>>>,
    ended: Arc<AtomicBool>,
) -> JoinHandle<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let (mut ring, mut destroyer) = lab
        .host()
        .enter(|| {
            let _context = runtime.enter();
            let ring = kernel.events().expect("the event ring");
            (ring, kernel.destroyer().expect("the destroyer"))
        })
        .expect("the namespace");
    std::thread::spawn(move || {
        runtime.block_on(async {
            while !ended.load(Ordering::Relaxed) {
                tokio::select! {
                    event = ring.next() => lock(&events).push(event.expect("an event").event),
                    order = destroyer.next() => {
                        let order = order.expect("an order");
                        destroyer.carry_out(&order).expect("the order is carried out");
                    }
                    () = tokio::time::sleep(WAKE) => {}
                }
            }
        });
    })
}
