//! Processes of an attached cgroup in another network namespace than the agent's.

use lab::netns::Netns;

use super::scene::{Cgroup, NAME, OTHER_NAME, POLICY, Scene, ask};

/// No way leads out of the namespace: what passes the hooks ends at the lack of one.
const NO_WAY: &str = "ENETUNREACH";
const ALLOWED: &str = "socket inet stream; connect 185.199.110.7:8443";
const OTHER: &str = "socket inet stream; connect 93.184.216.34:8443";

#[test]
fn names_resolve_in_another_network_namespace() {
    let mut scene = Scene::new(&[("service", POLICY)]);
    let netns = Netns::new().expect("a namespace");
    let cgroup = Cgroup::new("netns");
    let mut program = scene.plain_in(&netns, cgroup.path());
    assert_eq!(ask(&mut program, ALLOWED).errno(), NO_WAY);
    assert_eq!(ask(&mut program, OTHER).errno(), NO_WAY);
    assert_eq!(ask(&mut program, NAME).errno(), NO_WAY);

    scene.attached("service", cgroup.words());
    let fenced = |program: &mut lab::prober::Prober| {
        assert_eq!(ask(program, ALLOWED).errno(), NO_WAY);
        assert_eq!(ask(program, OTHER).errno(), "EPERM");
        for name in [NAME, &NAME.replace("udp", "tcp")] {
            let answer = ask(program, name);
            let found = answer.values.iter().any(|value| value.contains("NOERROR"));
            assert!(answer.ok && found, "{answer:?}");
        }
        let answer = ask(program, OTHER_NAME);
        let found = answer.values.iter().any(|value| value.contains("NOERROR"));
        assert!(!found, "{answer:?}");
    };
    fenced(&mut program);
    // Somebody else there is nobody's worker.
    let mut stranger =
        lab::prober::Prober::bare(&netns, &scene.agent.scratch().path().join("prober"))
            .expect("it starts");
    let port = scene.agent.json("status").expect("the agent answers")["resolver"]["port"].clone();
    let asked = ask(
        &mut stranger,
        &format!("ask udp 127.0.0.1:{port} third.example A"),
    );
    assert!(
        !asked.values.iter().any(|value| value.contains("NOERROR")),
        "{asked:?}"
    );

    scene.agent.kill().expect("it is killed");
    assert_eq!(ask(&mut program, OTHER).errno(), "EPERM");
    assert!(!ask(&mut program, NAME).ok);
    scene.agent.launch().expect("it starts again");
    fenced(&mut program);

    let (code, text) = scene.detach(cgroup.words());
    assert_eq!(code, 0, "{text}");
    assert_eq!(ask(&mut program, OTHER).errno(), NO_WAY);
    // The sockets are given back: whoever wants the port there has it.
    let bound = ask(
        &mut stranger,
        &format!("socket inet dgram; bind 127.0.0.1:{port}"),
    );
    assert!(bound.ok, "{bound:?}");
    drop((program, stranger));
    scene.end();
}

#[test]
fn a_namespace_without_room_for_the_resolver_is_refused() {
    let scene = Scene::new(&[("service", POLICY)]);
    let port = scene.agent.json("status").expect("the agent answers")["resolver"]["port"].clone();
    let taken = Netns::new().expect("a namespace");
    let mut holder =
        lab::prober::Prober::bare(&taken, &scene.agent.scratch().path().join("prober"))
            .expect("it starts");
    let bound = ask(
        &mut holder,
        &format!("socket inet dgram; bind 127.0.0.1:{port}; keep port"),
    );
    assert!(bound.ok, "{bound:?}");
    let down = Netns::new().expect("a namespace");
    down.ip("link set lo down").expect("it goes down");
    for (netns, says) in [(&taken, "udp 127.0.0.1:"), (&down, "loopback")] {
        let cgroup = Cgroup::new("no-room");
        let mut program = scene.plain_in(netns, cgroup.path());
        let (code, text) = scene.attach("service", cgroup.words(), &[]);
        assert_eq!(code, 69, "{text}");
        assert!(text.contains(says), "{text}");
        assert_eq!(ask(&mut program, OTHER).errno(), NO_WAY);
    }
    assert!(scene.attachments().is_empty());
    drop(holder);
    scene.end();
}
