//! Attached: what somebody else starts is fenced, over restarts of it and of the agent.

mod elsewhere;
mod hidden;
mod hooks;
mod refused;
mod scene;
mod units;

use std::fs;

use self::scene::{
    ALLOWED, Cgroup, NAME, OTHER, POLICY, Scene, ask, assert_closed, assert_fenced, assert_free,
    until,
};

#[test]
fn a_cgroup_is_fenced_and_set_free_again() {
    let scene = Scene::new(&[("service", POLICY)]);
    let cgroup = Cgroup::new("plain");
    let below = Cgroup::at(cgroup.path().join("below"));
    let mut program = scene.plain(cgroup.path());
    let mut deeper = scene.plain(below.path());
    assert_free(&mut program);
    assert_free(&mut deeper);
    let open = "socket inet stream; connect 93.184.216.34:8443; send 5; recv; keep old";
    assert!(ask(&mut program, open).ok);
    let datagrams = "socket inet dgram; connect 93.184.216.34:443; send 5; recv; keep udp";
    assert!(ask(&mut program, datagrams).ok);

    let (code, text) = scene.attach("service", cgroup.words(), &[]);
    assert_eq!(code, 0, "{text}");
    assert!(text.contains("sockets from before destroyed"), "{text}");
    assert_fenced(&mut program);
    assert_fenced(&mut deeper);
    let cut = ask(&mut program, "use old; send 5; recv");
    assert!(!cut.ok, "{cut:?}");
    let cut = ask(&mut program, "use udp; send 5; recv");
    assert!(!cut.ok, "{cut:?}");

    let sessions = scene.agent.json("sessions").expect("the agent answers");
    let path = cgroup.path().to_str().expect("text");
    assert_eq!(sessions[0]["tool"], "service", "{sessions}");
    assert_eq!(sessions[0]["attached"]["cgroup"], path, "{sessions}");
    let status = scene.agent.json("status").expect("the agent answers");
    assert_eq!(status["attachments"][0]["state"], "fenced", "{status}");
    assert_eq!(status["sessions"], 0, "{status}");
    let (code, text) = scene.attach("service", cgroup.words(), &[]);
    assert!(code == 0 && text.contains("attached already"), "{text}");

    let (code, text) = scene.detach(cgroup.words());
    assert_eq!(code, 0, "{text}");
    assert_free(&mut program);
    assert_free(&mut deeper);
    assert_eq!(scene.attachments(), Vec::<serde_json::Value>::new());
    let (code, text) = scene.detach(cgroup.words());
    assert!(code == 1 && text.contains("is not attached"), "{text}");
    let journal = fs::read_to_string(scene.agent.journal()).expect("a journal");
    for record in ["\"attached\"", "\"detached\""] {
        let count = journal.matches(&format!("\"record\":{record}")).count();
        assert_eq!(count, 1, "{record}\n{journal}");
    }
    drop((program, deeper));
    scene.end();
}

#[test]
fn a_fence_outlives_the_agent() {
    let mut scene = Scene::new(&[("service", POLICY)]);
    let cgroup = Cgroup::new("outlives");
    let mut program = scene.plain(cgroup.path());
    assert_free(&mut program);
    scene.attached("service", cgroup.words());
    assert_fenced(&mut program);
    let open = "socket inet stream; connect 185.199.110.7:8443; send 5; recv; keep open";
    assert!(ask(&mut program, open).ok);
    let session = scene.attachments()[0]["session"].clone();

    scene.agent.kill().expect("it is killed");
    assert_closed(&mut program);
    assert!(ask(&mut program, ALLOWED).ok);
    let unanswered = ask(&mut program, NAME);
    assert!(!unanswered.ok, "nobody answers names: {unanswered:?}");

    scene.agent.launch().expect("it starts again");
    // Ready means that it is as it was.
    assert_fenced(&mut program);
    assert_eq!(scene.attachments()[0]["session"], session);
    let kept = ask(&mut program, "use open; send 5; recv");
    assert!(kept.ok, "its connection goes on: {kept:?}");
    let (code, text) = scene.detach(cgroup.words());
    assert_eq!(code, 0, "{text}");
    assert_free(&mut program);
    drop(program);
    scene.end();
}

#[test]
fn how_weak_a_fence_is_outlives_the_agent() {
    let mut scene = Scene::new(&[("service", POLICY)]);
    let cgroup = Cgroup::new("weakness");
    let mut program = scene.plain(cgroup.path());
    assert_free(&mut program);
    let (code, text) = scene.attach("service", cgroup.words(), &["--weak"]);
    assert_eq!(code, 0, "{text}");
    // An order for a fence that stands changes nothing but this.
    for weak in [false, true] {
        let more: &[&str] = if weak { &["--weak"] } else { &[] };
        assert_eq!(scene.attachments()[0]["weak"], !weak);
        let (code, text) = scene.attach("service", cgroup.words(), more);
        assert!(code == 0 && text.contains("attached already"), "{text}");
        assert_eq!(scene.attachments()[0]["weak"], weak);
        scene.agent.kill().expect("it is killed");
        scene.agent.launch().expect("it starts again");
        assert_eq!(scene.attachments()[0]["weak"], weak);
        assert_fenced(&mut program);
    }
    drop(program);
    scene.end();
}

