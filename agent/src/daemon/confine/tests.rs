//! A thread confines itself as the agent does, then tries what must fail and what must not. As root.

use std::{fs, io, path::Path, process::Command, thread};

use landlock::{ABI, AccessFs};
use nix::{
    errno::Errno,
    mount::{MsFlags, mount},
    sys::signal::kill,
    unistd::Pid,
};

use super::{KEPT, Rules, restrain, written};
use crate::sys::landlock::abi;

/// What a confined thread comes to with one folder of its own.
fn confined<T: Send>(inside: &Path, task: impl FnOnce() -> T + Send) -> T {
    let abi = ABI::from(abi().expect("landlock"));
    let rights = written(abi)
        & !(AccessFs::Execute | AccessFs::MakeChar | AccessFs::MakeBlock | AccessFs::IoctlDev);
    let rules = Rules {
        abi,
        paths: vec![(inside.to_owned(), rights)],
    };
    let in_thread = || {
        restrain(&rules).expect("it is confined");
        task()
    };
    thread::scope(|scope| scope.spawn(in_thread).join().expect("no panic"))
}

fn is_refused<T>(result: io::Result<T>) -> bool {
    result.is_err_and(|error| error.kind() == io::ErrorKind::PermissionDenied)
}

#[test]
fn it_writes_in_its_folders_and_nowhere_else() {
    let (inside, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (own, other) = (inside.path().join("own"), outside.path().join("other"));
    fs::write(&other, "before").unwrap();
    confined(inside.path(), || {
        fs::write(&own, "written").expect("its own folder");
        fs::rename(&own, inside.path().join("renamed")).expect("its own folder");
        fs::create_dir(inside.path().join("folder")).expect("its own folder");
        assert_eq!(fs::read(&other).expect("reading is free"), b"before");
        assert!(is_refused(fs::write(&other, "after")));
        assert!(is_refused(fs::remove_file(&other)));
        assert!(is_refused(fs::create_dir(outside.path().join("new"))));
        let link = std::os::unix::fs::symlink("/", outside.path().join("link"));
        assert!(is_refused(link));
    });
    assert_eq!(fs::read(&other).unwrap(), b"before");
}

#[test]
fn it_starts_no_program_and_no_mount() {
    let inside = tempfile::tempdir().unwrap();
    assert!(Command::new("/bin/true").status().unwrap().success());
    confined(inside.path(), || {
        assert!(Command::new("/bin/true").status().is_err());
        let none: Option<&str> = None;
        let mounted = mount(
            Some("tmpfs"),
            inside.path(),
            Some("tmpfs"),
            MsFlags::empty(),
            none,
        );
        assert_eq!(mounted, Err(Errno::EPERM));
        assert_eq!(nix::unistd::sethostname("other"), Err(Errno::EPERM));
        // Its other privileges are there: it ends workers, who have other users.
        kill(Pid::this(), None).expect("a signal");
    });
}

#[test]
fn only_the_listed_capabilities_are_left() {
    let inside = tempfile::tempdir().unwrap();
    let kept = KEPT
        .iter()
        .fold(0, |set, (number, _)| set | 1_u64 << number);
    let status = confined(inside.path(), || {
        fs::read_to_string("/proc/thread-self/status").expect("its status")
    });
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.expect("a field").trim().to_owned()
    };
    let set = |name| u64::from_str_radix(&field(name), 16).expect("a set");
    assert_eq!(set("CapEff:"), kept);
    assert_eq!(set("CapPrm:"), kept);
    assert_eq!(set("CapBnd:"), kept);
    assert_eq!(set("CapInh:"), 0);
    assert_eq!(set("CapAmb:"), 0);
    assert_eq!(field("NoNewPrivs:"), "1");
    assert_eq!(field("Seccomp:"), "2");
}
