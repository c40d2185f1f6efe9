//! The agent is killed while something in a session's cgroup goes on sending: the fence holds
//! without it, and through its restart.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use lab::{Lab, agent::Agent, binary::Scratch, cgroup, patience::scaled, prober::Prober};
use nix::mount::{MntFlags, MsFlags, mount, umount2};

use crate::rows;

const REFUSED: &str = "1.2.3.4";
const ALLOWED: &str = "93.184.216.34";

struct Scene {
    lab: Lab,
    agent: Agent,
    program: PathBuf,
}

fn scene() -> Scene {
    let lab = Lab::new().expect("the lab can be made");
    let scratch = Scratch::new().expect("a folder");
    let program = scratch.install("prober").expect("the prober is built");
    let policy = rows::POLICY.replace("{program}", "{scratch}");
    let agent = Agent::start_in(lab.host(), scratch, &[("prober", &policy)]).expect("an agent");
    Scene {
        lab,
        agent,
        program,
    }
}

impl Scene {
    fn worker(&self) -> Prober {
        let mut command = self.agent.tool("prober", &[]).expect("the binary is built");
        Prober::start(self.lab.host(), &mut command).expect("the worker starts")
    }

    /// A process that the agent knows nothing of, in the cgroup of the only session.
    fn helper(&self) -> Prober {
        let cgroups = cgroup::sessions(self.agent.instance()).expect("cgroup v2");
        let [cgroup] = cgroups.as_slice() else {
            panic!("one session: {cgroups:?}");
        };
        Prober::in_cgroup(self.lab.host(), &self.program, cgroup).expect("the helper starts")
    }

    fn arrived(&self, address: &str) -> u64 {
        let address = address.parse().expect("an address");
        self.lab.arrived_at(address).expect("the recorder answers")
    }
}

#[test]
fn the_fence_outlives_the_agent() {
    let mut scene = scene();
    let mut worker = scene.worker();
    assert!(worker.ask("sleep 1").expect("the worker answers").ok);
    let mut senders: Vec<Prober> = (0..3).map(|_| scene.helper()).collect();
    let mut talker = scene.helper();
    let open = talker
        .ask(&format!(
            "socket inet stream; connect {ALLOWED}:443; send 5; recv; keep c"
        ))
        .expect("the helper answers");
    assert!(open.ok, "{open:?}");
    for (sender, script) in senders.iter_mut().zip([
        format!("socket inet dgram; pump {REFUSED}:443 6000 200"),
        format!("churn {REFUSED}:443 6000"),
        format!("socket inet dgram; pump {ALLOWED}:9000 6000 200"),
    ]) {
        sender.say(&script).expect("the helper listens");
    }
    std::thread::sleep(Duration::from_millis(500));
    let before = scene.arrived(ALLOWED);
    assert!(before > 100, "no load");
    scene.agent.kill().expect("the agent is killed");
    std::thread::sleep(Duration::from_millis(500));
    // Without an agent: what was allowed goes on, what was not does not.
    let alone = talker
        .ask("use c; send 5; recv")
        .expect("the helper answers");
    assert!(alone.ok, "{alone:?}");
    let fresh = talker.ask(&format!("socket inet stream; connect {REFUSED}:443"));
    assert_eq!(fresh.expect("the helper answers").errno(), "EPERM");
    assert!(scene.arrived(ALLOWED) > before, "the load has stopped");
    assert_eq!(scene.arrived(REFUSED), 0, "without an agent");
    scene.agent.launch().expect("the agent starts again");
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(scene.arrived(REFUSED), 0, "after the restart");
    // Leftovers of the dead agent's sessions are ended by the new one.
    let left = scene.agent.json("sessions").expect("the agent answers");
    assert_eq!(left.as_array().map(Vec::len), Some(0), "{left}");
    drop((worker, talker, senders));
    let mut worker = scene.worker();
    let again = worker
        .ask(&format!(
            "socket inet stream; connect {ALLOWED}:443; send 5; recv"
        ))
        .expect("the worker answers");
    assert!(again.ok, "{again:?}");
    let refused = worker.ask(&format!("socket inet stream; connect {REFUSED}:443"));
    assert_eq!(refused.expect("the worker answers").errno(), "EPERM");
    drop(worker);
    assert_eq!(scene.arrived(REFUSED), 0);
    assert_eq!(
        scene.agent.end().expect("the agent ends"),
        Vec::<String>::new()
    );
}

