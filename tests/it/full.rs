//! A host that has no room for another process: what is new is refused, what runs goes on.

use std::{
    fs,
    path::{Path, PathBuf},
};

use lab::{Lab, agent::Agent, binary::Scratch, cgroup, prober::Prober};

use crate::rows;

/// A process that can make no other one, by the controller of processes of either cgroup version.
struct Choked {
    folder: PathBuf,
    before: PathBuf,
}

impl Choked {
    fn new(pid: u32) -> Self {
        let first = Path::new("/sys/fs/cgroup/pids");
        let (root, controller) = if first.is_dir() {
            (first.to_owned(), ":pids:")
        } else {
            (cgroup::mount().expect("cgroup v2"), "0::")
        };
        let listed = fs::read_to_string(format!("/proc/{pid}/cgroup")).expect("it is there");
        let own = listed
            .lines()
            .find_map(|line| Some(line.split_once(controller)?.1));
        let own = own.expect("its cgroup").trim_start_matches('/');
        let folder = root.join(format!("stockade-full-{pid}"));
        fs::create_dir(&folder).expect("a cgroup");
        fs::write(folder.join("cgroup.procs"), pid.to_string()).expect("it moves");
        fs::write(folder.join("pids.max"), "1").expect("its bound");
        Self {
            folder,
            before: root.join(own),
        }
    }
}

impl Drop for Choked {
    fn drop(&mut self) {
        for pid in cgroup::processes(&self.folder).unwrap_or_default() {
            fs::write(self.before.join("cgroup.procs"), pid.to_string()).ok();
        }
        fs::remove_dir(&self.folder).ok();
    }
}

#[test]
fn a_launcher_that_can_make_no_process_keeps_its_sessions() {
    const CONNECT: &str = "socket inet stream; connect 93.184.216.34:443; send 5; recv";
    let lab = Lab::new().expect("the lab can be made");
    let scratch = Scratch::new().expect("a folder");
    scratch.install("prober").expect("the prober is built");
    let policy = rows::POLICY.replace("{program}", "{scratch}");
    let second = policy.replace("tool = \"prober\"", "tool = \"second\"");
    let policies = [("prober", policy.as_str()), ("second", second.as_str())];
    let agent = Agent::start_in(lab.host(), scratch, &policies).expect("an agent");
    let worker = |tool: &str| {
        let mut command = agent.tool(tool, &[]).expect("the binary is built");
        Prober::start(lab.host(), &mut command)
    };
    let mut runs = worker("prober").expect("it starts");
    assert!(runs.ask(CONNECT).expect("the worker runs").ok);
    let [_, launcher, ..] = crate::many::tree(agent.id().expect("it runs"))[..] else {
        panic!("agent and launcher");
    };
    let choked = Choked::new(launcher);
    // The first by name was tested at the start, the second has no template yet.
    let refused = agent.run("second", &[]).expect("it runs");
    assert_eq!(refused.status.code(), Some(125), "{refused:?}");
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(said.contains("the policy's template"), "{said}");
    assert!(runs.ask(CONNECT).expect("the worker answers").ok);
    drop(choked);
    let mut after = worker("second").expect("it starts");
    assert!(after.ask(CONNECT).expect("the worker answers").ok);
    drop((runs, after));
    assert_eq!(agent.end().expect("the agent ends"), Vec::<String>::new());
}
