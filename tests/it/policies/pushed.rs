//! What a push changes, shows beforehand and keeps, and what it refuses.

use std::{fs, os::unix::fs::PermissionsExt as _, time::Duration};

use lab::prober::{Answer, Prober};
use serde_json::Value;

use super::{Scene, eventually, other, prober};

const KEPT: &str = "socket inet stream; connect 185.199.110.7:8443; send 5; recv; keep kept";
const DROPPED: &str = "socket inet stream; connect 93.184.216.34:443; send 5; recv; keep idle";
const AGAIN: &str = "socket inet stream; connect 93.184.216.34:443";

fn ask(prober: &mut Prober, script: &str) -> Answer {
    prober.ask(script).expect("the prober answers")
}

/// The policy without one of its rules.
fn narrower() -> String {
    let text = prober().replace("93.184.216.34/32", "151.101.1.1/32");
    assert_ne!(text, prober());
    text
}

#[test]
fn a_push_is_shown_first_then_holds_at_once_and_can_be_put_back() {
    let scene = Scene::new(None);
    let mut worker = scene.worker();
    assert!(ask(&mut worker, KEPT).ok);
    assert!(ask(&mut worker, DROPPED).ok);
    let before = scene.digest();
    let new = scene.file("prober.toml", &narrower());

    let shown = scene.done(&["push", "--dry-run", &new]);
    for line in [
        "- cidr 93.184.216.34/32",
        "+ cidr 151.101.1.1/32",
        "! 93.184.216.34:443/tcp of session",
    ] {
        assert!(shown.contains(line), "no `{line}`:\n{shown}");
    }
    assert!(!shown.contains("185.199"), "{shown}");
    let diff = scene.policy(&["diff", &new]);
    assert_eq!(diff.status.code(), Some(1), "{diff:?}");
    assert_eq!(scene.digest(), before, "only shown");
    assert!(ask(&mut worker, "use idle; send 5; recv").ok, "only shown");

    let said = scene.done(&["push", &new]);
    assert!(said.contains("is in force: 1 tools"), "{said}");
    assert_eq!(ask(&mut worker, AGAIN).errno(), "EPERM");
    assert!(ask(&mut worker, "use kept; send 5; recv").ok);
    let written = fs::read_to_string(scene.in_folder("prober.toml")).expect("it is there");
    assert!(written.contains("151.101.1.1/32"));
    assert_eq!(scene.names(), ["prober.toml"]);
    let after = scene.digest();
    assert_ne!(after, before);
    scene
        .agent
        .reload()
        .expect("the folder is what is in force");
    assert_eq!(scene.digest(), after);

    let listed: Value = serde_json::from_str(&scene.done(&["history", "--json"])).expect("JSON");
    assert_eq!(listed["in_force"], after.as_str());
    let origins: Vec<&Value> = listed["sets"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|set| &set["origin"])
        .collect();
    assert_eq!(origins, ["start", "push"]);

    scene.done(&["rollback"]);
    assert_eq!(scene.digest(), before);
    assert!(ask(&mut worker, AGAIN).ok, "the rule is there again");
    let written = fs::read_to_string(scene.in_folder("prober.toml")).expect("it is there");
    assert!(written.contains("93.184.216.34/32"));
    scene.done(&["rollback", &after[..10]]);
    assert_eq!(scene.digest(), after);
    assert!(
        scene
            .refused(&["rollback", "feedfeed"], 2)
            .contains("hint: `stockade policy history`")
    );

    let wanted = [
        ("start", &before),
        ("push", &after),
        ("rollback", &before),
        ("rollback", &after),
    ];
    is_recorded(&scene, &wanted);
    scene.journal_is_whole();
}

/// The journal has each change in turn, with the set before it and who asked.
fn is_recorded(scene: &Scene, wanted: &[(&str, &String)]) {
    let records = scene.records("policies");
    let told: Vec<(Option<&str>, Option<&str>)> = records
        .iter()
        .map(|record| (record["origin"].as_str(), record["after"].as_str()))
        .collect();
    let wanted: Vec<(Option<&str>, Option<&str>)> = wanted
        .iter()
        .map(|(origin, digest)| (Some(*origin), Some(digest.as_str())))
        .collect();
    assert_eq!(told, wanted, "{records:?}");
    assert_eq!(records[1]["before"], records[0]["after"]);
    assert_eq!(records[1]["caller"]["uid"], 0);
}

