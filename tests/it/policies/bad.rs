//! Folders and files that must not be believed, at a reload and at a start; a full disk; a history that
//! is damaged.

use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, chown, symlink},
    path::{Path, PathBuf},
    process::Stdio,
};

use lab::{agent::METRICS, metrics};
use nix::mount::{MntFlags, MsFlags, mount, umount2};

use super::{Scene, other};

fn mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("its mode is set");
}

impl Scene {
    /// A start that has to fail; what the agent says.
    fn does_not_start(&self) -> String {
        let mut command = self.agent.agent_command().expect("the binary is built");
        command.stdout(Stdio::null());
        let output = self.lab.host().enter(|| command.output());
        let output = output.expect("the namespace").expect("it runs");
        assert_eq!(output.status.code(), Some(65), "{output:?}");
        String::from_utf8_lossy(&output.stderr).into_owned()
    }

    fn restart(&mut self) {
        self.agent.stop().expect("it ends");
        self.agent.launch().expect("it starts");
    }

    fn metric(&self, name: &str) -> f64 {
        let text = metrics::get(self.lab.host(), METRICS, "/metrics").expect("metrics");
        metrics::sum(&metrics::parse(&text), name, &[])
    }

    /// Refuses a reload for a reason, and is content after it is mended.
    fn refuses(&self, why: &str, spoil: impl FnOnce(), mend: impl FnOnce()) {
        let before = self.digest();
        spoil();
        let refused = self.agent.reload().expect_err(why);
        let said = format!("{refused:#}");
        assert!(
            said.contains(why) && said.contains("hint:"),
            "{why}: {said}"
        );
        assert_eq!(self.digest(), before, "{why}");
        let status = self.status();
        assert!(
            status["policy_error"]
                .as_str()
                .is_some_and(|text| text.contains(why)),
            "{status}"
        );
        mend();
        self.agent.reload().expect("it is mended");
    }
}

#[test]
fn what_others_could_have_written_is_refused_with_its_name() {
    let scene = Scene::new(None);
    let (folder, file) = (scene.agent.policies(), scene.in_folder("prober.toml"));
    for bits in [0o666, 0o664, 0o646] {
        scene.refuses(
            &format!("prober.toml`: mode {bits:04o}"),
            || mode(&file, bits),
            || mode(&file, 0o644),
        );
    }
    for bits in [0o777, 0o775, 0o1777] {
        scene.refuses(
            &format!("policies.d`: mode {bits:04o}"),
            || mode(&folder, bits),
            || mode(&folder, 0o755),
        );
    }
    scene.refuses(
        "belongs to uid 65534",
        || chown(&file, Some(65_534), None).expect("chown"),
        || chown(&file, Some(0), None).expect("chown"),
    );
    let open = scene.agent.scratch().path().join("open");
    fs::create_dir(&open).expect("a folder");
    mode(&open, 0o777);
    let link = scene.in_folder("linked.toml");
    fs::write(open.join("linked.toml"), other("linked", "151.101.7.0/24")).expect("it is written");
    scene.refuses(
        "/open`: mode 0777",
        || symlink(open.join("linked.toml"), &link).expect("a link"),
        || mode(&open, 0o755),
    );
    // A folder that others may write is not written by a push either.
    mode(&folder, 0o777);
    let new = scene.file("second.toml", &other("second", "151.101.2.0/24"));
    let said = scene.refused(&["push", "--replace", &new], 77);
    assert!(said.contains("hint: chmod go-w"), "{said}");
}

