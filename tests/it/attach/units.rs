//! Units: by their names, and by a policy's `[match]`.

use std::fs;

use super::scene::{Cgroup, OTHER, POLICY, Scene, ask, assert_fenced, assert_free};

/// The policy with units of this test's own.
fn matching(tool: &str, glob: &str) -> String {
    let policy = POLICY.replace("\"service\"", &format!("{tool:?}"));
    format!("{policy}\n[match]\nunits = [{glob:?}]\n")
}

/// A slice of this test's own, and a name that no other test's units have.
fn slice(name: &str) -> (Cgroup, String) {
    let mount = lab::cgroup::mount().expect("a hierarchy");
    let stem = format!("attach{}{name}", std::process::id());
    (Cgroup::at(mount.join(format!("{stem}.slice"))), stem)
}

#[test]
fn a_unit_is_found_by_its_name() {
    let scene = Scene::new(&[("service", POLICY)]);
    let (slice, stem) = slice("name");
    let unit = format!("{stem}-a.service");
    let words = ["--unit", unit.as_str()];
    let (code, text) = scene.attach("service", words, &[]);
    assert!(code == 75 && text.contains("has no cgroup now"), "{text}");
    let cgroup = Cgroup::at(slice.path().join(&unit));
    let mut program = scene.plain(cgroup.path());
    assert_free(&mut program);
    scene.attached("service", words);
    assert_fenced(&mut program);
    cgroup.remove();
    scene.becomes("absent");
    fs::create_dir(cgroup.path()).expect("a cgroup");
    scene.becomes("fenced");
    let mut program = scene.plain(cgroup.path());
    assert_fenced(&mut program);
    // Another of that name, where anybody may make cgroups, is none; two are too many.
    let (code, text) = scene.detach(words);
    assert_eq!(code, 0, "{text}");
    let second = Cgroup::at(slice.path().join("attach-more.slice"));
    let double = Cgroup::at(second.path().join(&unit));
    let (code, text) = scene.attach("service", words, &[]);
    assert!(
        code != 0 && text.contains("2 cgroups have this name"),
        "{text}"
    );
    let (code, text) = scene.attach("service", ["--unit", "no/name.service"], &[]);
    assert!(code == 2 && text.contains("no name of a service"), "{text}");
    drop((program, double, second, cgroup, slice));
    scene.end();
}

#[test]
fn a_policy_names_units_that_are_there_and_that_come() {
    let (slice, stem) = slice("match");
    let present = Cgroup::at(slice.path().join(format!("{stem}-a.service")));
    let glob = format!("{stem}-*.service");
    let scene = Scene::new(&[("service", &matching("service", &glob))]);
    scene.becomes("fenced");
    let mut program = scene.plain(present.path());
    assert_fenced(&mut program);
    drop(program);
    drop(present);
    scene.becomes_empty();
    let coming = Cgroup::at(slice.path().join(format!("{stem}-b.service")));
    let stranger = Cgroup::at(slice.path().join(format!("{stem}.service")));
    let attached = scene.becomes("fenced");
    assert_eq!(attached["matched"], true, "{attached}");
    let mut program = scene.plain(coming.path());
    assert_fenced(&mut program);
    let mut free = scene.plain(stranger.path());
    assert_free(&mut free);
    let unit = format!("{stem}-b.service");
    let (code, text) = scene.detach(["--unit", &unit]);
    assert!(
        code == 1 && text.contains("`[match]` of the policy"),
        "{text}"
    );
    // Named no more, it is free.
    scene
        .agent
        .write_policy("service", POLICY)
        .expect("written");
    scene.agent.reload().expect("the agent reloads");
    super::until(&mut program, OTHER, |answer| answer.ok);
    drop((program, free, coming, stranger, slice));
    scene.end();
}

#[test]
fn a_unit_has_one_policy() {
    let (slice, stem) = slice("two");
    let (one, two) = (format!("{stem}-*.service"), format!("{stem}-a.service"));
    let scene = Scene::new(&[("one", &matching("one", &one))]);
    scene
        .agent
        .write_policy("two", &matching("two", &two))
        .expect("written");
    let refused = scene.agent.reload().expect_err("they collide").to_string();
    assert!(refused.contains("a unit has one policy"), "{refused}");
    // Where it can not be seen beforehand, nothing of either is put around the unit, and that is said.
    let hidden = format!("*{}-b.service", &stem[1..]);
    scene
        .agent
        .write_policy("two", &matching("two", &hidden))
        .expect("written");
    scene.agent.reload().expect("the agent reloads");
    let cgroup = Cgroup::at(slice.path().join(format!("{stem}-b.service")));
    let refused = scene.becomes("refused");
    assert!(
        refused["why"].to_string().contains("several policies"),
        "{refused}"
    );
    let mut program = scene.plain(cgroup.path());
    assert!(ask(&mut program, OTHER).ok);
    let journal = fs::read_to_string(scene.agent.journal()).expect("a journal");
    assert!(journal.contains("several_policies"), "{journal}");
    drop((program, cgroup, slice));
    scene.end();
}

#[test]
fn a_policy_under_another_name_takes_a_unit_over() {
    let (slice, stem) = slice("renamed");
    let glob = format!("{stem}-*.service");
    let scene = Scene::new(&[("first", &matching("first", &glob))]);
    let cgroup = Cgroup::at(slice.path().join(format!("{stem}-a.service")));
    assert_eq!(scene.becomes("fenced")["tool"], "first");
    let mut program = scene.plain(cgroup.path());
    assert_fenced(&mut program);
    scene
        .agent
        .write_policy("first", &matching("second", &glob))
        .expect("written");
    scene.agent.reload().expect("the agent reloads");
    assert_eq!(scene.becomes("fenced")["tool"], "second");
    assert_fenced(&mut program);
    // A restart finds the policy that there is.
    cgroup.make_again();
    let mut program = scene.plain(cgroup.path());
    scene.becomes("fenced");
    assert_fenced(&mut program);
    drop((program, cgroup, slice));
    scene.end();
}