#[test]
fn one_bad_file_among_good_ones_changes_nothing() {
    let scene = Scene::new(None);
    let before = scene.digest();
    let good = scene.file("good.toml", &other("good", "151.101.2.0/24"));
    let bad = scene.file("bad.toml", &other("bad", "10.0.0.0/8"));
    let said = scene.refused(&["push", &good, &bad], 65);
    assert!(said.contains("bad.toml"), "{said}");
    // Each is good alone, and the set has two files of one tool.
    let twice = scene.file("twice.toml", &other("good", "151.101.3.0/24"));
    assert!(
        scene
            .refused(&["push", &good, &twice], 65)
            .contains("already")
    );
    let taken = scene.file("prober.toml", &other("another", "151.101.3.0/24"));
    let said = scene.refused(&["push", &taken], 65);
    assert!(said.contains("is the file of the tool `prober`"), "{said}");
    assert_eq!(scene.digest(), before);
    assert_eq!(scene.names(), ["prober.toml"]);
    let status = scene.status();
    assert!(
        status["policy_error"].is_null(),
        "the folder is good: {status}"
    );
}

#[test]
fn a_tool_is_removed_with_its_sessions_and_a_set_replaced_whole() {
    let scene = Scene::new(None);
    let mut worker = scene.worker();
    assert!(ask(&mut worker, KEPT).ok);
    scene.done(&[
        "push",
        &scene.file("second.toml", &other("second", "151.101.2.0/24")),
    ]);
    let shown = scene.done(&["remove", "--dry-run", "prober"]);
    assert!(shown.contains("- tool prober"), "{shown}");
    assert!(shown.contains("of prober would end"), "{shown}");
    assert!(ask(&mut worker, "use kept; send 5; recv").ok, "only shown");
    scene.done(&["remove", "prober"]);
    eventually("the session lives on", Duration::from_secs(5), || {
        let sessions = scene.agent.json("sessions").expect("the agent answers");
        sessions.as_array().is_some_and(Vec::is_empty)
    });
    assert_eq!(scene.names(), ["second.toml"]);
    assert!(
        scene
            .refused(&["remove", "prober"], 65)
            .contains("no policy names it")
    );
    let third = scene.file("third.toml", &other("third", "151.101.4.0/24"));
    scene.done(&["push", "--replace", &third]);
    assert_eq!(scene.names(), ["third.toml"]);
}

#[test]
fn schemas_come_along_and_go_with_their_tool() {
    let scene = Scene::new(None);
    let text = "version = 1\ntool = \"verbs\"\n[worker]\ncommand = [\"/usr/bin/true\"]\nprotocol = \"json\"\n\
                [filesystem]\nexecute = [\"/usr/bin\"]\n\
                [[verb]]\nname = \"go\"\nscope = \"verbs:go\"\narguments = \"schemas/go.json\"\n";
    let schema = "{\"type\":\"object\",\"properties\":{},\"additionalProperties\":false}";
    scene.file("schemas/go.json", schema);
    scene.done(&["push", &scene.file("verbs.toml", text)]);
    let place = scene.in_folder("schemas/go.json");
    assert_eq!(fs::read_to_string(&place).expect("it came along"), schema);
    let mode = fs::metadata(&place)
        .expect("it is there")
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o644);
    scene.agent.reload().expect("the folder is whole");
    scene.done(&["remove", "verbs"]);
    assert!(!place.exists());
    scene.done(&["rollback"]);
    assert_eq!(fs::read_to_string(&place).expect("it is back"), schema);
}

#[test]
fn edits_that_were_never_put_in_force_are_not_lost_and_not_taken_along() {
    let scene = Scene::new(None);
    let before = scene.digest();
    scene
        .agent
        .write_policy("edited", &other("edited", "151.101.9.0/24"))
        .expect("it is written");
    let new = scene.file("second.toml", &other("second", "151.101.2.0/24"));
    let said = scene.refused(&["push", &new], 75);
    assert!(said.contains("hint: `stockade reload`"), "{said}");
    assert_eq!(scene.digest(), before);
    assert_eq!(scene.names(), ["edited.toml", "prober.toml"]);
    scene.agent.reload().expect("it is good");
    scene.done(&["push", &new]);
    assert_eq!(scene.names(), ["edited.toml", "prober.toml", "second.toml"]);
}

#[test]
fn a_watched_folder_is_read_after_a_second_of_quiet() {
    let scene = Scene::new(Some("policies_watch = true\n"));
    let before = scene.digest();
    scene
        .agent
        .write_policy("second", &other("second", "151.101.2.0/24"))
        .expect("it is written");
    eventually("not read", Duration::from_secs(15), || {
        scene.digest() != before
    });
    let good = scene.digest();
    scene
        .agent
        .write_policy("bad", "version = 7\n")
        .expect("it is written");
    eventually("not noticed", Duration::from_secs(15), || {
        scene.status()["policy_error"].is_string()
    });
    assert_eq!(scene.digest(), good, "the last good set stays");
    scene.agent.remove_policy("bad").expect("it is removed");
    eventually("not mended", Duration::from_secs(15), || {
        scene.status()["policy_error"].is_null()
    });
}
