//! The ways out of a fence that lead through this host, by the lines of a table of known ones: each is
//! tried under every profile, where it must meet one of the answers that
//! are listed for it, and outside a fence as control, where it must work.

mod programs;
mod table;

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs::{self, Permissions},
    os::unix::{fs::PermissionsExt as _, net::UnixListener},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Arc,
};

use agent::{launcher::Exit, policy::compiled::CompiledPolicy};
use lab::binary::{Scratch, stockade};

use self::{
    programs::{PROGRAM_SCENE, PROGRAMS, SHUT_BY_DENY},
    table::{SCENE, WAYS, Way},
};
use crate::fence::{
    probe::{PRELUDE, answers},
    room::{Outcome, Room, USR, policy, with_room},
};

/// Names of files that programs drop in shared memory.
const LEFT: &[u8] = b"local-ways-dropped-";
const PROFILES: [&str; 3] = ["strict", "default", "interpreter"];

fn profile(name: &str) -> Arc<CompiledPolicy> {
    profile_without(name, "")
}

/// A profile less a system call.
fn profile_without(name: &str, call: &str) -> Arc<CompiledPolicy> {
    let deny = if call.is_empty() {
        String::new()
    } else {
        format!("deny = [\"{call}\"]\n")
    };
    policy(&format!(
        "{USR}\nworkdir_size = \"1MiB\"\n[syscalls]\nprofile = \"{name}\"\n{deny}\
         [limits]\nprocesses = 16\nmemory = \"256MiB\"\n"
    ))
}

