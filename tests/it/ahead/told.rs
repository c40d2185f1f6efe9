//! What operators see of the places, and how they switch them off; and that a program which a template
//! has found before is not run when it was replaced.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::Path,
    thread::sleep,
    time::{Duration, Instant},
};

use lab::{
    Lab,
    agent::{Agent, CONFIGURATION, METRICS},
    binary::Scratch,
    cgroup,
    patience::scaled,
};

const SCRIPT: &str = r#"
version = 1
tool = "script"
[worker]
command = ["{scratch}/tool"]
protocol = "exec"
[filesystem]
read = ["/usr"]
execute = ["/usr/bin", "/bin", "{scratch}"]
"#;
/// Longer than a changed file is not taken for granted.
const SETTLED: Duration = Duration::from_millis(2_500);

fn write(folder: &Path, says: &str) {
    let path = folder.join("new");
    fs::write(&path, format!("#!/bin/sh\necho {says} \"$@\"\n")).expect("a file");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("its mode");
    fs::rename(path, folder.join("tool")).expect("its name");
}

struct Scene {
    lab: Lab,
    agent: Agent,
}

fn scene(configuration: &str) -> Scene {
    let lab = Lab::new().expect("the lab can be made");
    let scratch = Scratch::new().expect("a folder");
    scratch.write(CONFIGURATION, configuration).expect("a file");
    write(scratch.path(), "one");
    let agent = Agent::start_in(lab.host(), scratch, &[("script", SCRIPT)]).expect("an agent");
    Scene { lab, agent }
}

impl Scene {
    fn says(&self, arguments: &[&str]) -> String {
        let output = self.agent.run("script", arguments).expect("it is started");
        let said = String::from_utf8(output.stdout).expect("text");
        assert!(output.status.success(), "{said}{}", self.agent.log());
        said.trim().to_owned()
    }

    fn places(&self, what: &str) -> u64 {
        let status = self.agent.json("status").expect("the agent answers");
        let number = status.get("places").and_then(|places| places.get(what));
        number
            .and_then(serde_json::Value::as_u64)
            .expect("a number")
    }

    fn becomes(&self, what: &str, number: u64) {
        let until = Instant::now() + scaled(Duration::from_secs(10));
        while self.places(what) != number {
            assert!(Instant::now() < until, "{what}: {}", self.places(what));
            sleep(Duration::from_millis(20));
        }
    }

    fn metric(&self, name: &str, labels: &[&str]) -> f64 {
        let text = lab::metrics::get(self.lab.host(), METRICS, "/metrics").expect("metrics");
        lab::metrics::sum(&lab::metrics::parse(&text), name, labels)
    }

    fn ends(self) {
        let left = self.agent.end().expect("the agent ends");
        assert_eq!(left, Vec::<String>::new());
    }
}

fn is(found: f64, expected: u32) -> bool {
    (found - f64::from(expected)).abs() < 0.1
}

#[test]
fn status_and_metrics_tell_of_places() {
    let scene = scene("");
    assert_eq!(scene.places("max"), 32);
    assert_eq!(scene.places("made"), 0);
    scene.says(&[]);
    scene.becomes("waiting", 1);
    assert_eq!((scene.places("missed"), scene.places("used")), (1, 0));
    scene.says(&[]);
    scene.becomes("made", 2);
    assert_eq!((scene.places("missed"), scene.places("used")), (1, 1));
    scene.becomes("waiting", 1);
    assert!(is(scene.metric("stockade_places", &["tool=\"script\""]), 1));
    let changed = SCRIPT.replace("\"/bin\", ", "\"/bin\", \"/usr/sbin\", ");
    scene
        .agent
        .write_policy("script", &changed)
        .expect("it is written");
    scene.agent.reload().expect("the agent reloads");
    scene.becomes("waiting", 0);
    let gone = |why| scene.metric("stockade_places_gone_total", &[why]);
    assert!(is(gone("why=\"used\""), 1));
    assert!(is(gone("why=\"withdrawn\""), 1));
    let made = scene.metric("stockade_places_made_total", &["result=\"success\""]);
    assert!(is(made, 2));
    let page = scene.agent.command(&["status"]).expect("it answers").stdout;
    let page = String::from_utf8_lossy(&page).into_owned();
    assert!(
        page.contains("places    0 of 32 wait: 2 made, 0 not, 1 used,"),
        "{page}"
    );
    scene.ends();
}

#[test]
fn none_is_made_where_they_are_switched_off() {
    let scene = scene("[sessions]\nahead = 0\n");
    for _ in 0..3 {
        scene.says(&[]);
    }
    assert_eq!((scene.places("max"), scene.places("made")), (0, 0));
    assert_eq!(scene.places("missed"), 3);
    let vacant = cgroup::vacant(scene.agent.instance()).expect("cgroup v2");
    assert!(vacant.is_empty(), "{vacant:?}");
    scene.ends();
}

#[test]
fn a_program_that_was_replaced_is_not_run() {
    let scene = scene("");
    sleep(SETTLED);
    for argument in ["a", "b", "c"] {
        assert_eq!(scene.says(&[argument]), format!("one {argument}"));
    }
    write(scene.agent.scratch().path(), "two");
    assert_eq!(scene.says(&["d"]), "two d");
    sleep(SETTLED);
    assert_eq!(scene.says(&["e"]), "two e");
    assert_eq!(scene.says(&["f"]), "two f");
    let tool = scene.agent.scratch().path().join("tool");
    fs::write(&tool, "#!/bin/sh\necho three\n").expect("it is written");
    assert_eq!(scene.says(&[]), "three");
    scene.ends();
}
