//! Process 1 of a session: what it holds, and what it does with signals, orphans and ends.

use std::{fs, os::unix::fs::MetadataExt, path::PathBuf, time::Duration};

use agent::launcher::Exit;
use lab::patience::scaled;

use super::room::{Session, USR, policy, with_room};

/// Longer than process 1 takes to become its own program, which the worker does not wait for.
const SETTLED: Duration = Duration::from_millis(300);

/// The folders of a session's processes in the host's `/proc`: process 1, and its worker.
fn processes(session: &Session) -> [PathBuf; 2] {
    let list = fs::read_to_string(session.cgroup.path().join("cgroup.procs")).expect("a cgroup");
    let mut found: Vec<_> = list
        .lines()
        .map(|pid| {
            let folder = PathBuf::from("/proc").join(pid);
            let status = fs::read_to_string(folder.join("status")).expect("its status");
            let inside = status.lines().find(|line| line.starts_with("NSpid:"));
            let inside = inside.and_then(|line| line.split_whitespace().last());
            let inside: u32 = inside.and_then(|pid| pid.parse().ok()).expect("a number");
            (inside, folder)
        })
        .collect();
    found.sort();
    match <[_; 2]>::try_from(found) {
        Ok([(1, init), (2, worker)]) => [init, worker],
        other => panic!("process 1 and its worker: {other:?}"),
    }
}

#[test]
fn it_holds_nothing_of_who_started_it() {
    with_room(async |room| {
        let session = room
            .start(&policy(USR), &["/usr/bin/sleep", "600"])
            .await
            .expect("a session");
        tokio::time::sleep(scaled(SETTLED)).await;
        let [init, worker] = processes(&session);
        let read = |name: &str| fs::read_to_string(init.join(name)).expect("a file of process 1");
        assert_eq!(read("environ"), "");
        assert_eq!(read("comm"), "init\n");
        assert_eq!(read("cmdline"), "init\0");
        let maps = read("maps");
        assert!(maps.lines().count() < 10, "{maps}");
        assert!(!maps.contains("heap") && !maps.contains("libc"), "{maps}");
        let mut open: Vec<_> = fs::read_dir(init.join("fd"))
            .expect("its descriptors")
            .map(|entry| fs::read_link(entry.expect("one").path()).expect("what it is"))
            .map(|target| target.display().to_string())
            .map(|target| target.split(':').next().unwrap_or_default().to_owned())
            .collect();
        open.sort();
        assert_eq!(open, ["/dev/null", "anon_inode", "pipe", "pipe"]);
        let status = read("status");
        for line in [
            "CapEff:\t0000000000000000\n",
            "CapPrm:\t0000000000000000\n",
            "CapBnd:\t0000000000000000\n",
            "NoNewPrivs:\t1\n",
            "Groups:\t \n",
        ] {
            assert!(status.contains(line), "{line:?} not in {status}");
        }
        // What can not be dumped is root's in `/proc`, and neither seen nor traced by its own user.
        let owner = |folder: &PathBuf| fs::metadata(folder.join("maps")).expect("a file").uid();
        assert_eq!(owner(&init), 0);
        assert_ne!(
            owner(&worker),
            0,
            "the control: a worker's own are its user's"
        );
        drop(session);
    });
}

#[test]
fn the_worker_never_sees_it() {
    // From its first instruction on, and for longer than process 1 takes to become its own program.
    let script = "i=0; while [ $i -lt 3000 ]; do i=$((i+1)); \
                  for file in environ maps mem stat fd/0 fd/1; do \
                  [ -e /proc/1/$file ] && echo $file; done; done; \
                  [ -e /proc/self/maps ] && echo control";
    with_room(async |room| {
        for _ in 0..5 {
            let ended = room.sh(&policy(USR), script).await;
            assert_eq!(ended.stdout, "control\n", "{ended:?}");
        }
    });
}

#[test]
fn a_worker_that_ends_at_once_is_told_right() {
    with_room(async |room| {
        let usr = policy(USR);
        for round in 0..100 {
            let ended = room.run(&usr, &["/usr/bin/true"]).await;
            assert_eq!(ended.exit, Exit::Code(0), "round {round}");
        }
    });
}

#[test]
fn a_worker_that_closes_its_streams_is_told_right() {
    with_room(async |room| {
        let script = "exec <&- >&- 2>&-; sleep 0.1; exit 9";
        let ended = room.sh(&policy(USR), script).await;
        assert_eq!(ended.exit, Exit::Code(9), "{ended:?}");
    });
}

#[test]
fn a_stopped_worker_is_no_ended_one() {
    with_room(async |room| {
        let script = "kill -STOP $$; exit 7";
        let mut session = room
            .start(&policy(USR), &["/usr/bin/sh", "-c", script])
            .await
            .expect("a session");
        let stopped = tokio::time::timeout(scaled(SETTLED), session.running.wait()).await;
        assert!(stopped.is_err(), "{stopped:?}");
        session.running.signal(libc::SIGCONT).expect("a signal");
        let ended = session.end().await;
        assert_eq!(ended.exit, Exit::Code(7), "{ended:?}");
    });
}

#[test]
fn orphans_are_reaped() {
    // Each is left behind by its parent at once, and ends soon; a zombie would still be listed.
    let script = "for i in 1 2 3 4 5 6 7 8; do (sleep 4 &); done; \
                  ls -d /proc/[0-9]* | wc -l; sleep 8; ls -d /proc/[0-9]* | wc -l";
    with_room(async |room| {
        let ended = room.sh(&policy(USR), script).await;
        let counts: Vec<u32> = ended
            .stdout
            .lines()
            .filter_map(|n| n.parse().ok())
            .collect();
        let [during, after] = counts.as_slice() else {
            panic!("{ended:?}");
        };
        // The shell, `ls` and `wc`.
        assert!(*after <= 3 && *during >= after + 8, "{ended:?}");
    });
}

#[test]
fn signals_of_any_number_reach_the_worker() {
    let program = "import signal, time\n\
                   got = []\n\
                   for s in (1, 2, 10, 12, 15, 34, 64): signal.signal(s, lambda n, _: got.append(n))\n\
                   print('on', flush=True)\n\
                   while len(got) < 7: time.sleep(0.01)\n\
                   print(sorted(got))";
    with_room(async |room| {
        let session = room
            .start(&policy(USR), &["/usr/bin/python3", "-c", program])
            .await
            .expect("a session");
        tokio::time::sleep(scaled(SETTLED * 2)).await;
        for signal in [1, 2, 10, 12, 15, 34, 64] {
            session.running.signal(signal).expect("a signal");
        }
        let ended = session.end().await;
        assert_eq!(
            ended.stdout, "on\n[1, 2, 10, 12, 15, 34, 64]\n",
            "{ended:?}"
        );
    });
}
