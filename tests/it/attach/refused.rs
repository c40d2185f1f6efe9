//! What is not attached, and what is attached although no fence holds all of it.

use std::process::Command;

use lab::{binary, cgroup};
use serde_json::Value;

use super::scene::{Cgroup, OTHER, POLICY, Scene, ask, assert_fenced, assert_free};

#[test]
fn what_no_fence_holds_is_refused_unless_it_is_wanted() {
    let scene = Scene::new(&[("service", POLICY)]);
    let cgroup = Cgroup::new("raw");
    let mut program = scene.raw(cgroup.path());
    assert_free(&mut program);
    let (code, text) = scene.attach("service", cgroup.words(), &[]);
    assert_eq!(code, 1, "{text}");
    assert!(text.contains("keeps CAP_NET_RAW"), "{text}");
    assert!(text.contains("--weak"), "{text}");
    assert_free(&mut program);
    assert!(scene.attachments().is_empty());
    let told = Command::new(binary::stockade().expect("the binary is built"))
        .args(["audit", "query", "--outcome", "holes", "--json", "--file"])
        .arg(scene.agent.journal())
        .output();
    let told = told.expect("it runs").stdout;
    let told: Value = serde_json::from_slice(&told).expect("one object");
    assert_eq!(told["begun"]["record"], "attach_refused", "{told}");
    assert_eq!(told["begun"]["tool"], "service", "{told}");

    let (code, text) = scene.attach("service", cgroup.words(), &["--weak"]);
    assert_eq!(code, 0, "{text}");
    assert!(text.contains("weak: process"), "{text}");
    assert_fenced(&mut program);
    let sessions = scene.agent.json("sessions").expect("the agent answers");
    let weak = sessions[0]["attached"]["weak"][0]
        .as_str()
        .unwrap_or_default();
    assert!(weak.contains("CAP_NET_RAW"), "{sessions}");
    let status = scene.agent.json("status").expect("the agent answers");
    assert!(
        status["warnings"].to_string().contains("--weak"),
        "{status}"
    );
    drop(program);
    scene.end();
}

#[test]
fn processes_that_come_with_holes_make_no_sockets() {
    let scene = Scene::new(&[("service", POLICY)]);
    let cgroup = Cgroup::new("later");
    let mut plain = scene.plain(cgroup.path());
    assert_free(&mut plain);
    scene.attached("service", cgroup.words());
    assert_fenced(&mut plain);
    let mut raw = scene.raw(cgroup.path());
    let closed = scene.becomes("closed");
    assert!(
        closed["holes"].to_string().contains("CAP_NET_RAW"),
        "{closed}"
    );
    assert!(!ask(&mut raw, "socket inet stream").ok);
    raw.kill().expect("it is killed");
    scene.becomes("fenced");
    assert_fenced(&mut plain);
    drop((plain, raw));
    scene.end();
}

#[test]
fn a_socket_from_elsewhere_is_a_hole() {
    let scene = Scene::new(&[("service", POLICY)]);
    let cgroup = Cgroup::new("handed");
    // Made before the program moves into the cgroup, where no hook of the cgroup sees it.
    let elsewhere = cgroup::mount().expect("a hierarchy");
    let mut program = scene.plain(&elsewhere);
    let open = "socket inet stream; connect 93.184.216.34:8443; send 5; recv; keep old";
    assert!(ask(&mut program, open).ok);
    std::fs::write(cgroup.path().join("cgroup.procs"), program.id().to_string()).expect("moved");
    let (code, text) = scene.attach("service", cgroup.words(), &[]);
    assert_eq!(code, 1, "{text}");
    assert!(
        text.contains("holds a socket that was made elsewhere"),
        "{text}"
    );
    // What the refusal is about: even under `--weak` that socket goes on.
    let (code, text) = scene.attach("service", cgroup.words(), &["--weak"]);
    assert_eq!(code, 0, "{text}");
    assert!(ask(&mut program, "use old; send 5; recv").ok);
    assert_eq!(ask(&mut program, OTHER).errno(), "EPERM");
    drop(program);
    scene.end();
}

#[test]
fn cgroups_that_are_not_for_this_are_refused() {
    let other = POLICY.replace("\"service\"", "\"other\"");
    let scene = Scene::new(&[("service", POLICY), ("other", &other)]);
    let cgroup = Cgroup::new("outer");
    let below = Cgroup::at(cgroup.path().join("inner"));
    let root = cgroup::mount().expect("a hierarchy");
    let workers = root.join(scene.agent.instance());
    let pid = scene.agent.id().expect("it runs");
    let text = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).expect("its cgroup");
    let own = text.lines().find_map(|line| line.strip_prefix("0::/"));
    let own = root.join(own.expect("a cgroup"));
    let missing = root.join("attach-nobody-made-this");
    for (path, says) in [
        (root.as_path(), "the root of the hierarchy"),
        (workers.as_path(), "workers have fences of their own"),
        (missing.as_path(), "has no cgroup now"),
        (std::path::Path::new("/tmp"), "no cgroup of the cgroup v2"),
        (std::path::Path::new("tmp"), "not an absolute path"),
    ] {
        let words = ["--cgroup", path.to_str().expect("text")];
        let (code, text) = scene.attach("service", words, &[]);
        assert!(
            code != 0 && text.contains(says),
            "{}: {text}",
            path.display()
        );
    }
    if own != root {
        let words = ["--cgroup", own.to_str().expect("text")];
        let (code, text) = scene.attach("service", words, &[]);
        assert!(code != 0 && text.contains("the agent is in it"), "{text}");
    }
    let (code, text) = scene.attach("servise", cgroup.words(), &[]);
    assert!(code == 1 && text.contains("hint: `service`?"), "{text}");
    scene.attached("service", cgroup.words());
    let (code, text) = scene.attach("other", cgroup.words(), &[]);
    assert!(
        code == 1 && text.contains("attached already, with the policy `service`"),
        "{text}"
    );
    let (code, text) = scene.attach("other", below.words(), &[]);
    assert!(code == 1 && text.contains("lies in the other"), "{text}");
    scene.detach(cgroup.words());
    scene.attached("other", below.words());
    let (code, text) = scene.attach("service", cgroup.words(), &[]);
    assert!(code == 1 && text.contains("lies in the other"), "{text}");
    drop(below);
    scene.end();
}

#[test]
fn nobody_inside_takes_the_fence_away() {
    let scene = Scene::new(&[("service", POLICY)]);
    let cgroup = Cgroup::new("inside");
    scene.attached("service", cgroup.words());
    let [how, what] = cgroup.words();
    let detach = scene.agent.verb(&["detach", how, what]).expect("a command");
    let mut words = vec![
        "-c".to_owned(),
        "echo $$ > \"$1\"/cgroup.procs && shift && exec \"$@\"".to_owned(),
        "sh".to_owned(),
        what.to_owned(),
        detach.get_program().to_str().expect("text").to_owned(),
    ];
    words.extend(
        detach
            .get_args()
            .map(|word| word.to_str().expect("text").to_owned()),
    );
    let output = std::process::Command::new("/bin/sh")
        .args(&words)
        .output()
        .expect("it runs");
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(77), "{text}");
    assert!(text.contains("in an attached cgroup"), "{text}");
    let (code, text) = scene.detach(cgroup.words());
    assert_eq!(code, 0, "{text}");
    scene.end();
}