/// The same without a fence; it may write in this folder.
fn outside(program: &str, folder: &Path) -> Outcome {
    let output = Command::new("/usr/bin/python3")
        .args(["-c", program])
        .env("TMPDIR", folder)
        .stdin(Stdio::null())
        .output()
        .expect("python");
    Outcome {
        exit: Exit::Code(
            output
                .status
                .code()
                .map_or(u8::MAX, |code| u8::try_from(code).unwrap_or(u8::MAX)),
        ),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// A folder of the host that no policy lists, with what a worker might want there.
struct Host {
    folder: PathBuf,
    abstract_name: String,
    sibling: std::process::Child,
    _sockets: (UnixListener, std::os::unix::net::UnixDatagram, UnixListener),
}

impl Host {
    fn new(room: &Room, name: &str) -> Self {
        use std::os::linux::net::SocketAddrExt as _;
        let folder = room.shared(name);
        let open = |path: PathBuf| fs::set_permissions(path, Permissions::from_mode(0o777));
        open(folder.clone()).expect("its mode");
        fs::write(folder.join("open"), "x").expect("a file");
        open(folder.join("open")).expect("its mode");
        let listener = UnixListener::bind(folder.join("socket")).expect("a socket");
        let datagrams =
            std::os::unix::net::UnixDatagram::bind(folder.join("datagrams")).expect("a socket");
        open(folder.join("socket")).expect("its mode");
        open(folder.join("datagrams")).expect("its mode");
        let abstract_name = format!("local-ways-{}", folder.display());
        let address = std::os::unix::net::SocketAddr::from_abstract_name(&abstract_name);
        let address = address.expect("a name");
        let sibling = Command::new("/usr/bin/sleep")
            .arg("600")
            .spawn()
            .expect("a process");
        Self {
            folder,
            abstract_name,
            sibling,
            _sockets: (
                listener,
                datagrams,
                UnixListener::bind_addr(&address).expect("a socket"),
            ),
        }
    }

    fn program(&self, listed: &str) -> String {
        let quoted = |text: &str| format!("'{text}'");
        let scene = SCENE
            .replace("{shared!}", &quoted(&self.folder.display().to_string()))
            .replace("{listed!}", &quoted(listed))
            .replace("{sibling}", &self.sibling.id().to_string())
            .replace("{abstract!}", &quoted(&self.abstract_name));
        let mut program = format!("{PRELUDE}{scene}");
        for Way { name, act, .. } in WAYS {
            let line = format!("print('{name}', attempt(lambda: {act}), sep='\\t', flush=True)");
            writeln!(program, "{line}").expect("text");
        }
        program
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        drop(self.sibling.kill());
        drop(self.sibling.wait());
    }
}

fn complaints(profile: &str, found: &BTreeMap<String, String>) -> Vec<String> {
    let wrong = WAYS.iter().filter_map(|way| {
        let answer = found.get(way.name).map_or("nothing", String::as_str);
        let stopped = way.stopped_by.contains(&answer);
        (!stopped).then(|| format!("{profile}: {}: {}: `{answer}`", way.line, way.name))
    });
    wrong.collect()
}

#[test]
#[cfg(target_arch = "x86_64")]
fn every_way_is_shut_under_every_profile() {
    with_room(async |room| {
        let host = Host::new(room, "host");
        let listed = room.shared("listed");
        fs::write(listed.join("open"), "x").expect("a file");
        let mode = Permissions::from_mode(0o777);
        fs::set_permissions(listed.join("open"), mode).expect("its mode");
        let listed = listed.display().to_string();
        let program = host.program(&listed);
        let control = outside(&program, &room.shared("control"));
        let open = answers(&control.stdout);
        let dead: Vec<_> = WAYS
            .iter()
            .filter(|way| open.get(way.name).map(String::as_str) != Some("ok"))
            .map(|way| (way.name, open.get(way.name)))
            .collect();
        assert!(dead.is_empty(), "controls: {dead:?}\n{}", control.stderr);
        let mut wrong = Vec::new();
        for profile in PROFILES {
            let text = format!(
                "{}\n[syscalls]\nprofile = \"{profile}\"\n",
                USR.replace("\"/etc/ssl\"", &format!("\"/etc/ssl\", \"{listed}\""))
            );
            let inside = room.python(&policy(&text), &program).await;
            wrong.extend(complaints(profile, &answers(&inside.stdout)));
            if inside.exit != Exit::Code(0) {
                wrong.push(format!("{profile}: {inside:?}"));
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    });
}

#[test]
#[cfg(target_arch = "x86_64")]
fn no_program_gets_through_under_any_profile() {
    with_room(async |room| {
        let mut wrong = Vec::new();
        for (name, body) in PROGRAMS {
            let program = format!("{PRELUDE}{PROGRAM_SCENE}{body}\n");
            let control = outside(&program, &room.shared("control"));
            // A kernel without old calls ends them too: what counts is that no filter did.
            if !control.stdout.contains("through") && !name.contains("architecture") {
                wrong.push(format!("control: {name}: {control:?}"));
            }
            for profile_name in PROFILES {
                let without = SHUT_BY_DENY
                    .iter()
                    .find_map(|(shut, call)| (shut == name).then_some(*call));
                let policy = profile_without(profile_name, without.unwrap_or_default());
                let inside = room.python(&policy, &program).await;
                if inside.stdout.contains("through") || inside.exit == Exit::Code(0) {
                    wrong.push(format!("{profile_name}: {name}: {inside:?}"));
                }
            }
        }
        // A control that became another program can not tidy up.
        let shared = fs::read_dir("/dev/shm").expect("shared memory").flatten();
        for file in shared.filter(|f| f.file_name().as_encoded_bytes().starts_with(LEFT)) {
            fs::remove_file(file.path()).expect("a file");
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    });
}

/// The manual says so; where it is shut one day, this and the manual change.
#[test]
#[cfg(target_arch = "x86_64")]
fn what_only_a_denied_call_shuts_is_open_without_it() {
    with_room(async |room| {
        for (name, _) in SHUT_BY_DENY {
            let (_, body) = PROGRAMS
                .iter()
                .find(|(program, _)| program == name)
                .expect("a program of the list");
            let program = format!("{PRELUDE}{PROGRAM_SCENE}{body}\n");
            let inside = room.python(&profile("default"), &program).await;
            assert_eq!(inside.stdout, "through\n", "{name}: {inside:?}");
        }
    });
}

#[test]
fn a_terminal_takes_no_input_from_a_worker_of_any_profile() {
    // TIOCSTI, and TIOCLINUX with its own way of pasting.
    let program = "
import fcntl
for number, argument in ((0x5412, b'x'), (0x541C, b'\\3')):
    try: fcntl.ioctl(0, number, argument); print('through')
    except OSError as error: print(error.errno)";
    with_room(async |room| {
        for name in PROFILES {
            let pty = nix::pty::openpty(None, None).expect("a terminal");
            let session = room
                .start_with(
                    &profile(name),
                    &["/usr/bin/python3", "-c", program],
                    pty.slave,
                )
                .await
                .expect("a session");
            let inside = session.end().await;
            assert_eq!(inside.stdout, "1\n1\n", "{name}: {inside:?}");
        }
        let pty = nix::pty::openpty(None, None).expect("a terminal");
        let control = Command::new("/usr/bin/setsid")
            .args(["-c", "/usr/bin/python3", "-c", program])
            .stdin(pty.slave)
            .output()
            .expect("python");
        assert!(control.stdout.starts_with(b"through\n"), "{control:?}");
    });
}

#[test]
fn a_session_of_any_profile_finds_nothing_of_the_one_before() {
    let leave = "
import ctypes, os
libc = ctypes.CDLL(None)
for folder in ('/dev/shm', '/tmp', '/workdir'):
    try: open(folder + '/local-ways-left', 'w').close()
    except OSError: pass
libc.shmget(0x10ca1, 4096, 0o1666); libc.msgget(0x10ca1, 0o1666); libc.semget(0x10ca1, 1, 0o1666)";
    let look = "
import ctypes, os
libc = ctypes.CDLL(None)
print([folder for folder in ('/dev/shm', '/tmp', '/workdir')
       if os.path.exists(folder + '/local-ways-left')])
print([get for get, id in (('shm', libc.shmget(0x10ca1, 0, 0)), ('msg', libc.msgget(0x10ca1, 0)),
       ('sem', libc.semget(0x10ca1, 0, 0))) if id >= 0])";
    let tidy = "
import ctypes, os
libc = ctypes.CDLL(None)
for folder in ('/dev/shm', '/tmp'): os.unlink(folder + '/local-ways-left')
libc.shmctl(libc.shmget(0x10ca1, 0, 0), 0, 0); libc.msgctl(libc.msgget(0x10ca1, 0), 0, 0)
libc.semctl(libc.semget(0x10ca1, 0, 0), 0, 0)";
    with_room(async |room| {
        for name in PROFILES {
            let policy = profile(name);
            room.python(&policy, leave).await;
            let inside = room.python(&policy, look).await;
            assert_eq!(inside.stdout, "[]\n[]\n", "{name}: {inside:?}");
        }
        let folder = room.shared("control");
        let [_, control, _] = [leave, look, tidy].map(|program| outside(program, &folder));
        assert_eq!(
            control.stdout,
            "['/dev/shm', '/tmp']\n['shm', 'msg', 'sem']\n"
        );
    });
}

#[test]
fn no_variable_of_the_caller_comes_along() {
    let scratch = Scratch::new().expect("a folder");
    let lab = lab::Lab::new().expect("the lab can be made");
    let program = "import os; print([name for name in ('LD_PRELOAD', 'LD_LIBRARY_PATH', 'PYTHONPATH',\
                   'GCONV_PATH', 'HTTP_PROXY') if name in os.environ])";
    let with_variables = |command: &mut Command| {
        for name in ["LD_LIBRARY_PATH", "PYTHONPATH", "GCONV_PATH", "HTTP_PROXY"] {
            command.env(name, scratch.path());
        }
        command.env("LD_PRELOAD", "libm.so.6").stdin(Stdio::null());
        let output = lab.host().enter(|| command.output());
        let output = output.expect("the namespace").expect("it runs");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    for name in PROFILES {
        let text = format!("{USR}\n[syscalls]\nprofile = \"{name}\"\n");
        let file = scratch.write("it.toml", &text).expect("a policy");
        let mut command = Command::new(stockade().expect("the binary is built"));
        command.args(["run", "--policy"]).arg(file);
        command.args(["--", "/usr/bin/python3", "-c", program]);
        assert_eq!(with_variables(&mut command), "[]\n", "{name}");
    }
    let mut control = Command::new("/usr/bin/python3");
    control.args(["-c", program]);
    assert!(with_variables(&mut control).contains("'LD_PRELOAD', 'LD_LIBRARY_PATH'"));
}