#[test]
fn a_cgroup_that_is_made_again_is_fenced_again() {
    let mut scene = Scene::new(&[("service", POLICY)]);
    let cgroup = Cgroup::new("again");
    let mut program = scene.plain(cgroup.path());
    assert_free(&mut program);
    scene.attached("service", cgroup.words());
    let first = scene.attachments()[0]["session"].clone();
    assert_fenced(&mut program);
    cgroup.remove();
    scene.becomes("absent");
    fs::create_dir(cgroup.path()).expect("a cgroup");
    let second = scene.becomes("fenced")["session"].clone();
    assert_ne!(first, second);
    let mut program = scene.plain(cgroup.path());
    assert_fenced(&mut program);
    // The same while no agent runs: the new cgroup is free until the next agent.
    scene.agent.kill().expect("it is killed");
    cgroup.make_again();
    let mut program = scene.plain(cgroup.path());
    assert!(ask(&mut program, OTHER).ok);
    scene.agent.launch().expect("it starts again");
    assert_fenced(&mut program);
    drop(program);
    scene.end();
}

#[test]
fn a_push_holds_for_what_is_attached() {
    let scene = Scene::new(&[("service", POLICY)]);
    let cgroup = Cgroup::new("push");
    let mut program = scene.plain(cgroup.path());
    assert_free(&mut program);
    scene.attached("service", cgroup.words());
    assert_fenced(&mut program);
    let open = "socket inet stream; connect 185.199.110.7:8443; send 5; recv; keep open";
    assert!(ask(&mut program, open).ok);
    let other = POLICY.replace("185.199.108.0/22", "93.184.216.34/32");
    scene
        .agent
        .write_policy("service", &other)
        .expect("written");
    scene.agent.reload().expect("the agent reloads");
    assert!(ask(&mut program, OTHER).ok);
    assert_eq!(ask(&mut program, ALLOWED).errno(), "EPERM");
    until(&mut program, "use open; patience 50; recv", |answer| {
        answer.errno() == "ECONNABORTED" || (answer.ok && answer.received == 0)
    });

    // Without its policy nothing is reached, and that is said.
    scene
        .agent
        .write_policy("other", &POLICY.replace("\"service\"", "\"other\""))
        .expect("written");
    scene.agent.remove_policy("service").expect("removed");
    scene.agent.reload().expect("the agent reloads");
    for script in [ALLOWED, OTHER, NAME] {
        let answer = ask(&mut program, script);
        assert!(!answer.ok, "{script}: {answer:?}");
    }
    let closed = scene.becomes("closed");
    assert!(
        closed["why"]
            .as_str()
            .is_some_and(|why| why.contains("everything is refused")),
        "{closed}"
    );
    scene
        .agent
        .write_policy("service", POLICY)
        .expect("written");
    scene.agent.reload().expect("the agent reloads");
    assert_fenced(&mut program);
    let (code, text) = scene.detach(cgroup.words());
    assert_eq!(code, 0, "{text}");
    assert_free(&mut program);
    drop(program);
    scene.end();
}

#[test]
fn an_instance_that_is_removed_leaves_no_fence() {
    let scene = Scene::new(&[("service", POLICY)]);
    let cgroup = Cgroup::new("removed");
    let mut program = scene.plain(cgroup.path());
    scene.attached("service", cgroup.words());
    assert_fenced(&mut program);
    scene.end();
    // The world is gone with the scene: what is free hears of nobody there, not of a fence.
    let answer = ask(
        &mut program,
        "patience 50; socket inet stream; connect 93.184.216.34:8443",
    );
    assert_ne!(answer.errno(), "EPERM", "{answer:?}");
}

/// The program's sockets stay as they are while its fence goes and another one comes.
#[test]
fn what_one_fence_has_judged_counts_nothing_in_the_next() {
    const DATAGRAM: &str = "sendto 93.184.216.34:443 5; recv";
    let wide = format!(
        "{POLICY}\n[[egress.allow]]\ncidr = \"93.184.216.34/32\"\nprotocol = \"udp\"\nports = [443]\n"
    );
    let narrow = POLICY.replace("tool = \"service\"", "tool = \"narrow\"");
    let scene = Scene::new(&[("service", &wide), ("narrow", &narrow)]);
    let cgroup = Cgroup::new("judged");
    let mut program = scene.plain(cgroup.path());
    scene.attached("service", cgroup.words());
    let opened = ask(
        &mut program,
        &format!("socket inet dgram; {DATAGRAM}; keep udp"),
    );
    assert!(opened.ok, "{opened:?}");
    // As its last judgement says, which is the quick way.
    let again = ask(&mut program, &format!("use udp; {DATAGRAM}; keep udp"));
    assert!(again.ok, "{again:?}");

    let (code, text) = scene.detach(cgroup.words());
    assert_eq!(code, 0, "{text}");
    let free = ask(&mut program, &format!("use udp; {DATAGRAM}; keep udp"));
    assert!(free.ok, "{free:?}");
    scene.attached("narrow", cgroup.words());
    let judged = ask(&mut program, &format!("use udp; {DATAGRAM}; keep udp"));
    assert!(!judged.ok, "{judged:?}");
    let fresh = ask(&mut program, &format!("socket inet dgram; {DATAGRAM}"));
    assert!(!fresh.ok, "{fresh:?}");
    drop(program);

    // Whoever has the policy still goes on as before.
    let (code, text) = scene.detach(cgroup.words());
    assert_eq!(code, 0, "{text}");
    let mut program = scene.plain(cgroup.path());
    scene.attached("service", cgroup.words());
    for _ in 0..2 {
        let allowed = ask(
            &mut program,
            &format!("socket inet dgram; {DATAGRAM}; {DATAGRAM}"),
        );
        assert!(allowed.ok, "{allowed:?}");
    }
    drop(program);
    scene.end();
}
