//! Other processes, descriptors, terminals, other architectures.

use std::{
    fs::File,
    os::fd::{AsFd, AsRawFd},
    process::Command,
};

use agent::launcher::Exit;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};

use super::{
    probe::{OTHER, check, row},
    room::{USR, policy, with_room},
};

#[test]
fn other_processes_are_out_of_sight() {
    with_room(async |room| {
        let rows = [
            row("init", "open('/proc/1/environ') and None", "ENOENT", OTHER),
            row(
                "init_root",
                "os.listdir('/proc/1/root') and None",
                "ENOENT",
                OTHER,
            ),
            row(
                "others",
                "[p for p in os.listdir('/proc') if p.isdigit() and int(p) != os.getpid()] == []",
                "True",
                "False",
            ),
            row("signal_init", "os.kill(1, 0)", "EPERM", "ok"),
            row("sysctl", "os.listdir('/proc/sys') and None", "EACCES", "ok"),
            row(
                "symbols",
                "open('/proc/kallsyms').read(9) == ''",
                "True",
                "False",
            ),
            row(
                "boot_line",
                "open('/proc/cmdline').read() == ''",
                "True",
                "False",
            ),
            row(
                "modules",
                "open('/proc/interrupts').read() == ''",
                "True",
                "False",
            ),
            row(
                "memory",
                "open('/proc/meminfo').read() and None",
                "ok",
                "ok",
            ),
        ];
        check(room, &policy(USR), &rows).await;
    });
}

#[test]
fn no_descriptor_is_inherited() {
    let leak = File::open("/etc/hostname").expect("a file");
    fcntl(leak.as_fd(), FcntlArg::F_SETFD(FdFlag::empty())).expect("a flag");
    let program = "import os\nfor fd in range(3, 1024):\n try: os.fstat(fd); print(fd)\n \
                   except OSError: pass";
    with_room(async |room| {
        let inside = room.python(&policy(USR), program).await;
        assert_eq!(inside.stdout, "", "{inside:?}");
        let control = Command::new("/usr/bin/python3")
            .args(["-c", program])
            .output()
            .expect("python");
        let control = String::from_utf8_lossy(&control.stdout).into_owned();
        let leaked = leak.as_raw_fd().to_string();
        assert!(control.lines().any(|fd| fd == leaked), "{control}");
    });
}

#[test]
fn the_worker_is_what_the_record_says() {
    with_room(async |room| {
        let script = "cat /proc/self/status /proc/self/limits; env";
        let usr = policy(&format!(
            "{USR}\n[worker]\nenvironment = {{ LANG = \"C.UTF-8\" }}\n"
        ));
        let session = room
            .start(&usr, &["/usr/bin/sh", "-c", script])
            .await
            .expect("a session");
        let record = serde_json::to_string_pretty(session.running.enforced()).expect("json");
        println!("{record}");
        let seen = session.end().await.stdout;
        for line in [
            "Groups:\t \n",
            "CapInh:\t0000000000000000\n",
            "CapPrm:\t0000000000000000\n",
            "CapEff:\t0000000000000000\n",
            "CapBnd:\t0000000000000000\n",
            "CapAmb:\t0000000000000000\n",
            "NoNewPrivs:\t1\n",
            "Seccomp:\t2\n",
            "Seccomp_filters:\t2\n",
            "SigIgn:\t0000000000000000\n",
            "SigBlk:\t0000000000000000\n",
            "LANG=C.UTF-8\n",
        ] {
            assert!(seen.contains(line), "{line:?} not in {seen}");
        }
        assert!(!seen.contains("HOME="), "{seen}");
        assert!(record.contains("\"landlock_files\""), "{record}");
    });
}