#[test]
fn a_start_with_a_bad_folder_puts_the_last_good_set_in_force() {
    let mut scene = Scene::new(None);
    scene.done(&[
        "push",
        &scene.file("second.toml", &other("second", "151.101.2.0/24")),
    ]);
    let good = scene.digest();
    let folder = scene.agent.policies();
    let aside = folder.with_extension("aside");
    let file = scene.in_folder("prober.toml");
    let spoilt: [(&str, &dyn Fn()); 3] = [
        ("bad.toml", &|| {
            fs::write(folder.join("bad.toml"), "version = 7\n").expect("written");
        }),
        ("mode 0666", &|| mode(&file, 0o666)),
        ("can not be read", &|| {
            fs::rename(&folder, &aside).expect("moved");
        }),
    ];
    for (why, spoil) in spoilt {
        scene.agent.stop().expect("it ends");
        spoil();
        scene.agent.launch().expect("it starts all the same");
        let status = scene.status();
        assert_eq!(super::digest(&status), good, "{why}");
        assert_eq!(
            status["policy_set"]["origin"], "last_good",
            "{why}: {status}"
        );
        let error = status["policy_error"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        assert!(
            error.contains(why) && error.contains(&good),
            "{why}: {error}"
        );
        assert!(
            status["ailments"].to_string().contains("policies"),
            "{status}"
        );
        assert!(
            (scene.metric("stockade_policy_last_good") - 1.0).abs() < 0.1,
            "{why}"
        );
        let sick = metrics::get(scene.lab.host(), METRICS, "/healthz").expect_err("it is not well");
        let sick = format!("{sick:#}");
        assert!(sick.contains(" 503 "), "{sick}");
        assert!(scene.agent.log().contains("the last good set is in force"));
        // Its tools work, and a plain push does not build on a folder that nobody knows.
        drop(scene.worker());
        let new = scene.file("third.toml", &other("third", "151.101.3.0/24"));
        scene.refused(&["push", &new], 75);
        if aside.exists() {
            fs::rename(&aside, &folder).expect("moved back");
        }
        mode(&folder, 0o755);
        scene.done(&["rollback", &good]);
        assert_eq!(scene.status()["policy_set"]["origin"], "rollback", "{why}");
        assert!(scene.metric("stockade_policy_last_good") < 0.1, "{why}");
        scene.restart();
        assert_eq!(scene.digest(), good);
        assert!(scene.status()["policy_error"].is_null());
    }
    scene.journal_is_whole();
}

#[test]
fn a_damaged_set_is_passed_over_and_without_any_the_agent_does_not_start() {
    let mut scene = Scene::new(None);
    let older = scene.digest();
    scene.done(&[
        "push",
        &scene.file("second.toml", &other("second", "151.101.2.0/24")),
    ]);
    let newer = scene.digest();
    scene.agent.stop().expect("it ends");
    fs::write(scene.in_folder("bad.toml"), "version = 7\n").expect("it is written");
    let sets = scene.agent.history().join("sets");
    let cut = |digest: &str| {
        let path = sets.join(digest);
        let length = fs::metadata(&path).expect("it is kept").len();
        let file = fs::File::options()
            .write(true)
            .open(path)
            .expect("it opens");
        file.set_len(length / 2).expect("it is cut");
    };
    cut(&newer);
    scene.agent.launch().expect("the older set is whole");
    assert_eq!(scene.digest(), older);
    assert!(scene.agent.log().contains("kept policy set not usable"));
    scene.agent.stop().expect("it ends");
    cut(&older);
    let said = scene.does_not_start();
    assert!(said.contains("bad.toml"), "{said}");
    fs::remove_file(scene.in_folder("bad.toml")).expect("it is removed");
    // A list that is damaged does not keep a good folder from being used.
    fs::write(scene.agent.history().join("history.json"), "[{").expect("it is written");
    scene.agent.launch().expect("the folder is good");
    assert_eq!(scene.digest(), newer);
    assert_eq!(scene.done(&["history"]).matches("in force").count(), 1);
}

/// A small disk in the place of a folder, as long as the value lives.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn at(folder: &Path) -> Self {
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
        let size = Some("size=256k,mode=0700");
        mount(Some("tmpfs"), folder, Some("tmpfs"), flags, size).expect("it is mounted");
        Self(folder.to_owned())
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        umount2(&self.0, MntFlags::MNT_DETACH).expect("it is taken away");
    }
}

#[test]
fn a_full_disk_refuses_a_push_and_leaves_everything_as_it_was() {
    let mut scene = Scene::new(None);
    scene.agent.stop().expect("it ends");
    let state = scene.agent.history();
    let disk = SmallDisk::at(&state);
    scene.agent.launch().expect("it starts on a small disk");
    let before = scene.digest();
    let filler = state.join("filler");
    // Cut off where the disk ends.
    fs::write(&filler, vec![0; 1 << 20]).expect_err("the disk is small");
    let rules: Vec<String> = (0..400)
        .map(|n| {
            let (high, low) = (n / 256, n % 256);
            format!("[[egress.allow]]\ncidr = \"20.1.{high}.{low}/32\"\nports = [443]\n")
        })
        .collect();
    let text = format!("version = 1\ntool = \"large\"\n{}", rules.concat());
    let new = scene.file("large.toml", &text);
    let said = scene.refused(&["push", &new], 73);
    assert!(said.contains("policy history"), "{said}");
    assert_eq!(scene.digest(), before);
    assert_eq!(scene.names(), ["prober.toml"]);
    // A reload is not refused: it may be what closes a hole. That it is not kept is said.
    scene
        .agent
        .write_policy("large", &text)
        .expect("it is written");
    scene.agent.reload().expect("it is in force");
    assert_ne!(scene.digest(), before);
    assert!(
        scene.status()["ailments"].to_string().contains("not kept"),
        "{}",
        scene.status()
    );
    assert!(scene.metric("stockade_policy_set_kept") < 0.1);
    fs::remove_file(&filler).expect("it is removed");
    scene.agent.reload().expect("it is in force");
    assert!((scene.metric("stockade_policy_set_kept") - 1.0).abs() < 0.1);
    scene.done(&["remove", "large"]);
    assert_eq!(scene.digest(), before);
    scene.agent.stop().expect("it ends");
    drop(disk);
}
