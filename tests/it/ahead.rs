//! What waits for the next session of a policy: it is that session's when one is asked for, reaches
//! nothing before, is in no list, and goes with its policy, its agent and its time.

mod told;

use std::{
    fs,
    path::{Path, PathBuf},
    thread::sleep,
    time::{Duration, Instant},
};

use lab::{Lab, agent::Agent, binary::Scratch, cgroup, patience::scaled, prober::Prober};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::rows;

/// Longer than a place takes to be made or to go.
const SOON: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(20);
/// A program that has not changed for so long is known again without a look.
const SETTLED: Duration = Duration::from_secs(4);

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
        let mut worker = Prober::start(self.lab.host(), &mut command).expect("the worker starts");
        assert!(worker.ask("sleep 1").expect("the worker answers").ok);
        worker
    }

    /// The cgroup and process 1 of the only place that waits, when it does.
    fn place(&self) -> (PathBuf, u32) {
        soon(|| {
            let vacant = cgroup::vacant(self.agent.instance()).expect("cgroup v2");
            let [folder] = vacant.as_slice() else {
                return None;
            };
            let waiting = cgroup::processes(folder).unwrap_or_default();
            let settled = |pid| fs::read_to_string(format!("/proc/{pid}/comm")).ok();
            match waiting.as_slice() {
                [pid] if settled(*pid).as_deref() == Some("init\n") => Some((folder.clone(), *pid)),
                _ => None,
            }
        })
        .expect("one place, with one process")
    }

    fn sessions(&self) -> Vec<PathBuf> {
        cgroup::sessions(self.agent.instance()).expect("cgroup v2")
    }

    fn ends(self) {
        assert_eq!(
            self.agent.end().expect("the agent ends"),
            Vec::<String>::new()
        );
    }
}

fn soon<T>(found: impl Fn() -> Option<T>) -> Option<T> {
    let until = Instant::now() + scaled(SOON);
    loop {
        match found() {
            Some(found) => return Some(found),
            None if Instant::now() > until => return None,
            None => sleep(PAUSE),
        }
    }
}

fn is_gone(folder: &Path) -> bool {
    soon(|| (!folder.exists()).then_some(())).is_some()
}

#[test]
fn the_next_session_gets_what_waited() {
    let scene = scene();
    // The self-test at the start has one for a moment.
    let vacant = || cgroup::vacant(scene.agent.instance()).expect("cgroup v2");
    let none = soon(|| vacant().is_empty().then_some(()));
    assert!(none.is_some(), "a place before the first session");
    drop(scene.worker());
    let (folder, process_one) = scene.place();
    let listed = scene.agent.json("sessions").expect("the agent answers");
    assert_eq!(listed.as_array().map(Vec::len), Some(0), "{listed}");
    let worker = scene.worker();
    assert_eq!(scene.sessions(), std::slice::from_ref(&folder));
    let processes = cgroup::processes(&folder).expect("a cgroup");
    assert!(processes.contains(&process_one), "{processes:?}");
    assert_eq!(processes.len(), 2, "process 1 and its worker");
    let (next, _) = scene.place();
    assert_ne!(next, folder, "a place of its own for the session after it");
    drop(worker);
    assert!(is_gone(&folder), "the session's cgroup stays");
    scene.ends();
    assert!(!next.exists(), "what waited outlives the agent");
}

#[test]
fn what_waits_has_nothing_and_reaches_nothing() {
    const CONNECT: &str = "socket inet stream; connect 93.184.216.34:443";
    let scene = scene();
    drop(scene.worker());
    let (folder, pid) = scene.place();
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("its status");
    for line in [
        "CapEff:\t0000000000000000\n",
        "CapPrm:\t0000000000000000\n",
        "CapInh:\t0000000000000000\n",
        "CapBnd:\t0000000000000000\n",
        "CapAmb:\t0000000000000000\n",
        "NoNewPrivs:\t1\n",
        "Groups:\t \n",
        "Seccomp:\t2\n",
    ] {
        assert!(status.contains(line), "{line:?} not in {status}");
    }
    assert!(!status.contains("Uid:\t0"), "{status}");
    let mut open: Vec<_> = fs::read_dir(format!("/proc/{pid}/fd"))
        .expect("its descriptors")
        .map(|entry| fs::read_link(entry.expect("one").path()).expect("what it is"))
        .map(|target| target.display().to_string())
        .map(|target| target.split(':').next().unwrap_or_default().to_owned())
        .collect();
    open.sort();
    assert_eq!(open, ["/dev/null", "pipe", "pipe", "socket"]);
    let program = &scene.program;
    let mut helper = Prober::in_cgroup(scene.lab.host(), program, &folder).expect("it starts");
    let refused = helper.ask(CONNECT).expect("the helper answers");
    assert_eq!(refused.errno(), "EPERM");
    drop(helper);
    // The control: in the same cgroup, when it is a session's.
    let worker = scene.worker();
    assert_eq!(scene.sessions(), std::slice::from_ref(&folder));
    let mut helper = Prober::in_cgroup(scene.lab.host(), program, &folder).expect("it starts");
    let allowed = helper.ask(CONNECT).expect("the helper answers");
    assert!(allowed.ok, "{allowed:?}");
    drop((helper, worker));
    scene.ends();
}

