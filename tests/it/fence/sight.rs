//! Everything that a worker can read, read: nothing of the host is in it, but the one thing that is
//! said to be.

use std::{
    collections::BTreeSet,
    fs,
    os::linux::net::SocketAddrExt as _,
    os::unix::{
        net::{SocketAddr, UnixListener},
        process::CommandExt as _,
    },
    process::{Command, Stdio},
};

use super::{
    probe::{check, row},
    room::{policy, with_room},
};

/// Reads the beginning of every regular file below `/` but `/usr`, without waiting, and prints the
/// names of those with a mark in them.
const WALK: &str = r"
import os, stat, sys
marks = [mark.encode() for mark in sys.argv[1:]]
count = 0
def walks():
    # `/` itself can not be listed: everything that could be in it is tried.
    for top in 'bin boot dev etc home media mnt opt proc root run srv sys tmp var workdir'.split():
        yield from os.walk('/' + top)
for folder, folders, files in walks():
    for name in files:
        path = os.path.join(folder, name)
        try:
            if not stat.S_ISREG(os.lstat(path).st_mode): continue
            with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK), 'rb', 0) as file:
                # A file of the kernel comes in pieces.
                text = b''
                while len(text) < 1 << 20 and (piece := file.read(1 << 20)):
                    text += piece
        except OSError:
            continue
        count += 1
        for mark in marks:
            if mark in text: print(path, mark.decode())
print(count, 'read', file=sys.stderr)
";

#[test]
fn nothing_of_the_host_can_be_read() {
    let text = "version = 1\ntool = \"fence-test\"\n[filesystem]\nread = [\"/usr\"]\n\
                execute = [\"/usr\"]\n";
    // A process, a socket, a mount and a variable of the host, each with a mark of its own.
    let number = std::process::id();
    let mark = |what: &str| format!("host-{what}-{number}");
    let (argument, variable, socket, mount) = (
        mark("argument"),
        mark("variable"),
        mark("socket"),
        mark("mount"),
    );
    let mut process = Command::new("/usr/bin/sleep")
        .args(["600"])
        .arg0(&argument)
        .env("MARK", &variable)
        .stdin(Stdio::null())
        .spawn()
        .expect("a process");
    let address = SocketAddr::from_abstract_name(&socket).expect("a name");
    let listener = UnixListener::bind_addr(&address).expect("a socket");
    with_room(async |room| {
        let place = room.shared("mounted");
        let mounted = Mounted::new(&mount, &place);
        let of_process = |name: &str| format!("/proc/{}/{name}", process.id());
        for (path, mark) in [
            (of_process("cmdline"), &argument),
            (of_process("environ"), &variable),
            ("/proc/net/unix".to_owned(), &socket),
            ("/proc/self/mounts".to_owned(), &mount),
        ] {
            let seen = fs::read(&path).expect("a file of the host");
            let seen = String::from_utf8_lossy(&seen).into_owned();
            assert!(
                seen.contains(mark.as_str()),
                "the control `{path}` lacks `{mark}`"
            );
        }
        let marks = [&argument, &variable, &mount, &socket].map(String::as_str);
        let command = [&["/usr/bin/python3", "-c", WALK][..], &marks].concat();
        // The worker's own arguments hold the marks: it is told apart by its name.
        let ended = room.run(&policy(text), &command).await;
        let seen: BTreeSet<&str> = ended
            .stdout
            .lines()
            .filter(|line| !line.contains("/cmdline "))
            .collect();
        let count: u32 = ended
            .stderr
            .split(' ')
            .next()
            .and_then(|n| n.parse().ok())
            .unwrap_or(0);
        assert!(count > 50, "{ended:?}");
        let of_network = |line: &&&str| {
            let path = line.split(' ').next().unwrap_or_default();
            path.starts_with("/proc/") && path.ends_with("/net/unix")
        };
        let others: Vec<_> = seen.iter().filter(|line| !of_network(line)).collect();
        assert!(others.is_empty(), "{others:?}");
        // Said in the record and the manual: the network namespace is the host's.
        assert!(seen.iter().any(|line| of_network(&line)), "{seen:?}");
        drop(mounted);
    });
    process.kill().expect("killed");
    process.wait().expect("reaped");
    drop(listener);
}

#[test]
fn kernel_keys_symbols_and_memory_are_covered() {
    // Not every kernel has it.
    let kcore = if fs::exists("/proc/kcore").expect("/proc") {
        "True"
    } else {
        "False"
    };
    let text = "version = 1\ntool = \"fence-test\"\n[filesystem]\nread = [\"/usr\"]\n\
                execute = [\"/usr\"]\n";
    with_room(async |room| {
        let rows = [
            row("keys", "open('/proc/keys').read() == ''", "True", "False"),
            row(
                "key_users",
                "open('/proc/key-users').read() == ''",
                "True",
                "False",
            ),
            row(
                "kallsyms",
                "open('/proc/kallsyms').read(64) == ''",
                "True",
                "False",
            ),
            row(
                "kcore",
                "os.path.exists('/proc/kcore') and open('/proc/kcore', 'rb').read(4) != b''",
                "False",
                kcore,
            ),
            row(
                "sysctl",
                "open('/proc/sys/kernel/hostname') and None",
                "EACCES",
                "ok",
            ),
            row(
                "mounts",
                "[l for l in open('/proc/self/mounts') if l.split()[1].startswith(('/sys', '/run', '/home', '/root', '/var', '/boot'))] == []",
                "True",
                "False",
            ),
        ];
        check(room, &policy(text), &rows).await;
    });
}

/// A mount of the host that goes with this value.
struct Mounted(std::path::PathBuf);

impl Mounted {
    fn new(source: &str, place: &std::path::Path) -> Self {
        let flags = nix::mount::MsFlags::empty();
        nix::mount::mount(Some(source), place, Some("tmpfs"), flags, None::<&str>)
            .expect("a mount (as root)");
        Self(place.to_owned())
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        nix::mount::umount(&self.0).expect("unmounted");
    }
}
