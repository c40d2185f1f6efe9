//! Hundreds of sessions at once: all launched, fenced and ended, nothing left behind.

use std::process::Command;

use lab::{Lab, agent::Agent, binary::Scratch, cgroup, prober::Prober};

use crate::{counts, rows};

const AT_ONCE: usize = 200;

#[test]
fn hundreds_of_sessions_leave_nothing_behind() {
    let lab = Lab::new().expect("the lab can be made");
    let scratch = Scratch::new().expect("a folder");
    scratch.install("prober").expect("the prober is built");
    let policy = rows::POLICY.replace("{program}", "{scratch}");
    let agent = Agent::start_in(lab.host(), scratch, &[("prober", &policy)]).expect("an agent");
    let total = usize::try_from(counts::sessions()).expect("a count");
    for _ in 0..total.div_ceil(AT_ONCE) {
        round(&lab, &agent);
    }
    let sessions = agent.json("sessions").expect("the agent answers");
    assert_eq!(sessions.as_array().map(Vec::len), Some(0), "{sessions}");
    assert_eq!(
        cgroup::sessions(agent.instance()).expect("cgroup v2"),
        Vec::<std::path::PathBuf>::new()
    );
    assert_eq!(agent.end().expect("the agent ends"), Vec::<String>::new());
}

fn round(lab: &Lab, agent: &Agent) {
    let mut commands: Vec<Command> = (0..AT_ONCE)
        .map(|_| agent.tool("prober", &[]).expect("the binary is built"))
        .collect();
    let mut probers: Vec<Prober> = commands
        .iter_mut()
        .map(|command| Prober::start(lab.host(), command).expect("a worker starts"))
        .collect();
    for prober in &mut probers {
        prober
            .say("patience 5000; socket inet stream; connect 93.184.216.34:443; send 5; recv")
            .expect("the worker listens");
        prober
            .say("socket inet stream; connect 1.2.3.4:443")
            .expect("the worker listens");
    }
    for prober in &mut probers {
        let allowed = prober.hear().expect("the worker answers");
        assert!(allowed.ok, "{allowed:?}");
        let refused = prober.hear().expect("the worker answers");
        assert_eq!(refused.errno(), "EPERM");
    }
    let alive = cgroup::sessions(agent.instance()).expect("cgroup v2");
    assert_eq!(alive.len(), AT_ONCE, "sessions at once");
    for prober in probers {
        let status = prober.end().expect("the worker ends");
        assert!(status.success(), "{status}");
    }
}