#[test]
#[cfg(target_arch = "x86_64")]
fn other_architectures_end_the_process() {
    // `mov eax, 20; int 0x80; ret`: getpid of i386.
    let compat = r"
import ctypes, mmap
code = mmap.mmap(-1, 4096, prot=7)
code.write(bytes([0xb8, 20, 0, 0, 0, 0xcd, 0x80, 0xc3]))
print(ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(code)))())
";
    let x32 = "import ctypes; print(ctypes.CDLL(None).syscall(0x40000000 | 39))";
    with_room(async |room| {
        for program in [compat, x32] {
            let inside = room.python(&policy(USR), program).await;
            assert_eq!(inside.exit, Exit::Signal(31), "{program}: {inside:?}");
            assert_eq!(inside.stdout, "");
            // The control needs neither to be compiled into the kernel: it only must not be killed
            // by a filter.
            let control = Command::new("/usr/bin/python3")
                .args(["-c", program])
                .output()
                .expect("python");
            assert_ne!(
                std::os::unix::process::ExitStatusExt::signal(&control.status),
                Some(31)
            );
        }
    });
}

#[test]
fn the_terminal_takes_no_input_from_a_worker() {
    let program = "import fcntl, errno\ntry: fcntl.ioctl(0, 0x5412, b'x'); print('ok')\n\
                   except OSError as e: print(errno.errorcode[e.errno])\n\
                   try: fcntl.ioctl(0, 0x540E, 0); print('ok')\n\
                   except OSError as e: print(errno.errorcode[e.errno])";
    with_room(async |room| {
        let pty = nix::pty::openpty(None, None).expect("a terminal");
        let input = pty.slave.try_clone().expect("a descriptor");
        let session = room
            .start_with(&policy(USR), &["/usr/bin/python3", "-c", program], input)
            .await
            .expect("a session");
        let inside = session.end().await;
        assert_eq!(inside.stdout, "EPERM\nEPERM\n", "{inside:?}");
        let control = Command::new("/usr/bin/setsid")
            .args(["-c", "/usr/bin/python3", "-c", program])
            .stdin(pty.slave)
            .output()
            .expect("python");
        assert!(control.stdout.starts_with(b"ok\n"), "{control:?}");
    });
}

#[test]
fn processes_are_bounded() {
    let program = r"
import os, time
made = 0
while True:
    try:
        if os.fork() == 0:
            time.sleep(60)
        made += 1
    except OSError:
        break
print(made)
";
    with_room(async |room| {
        for bound in [8_u32, 40] {
            let text = format!("{USR}\n[limits]\nprocesses = {bound}\n");
            let ended = room.python(&policy(&text), program).await;
            let made: u32 = ended.stdout.trim().parse().expect("a number");
            // The worker itself counts. So does, until it is reaped, what an earlier instance left
            // under the same user id: the bound is never passed, and at most one short of it.
            assert!((bound - 2..bound).contains(&made), "{ended:?}");
        }
    });
}

/// Process 1 of the session takes nothing of the bound, whichever counts: a controller or the user's limit.
#[test]
fn one_process_is_enough_for_a_worker() {
    with_room(async |room| {
        let text = format!("{USR}\n[limits]\nprocesses = 1\n");
        let ended = room
            .sh(
                &policy(&text),
                "echo on; /usr/bin/true 2>/dev/null && echo two",
            )
            .await;
        assert_eq!(ended.stdout, "on\n", "{ended:?}");
    });
}

#[test]
fn open_files_are_bounded() {
    let text = format!("{USR}\n[limits]\nopen_files = 32\n");
    let program =
        "import os\nn = 0\ntry:\n while True: os.dup(0); n += 1\nexcept OSError: print(n)";
    with_room(async |room| {
        let ended = room.python(&policy(&text), program).await;
        assert_eq!(ended.stdout, "29\n", "{ended:?}");
    });
}

#[test]
fn a_session_finds_nothing_of_another() {
    with_room(async |room| {
        let usr = policy(USR);
        let first = room
            .sh(
                &usr,
                "echo secret > /workdir/x; echo secret > /tmp/x; id -u",
            )
            .await;
        let second = room.sh(&usr, "ls -A /workdir /tmp; id -u").await;
        assert_eq!(second.stdout.lines().filter(|line| *line == "x").count(), 0);
        assert_ne!(
            first.stdout.lines().last(),
            second.stdout.lines().last(),
            "each session has a user of its own"
        );
    });
}