#[test]
fn a_worker_dies_with_its_agent() {
    let mut scene = scene();
    let mut worker = scene.worker();
    assert!(worker.ask("sleep 1").expect("the worker answers").ok);
    let cgroups = cgroup::sessions(scene.agent.instance()).expect("cgroup v2");
    let [session] = cgroups.as_slice() else {
        panic!("one session: {cgroups:?}");
    };
    assert!(
        !cgroup::processes(session).expect("a cgroup").is_empty(),
        "control"
    );
    // What was made for the next session is no exception.
    let place = place_ahead(&scene.agent);
    scene.agent.kill().expect("the agent is killed");
    let ended = (0..200).any(|_| {
        std::thread::sleep(Duration::from_millis(20));
        [session, &place]
            .iter()
            .all(|folder| cgroup::processes(folder).is_ok_and(|processes| processes.is_empty()))
    });
    assert!(ended, "a worker outlives its agent");
    assert!(worker.ask("sleep 1").is_err());
}

/// A mount point: as busy, for whoever would remove it, as a cgroup whose process can not be killed.
struct Busy(PathBuf);

impl Busy {
    fn new(cgroup: &Path) -> Self {
        let none = None::<&str>;
        mount(Some(cgroup), cgroup, none, MsFlags::MS_BIND, none).expect("a mount point");
        Self(cgroup.to_owned())
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        umount2(&self.0, MntFlags::MNT_DETACH).expect("it is a mount point");
    }
}

#[test]
fn an_agent_works_beside_what_it_can_not_remove() {
    let mut scene = scene();
    let mut worker = scene.worker();
    assert!(worker.ask("sleep 1").expect("the worker answers").ok);
    let cgroups = cgroup::sessions(scene.agent.instance()).expect("cgroup v2");
    let [left] = cgroups.as_slice() else {
        panic!("one session: {cgroups:?}");
    };
    let busy = Busy::new(left);
    scene.agent.kill().expect("the agent is killed");
    drop(worker);
    scene.agent.launch().expect("the agent starts again");
    let told = || {
        let status = scene.agent.json("status").expect("the agent answers");
        status["ailments"]
            .to_string()
            .contains("can not be removed")
    };
    assert!(told(), "status is silent about it");
    let journal = fs::read_to_string(scene.agent.journal()).expect("its journal");
    assert!(journal.contains("\"leftover\""), "{journal}");
    let mut worker = scene.worker();
    let works = worker
        .ask(&format!(
            "socket inet stream; connect {ALLOWED}:443; send 5; recv"
        ))
        .expect("the worker answers");
    assert!(works.ok, "{works:?}");
    // Nothing that is in it reaches anything.
    let mut helper = Prober::in_cgroup(scene.lab.host(), &scene.program, left).expect("it starts");
    let refused = helper.ask(&format!("socket inet stream; connect {ALLOWED}:443"));
    assert_eq!(refused.expect("the helper answers").errno(), "EPERM");
    drop((worker, helper, busy));
    let removed = (0..100).any(|_| {
        std::thread::sleep(scaled(Duration::from_millis(200)));
        !left.exists()
    });
    assert!(removed, "it is not tried again");
    assert!(!told(), "status tells of what is gone");
    assert_eq!(
        scene.agent.end().expect("the agent ends"),
        Vec::<String>::new()
    );
}

/// The cgroup in which process 1 of the next session waits.
fn place_ahead(agent: &Agent) -> std::path::PathBuf {
    let waits = |folder: &std::path::PathBuf| {
        cgroup::processes(folder).is_ok_and(|processes| processes.len() == 1)
    };
    let found = (0..200).find_map(|_| {
        std::thread::sleep(Duration::from_millis(20));
        let vacant = cgroup::vacant(agent.instance()).expect("cgroup v2");
        vacant.into_iter().find(waits)
    });
    found.expect("a place for the next session")
}
