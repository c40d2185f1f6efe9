//! How sessions end, and that nothing is left.

use std::{fs, os::unix::fs::PermissionsExt, path::Path, time::Duration};

use agent::launcher::{Exit, LaunchError};
use lab::patience::scaled;

use super::room::{USR, policy, with_room};

fn processes(cgroup: &Path) -> usize {
    let list = fs::read_to_string(cgroup.join("cgroup.procs")).expect("the cgroup");
    list.lines().count()
}

#[test]
fn exit_codes_and_signals_are_passed_through() {
    with_room(async |room| {
        let usr = policy(USR);
        for (script, exit) in [
            ("exit 0", Exit::Code(0)),
            ("exit 42", Exit::Code(42)),
            ("kill -9 $$", Exit::Signal(9)),
            ("kill -15 $$", Exit::Signal(15)),
        ] {
            assert_eq!(room.sh(&usr, script).await.exit, exit, "{script}");
        }
        assert_eq!(Exit::Signal(9).shell_code(), 137);
    });
}

#[test]
fn signals_reach_the_worker() {
    let program = "import signal, sys, time\n\
                   signal.signal(15, lambda *_: sys.exit(3))\nprint('on', flush=True)\n\
                   time.sleep(60)";
    with_room(async |room| {
        let session = room
            .start(&policy(USR), &["/usr/bin/python3", "-c", program])
            .await
            .expect("a session");
        tokio::time::sleep(Duration::from_millis(300)).await;
        session.running.signal(15).expect("a signal");
        let ended = session.end().await;
        assert_eq!(ended.exit, Exit::Code(3), "{ended:?}");
    });
}

#[test]
fn daemons_end_with_the_session() {
    with_room(async |room| {
        let script = "setsid sleep 600 & setsid sleep 600 & sleep 0.3; exit 5";
        let session = room
            .start(&policy(USR), &["/usr/bin/sh", "-c", script])
            .await
            .expect("a session");
        let cgroup = session.cgroup.path().to_owned();
        tokio::time::sleep(Duration::from_millis(150)).await;
        assert!(processes(&cgroup) >= 4, "init, the shell and its daemons");
        let ended = session.end().await;
        assert_eq!(ended.exit, Exit::Code(5), "{ended:?}");
        assert_eq!(processes(&cgroup), 0);
    });
}

#[test]
fn a_dropped_session_is_killed() {
    with_room(async |room| {
        let session = room
            .start(&policy(USR), &["/usr/bin/sleep", "600"])
            .await
            .expect("a session");
        let cgroup = session.cgroup.path().to_owned();
        assert_eq!(processes(&cgroup), 2);
        drop(session);
        tokio::time::sleep(Duration::from_millis(500)).await;
        assert_eq!(processes(&cgroup), 0);
    });
}

#[test]
fn sessions_end_with_the_launcher() {
    with_room(async |room| {
        let mut session = room
            .start(
                &policy(USR),
                &["/usr/bin/sh", "-c", "setsid sleep 600 & sleep 600"],
            )
            .await
            .expect("a session");
        room.launcher.kill_process();
        let exit =
            tokio::time::timeout(scaled(Duration::from_secs(5)), session.running.wait()).await;
        assert_eq!(exit.expect("in time").expect("an exit"), Exit::Signal(9));
        session.running.gone().await.expect("the end");
        assert_eq!(processes(session.cgroup.path()), 0);
    });
}

#[test]
fn pins_are_checked() {
    with_room(async |room| {
        let folder = room.shared("pinned");
        let script = folder.join("tool");
        let write = |content: &str| {
            fs::write(&script, content).expect("the script");
            fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).expect("its mode");
        };
        write("#!/usr/bin/sh -e\necho \"$0\" \"$1\"\n");
        let sum = std::process::Command::new("/usr/bin/sha256sum")
            .arg(&script)
            .output()
            .expect("sha256sum");
        let sum = String::from_utf8_lossy(&sum.stdout)[..64].to_owned();
        let text = format!(
            "version = 1\ntool = \"fence-test\"\n[filesystem]\nread = [\"/usr\"]\n\
             execute = [\"/usr\", \"{folder}\"]\n[[worker.pin]]\npath = \"{script}\"\n\
             sha256 = \"{sum}\"\n",
            folder = folder.display(),
            script = script.display(),
        );
        let policy = policy(&text);
        let name = script.display().to_string();
        for _ in 0..2 {
            let ended = room.run(&policy, &[&name, "one"]).await;
            assert_eq!(ended.stdout, format!("{name} one\n"), "{ended:?}");
        }
        write("#!/usr/bin/sh -e\necho changed\n");
        let refused = room.start(&policy, &[&name]).await.map(drop);
        let Err(error @ LaunchError::Step(_)) = refused else {
            panic!("a changed file was started: {refused:?}");
        };
        let text = error.to_string();
        assert!(
            text.contains("pinned file") && text.contains(&sum),
            "{text}"
        );
    });
}

#[test]
fn what_can_not_be_started_says_why() {
    with_room(async |room| {
        let usr = policy(USR);
        let told = async |command: &[&str]| match room.start(&usr, command).await {
            Ok(_) => panic!("{command:?} was started"),
            Err(error) => error.to_string(),
        };
        let absent = told(&["/opt/absent"]).await;
        assert!(
            absent.contains("`/opt/absent`: not in the worker's root"),
            "{absent}"
        );
        let relative = told(&["sh"]).await;
        assert!(relative.contains("not absolute"), "{relative}");
        let folder = told(&["/usr/bin"]).await;
        assert!(folder.contains("not a regular file"), "{folder}");
        let data = told(&["/etc/hosts"]).await;
        assert!(data.contains("can not be executed"), "{data}");
        let missing = policy(&USR.replace("/etc/ssl", "/etc/absent"));
        let error = room.start(&missing, &["/usr/bin/true"]).await.map(drop);
        let error = error.expect_err("a missing path").to_string();
        assert!(error.contains("`/etc/absent`"), "{error}");
        // And none of it spoils the next.
        let ended = room.run(&usr, &["/usr/bin/true"]).await;
        assert_eq!(ended.exit, Exit::Code(0), "{ended:?}");
    });
}

#[test]
fn two_hundred_sessions_at_once_leave_nothing() {
    with_room(async |room| {
        let usr = policy(USR);
        let mut sessions = Vec::new();
        for number in 0..200 {
            let script = format!("echo {number} > /workdir/x; cat /workdir/x");
            let session = room.start(&usr, &["/usr/bin/sh", "-c", &script]).await;
            sessions.push((number, session.expect("a session")));
        }
        for (number, session) in sessions {
            let cgroup = session.cgroup.path().to_owned();
            let ended = session.end().await;
            assert_eq!(ended.stdout, format!("{number}\n"), "{ended:?}");
            assert_eq!(processes(&cgroup), 0);
        }
        let mounts = fs::read_to_string("/proc/self/mountinfo").expect("mounts");
        assert!(!mounts.contains("/run/fence-"), "{mounts}");
    });
}
