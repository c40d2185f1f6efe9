//! Hooks of an attached cgroup that somebody takes off.

use std::{fs, path::Path};

use super::scene::{Cgroup, OTHER, POLICY, Scene, assert_fenced, assert_free, until};

#[test]
fn hooks_that_are_taken_off_are_told_and_put_back() {
    let scene = Scene::new(&[("service", POLICY)]);
    let cgroup = Cgroup::new("hooks");
    let mut program = scene.plain(cgroup.path());
    scene.attached("service", cgroup.words());
    assert_fenced(&mut program);
    let session = scene.attachments()[0]["session"].to_string();
    let mut taken = 0;
    for version in fs::read_dir(Path::new("/sys/fs/bpf").join(scene.agent.instance()))
        .expect("the instance's pins")
        .flatten()
    {
        let Ok(links) = fs::read_dir(version.path().join(format!("attached_{session}"))) else {
            continue;
        };
        for link in links.flatten() {
            fs::remove_file(link.path()).expect("a pin goes");
            taken += 1;
        }
    }
    assert!(taken > 0, "no hook of session {session} is pinned");
    // The kernel takes them off a moment after their pins.
    until(&mut program, OTHER, |answer| answer.ok);
    assert_free(&mut program);
    scene.becomes("open");
    let status = scene.agent.json("status").expect("the agent answers");
    let ailments = status["ailments"].to_string();
    assert!(ailments.contains("hooks taken off: "), "{status}");

    let (code, text) = scene.attach("service", cgroup.words(), &[]);
    assert_eq!(code, 0, "{text}");
    assert!(!text.contains("attached already"), "{text}");
    assert_fenced(&mut program);
    scene.becomes("fenced");
    drop(program);
    scene.end();
}