#[test]
fn one_that_was_killed_is_not_used() {
    let scene = scene();
    drop(scene.worker());
    let (folder, _) = scene.place();
    fs::write(folder.join("cgroup.kill"), "1").expect("it is killed");
    drop(scene.worker());
    assert!(is_gone(&folder), "the place of the killed one stays");
    scene.place();
    scene.ends();
}

#[test]
fn a_place_goes_with_its_policy() {
    let scene = scene();
    drop(scene.worker());
    let (folder, _) = scene.place();
    let changed = rows::POLICY
        .replace("{program}", "{scratch}")
        .replace("93.184.216.34/32", "151.101.1.1/32");
    scene
        .agent
        .write_policy("prober", &changed)
        .expect("it is written");
    scene.agent.reload().expect("the agent reloads");
    assert!(is_gone(&folder), "a place under a policy that is no more");
    drop(scene.worker());
    let (folder, _) = scene.place();
    scene.agent.remove_policy("prober").expect("it is removed");
    scene.agent.reload().expect("the agent reloads");
    assert!(is_gone(&folder), "a place under a policy that is no more");
    scene.ends();
}

#[test]
fn a_place_of_a_killed_agent_is_no_session() {
    let mut scene = scene();
    drop(scene.worker());
    let (folder, _) = scene.place();
    let over = soon(|| scene.sessions().is_empty().then_some(()));
    assert!(over.is_some(), "the session does not end");
    scene.agent.kill().expect("the agent is killed");
    let empty = || {
        let processes = cgroup::processes(&folder).unwrap_or_default();
        processes.is_empty().then_some(())
    };
    assert!(soon(empty).is_some(), "what waits outlives its agent");
    scene.agent.launch().expect("the agent starts again");
    assert!(is_gone(&folder), "the place of an earlier agent stays");
    let journal = fs::read_to_string(scene.agent.journal()).expect("its journal");
    assert!(!journal.contains("\"leftover\""), "{journal}");
    drop(scene.worker());
    scene.ends();
}

#[test]
fn nobody_waits_for_long() {
    /// Longer than the agent lets one wait, and looks at it.
    const LONG: Duration = Duration::from_secs(80);
    let scene = scene();
    drop(scene.worker());
    let (folder, _) = scene.place();
    let until = Instant::now() + LONG;
    while folder.exists() && Instant::now() < until {
        sleep(Duration::from_secs(1));
    }
    assert!(!folder.exists(), "it waits still");
    drop(scene.worker());
    scene.ends();
}

#[test]
fn a_template_that_nobody_waits_for_any_more_costs_no_later_session() {
    let scene = scene();
    // A program that has just changed is looked up by the template at each launch.
    sleep(SETTLED);
    drop(scene.worker());
    scene.place();
    let agent = scene.agent.id().expect("the agent runs");
    let [_, _, template] = crate::many::tree(agent)[..] else {
        panic!("agent, launcher and template");
    };
    let template = Pid::from_raw(i32::try_from(template).expect("a number of a process"));
    kill(template, Signal::SIGSTOP).expect("it is stopped");
    // Of the place that waits; the next one is asked of a template that says nothing.
    drop(scene.worker());
    drop(scene.worker());
    // It goes on, or it could not end with the agent.
    kill(template, Signal::SIGCONT).ok();
    scene.ends();
}

#[test]
fn a_place_in_a_root_of_before_an_update_is_not_used() {
    let lab = Lab::new().expect("the lab can be made");
    let scratch = Scratch::new().expect("a folder");
    let program = scratch.install("prober").expect("the prober is built");
    let data = program.with_file_name("data");
    fs::write(&data, "old").expect("a file");
    let policy = rows::POLICY
        .replace("{program}", "{scratch}")
        .replace("read = [\"/usr\"]", "read = [\"/usr\", \"{scratch}/data\"]");
    let agent = Agent::start_in(lab.host(), scratch, &[("prober", &policy)]).expect("an agent");
    let scene = Scene {
        lab,
        agent,
        program,
    };
    drop(scene.worker());
    let (folder, _) = scene.place();
    let new = data.with_extension("new");
    fs::write(&new, "new").expect("a file");
    fs::rename(&new, &data).expect("it is replaced");
    // A root is looked at no more often than once a second.
    sleep(Duration::from_millis(1_200));
    let worker = scene.worker();
    assert!(!scene.sessions().contains(&folder), "the old root is used");
    drop(worker);
    assert!(is_gone(&folder), "the place stays");
    scene.place();
    scene.ends();
}
