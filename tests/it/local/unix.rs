//! `unix`: one socket of a server of this host, and no other.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs,
    io::{Read as _, Write as _},
    os::{
        linux::net::SocketAddrExt as _,
        unix::{
            fs::PermissionsExt as _,
            net::{SocketAddr, UnixListener, UnixStream},
        },
    },
    path::{Path, PathBuf},
    process::{Command, Output},
    thread,
};

use lab::{Lab, agent::Agent, binary::Scratch};

const POLICY: &str = r#"
version = 1
tool = "ledger"
[worker]
command = ["/usr/bin/python3", "-c"]
[[local.allow]]
unix = "{scratch}/db/s.sock"
reason = "the ledger's database"
[filesystem]
read = ["/usr", "{scratch}/share"]
execute = ["/usr"]
"#;

/// Scopes abstract sockets.
const SCOPES: i32 = 6;

/// What acts of a worker may use. `go` speaks to a server and gives its answer.
const PRELUDE: &str = r"
import errno, os, socket, sys
def go(path, kind=socket.SOCK_STREAM):
    with socket.socket(socket.AF_UNIX, kind) as s:
        s.settimeout(10)
        s.connect(path)
        s.sendall(b'x')
        return s.recv(64).decode()
def own(path):
    with socket.socket(socket.AF_UNIX) as s:
        s.bind(path)
        s.listen()
        with socket.socket(socket.AF_UNIX) as c:
            c.connect(path)
        return 'reached'
def through(act, path):
    act(path)
    return go(path)
def at(folder, path):
    before = os.getcwd()
    os.chdir(folder)
    try:
        return go(path)
    finally:
        os.chdir(before)
def attempt(act):
    try:
        answer = act()
        return 'ok' if answer is None else str(answer)
    except OSError as error:
        return errno.errorcode.get(error.errno, str(error))
";

struct Scene {
    lab: Lab,
    agent: Agent,
    folder: PathBuf,
}

/// A server of this host that says its name to everybody.
fn serve(listener: UnixListener, name: &'static str) {
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut byte = [0];
            if stream.read(&mut byte).is_ok_and(|read| read == 1) {
                // A worker that goes away early is its own affair.
                drop(stream.write_all(name.as_bytes()));
            }
        }
    });
}

fn listen(path: &Path, name: &'static str) {
    let listener = UnixListener::bind(path).expect("a socket");
    fs::set_permissions(path, fs::Permissions::from_mode(0o777)).expect("its mode");
    serve(listener, name);
}

/// The abstract name of a server on this host, in the worker's own network namespace.
fn abstract_name() -> String {
    format!("stockade-test-{}", std::process::id())
}

fn scene() -> Scene {
    let lab = Lab::new().expect("the lab can be made");
    let scratch = Scratch::new().expect("a folder");
    let folder = scratch.path().to_owned();
    for name in ["db", "share"] {
        fs::create_dir(folder.join(name)).expect("a folder");
    }
    fs::write(folder.join("db/secret"), "secret").expect("a file");
    listen(&folder.join("db/s.sock"), "db");
    listen(&folder.join("share/other.sock"), "other");
    let name = SocketAddr::from_abstract_name(abstract_name()).expect("a name");
    let bind = || UnixListener::bind_addr(&name);
    let listener = lab.host().enter(bind).expect("the host").expect("a socket");
    serve(listener, "abstract");
    let agent = Agent::start_in(lab.host(), scratch, &[("ledger", POLICY)]).expect("an agent");
    Scene { lab, agent, folder }
}

impl Scene {
    fn program(&self, rows: &[(&str, &str, &[&str], &str)]) -> String {
        let (folder, name) = (self.folder.display(), abstract_name());
        let mut program = format!(
            "{PRELUDE}\nF = '{folder}'\nDOOR = F + '/db/s.sock'\nOTHER = F + '/share/other.sock'\n\
             HIDDEN = '\\0{name}'\nHERE = sys.argv[1] if len(sys.argv) > 1 else '/workdir'\n"
        );
        for (name, act, ..) in rows {
            writeln!(
                program,
                "print('{name}', attempt(lambda: {act}), sep='\\t', flush=True)"
            )
            .expect("text");
        }
        program
    }

    fn run(&self, program: &str) -> Output {
        self.agent.run("ledger", &[program]).expect("it is run")
    }

    /// The same acts by root without a fence, in a folder of its own.
    fn control(&self, program: &str) -> Output {
        let own = self.folder.join("control");
        fs::create_dir_all(&own).expect("a folder");
        let mut python = Command::new("/usr/bin/python3");
        python.args(["-c", program]).arg(&own);
        let control = || python.output();
        self.lab
            .host()
            .enter(control)
            .expect("the host")
            .expect("python")
    }

    fn refuses(&self, why: &str) {
        let output = self.run("print('runs')");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success(), "{output:?}");
        assert!(said.contains(why), "`{why}` is not in: {said}");
    }
}

fn answers(output: &Output) -> BTreeMap<String, String> {
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(|line| line.split_once('\t'))
        .map(|(name, answer)| (name.to_owned(), answer.to_owned()))
        .collect()
}

/// Whether this kernel can hold back abstract sockets. Where it can not, a policy with a door starts
/// nothing, which is what the callers then look at.
fn doors_are_possible(scene: &Scene) -> bool {
    let abi = agent::sys::landlock::abi().expect("landlock");
    if abi < SCOPES {
        scene.refuses("does not hold back abstract sockets");
    }
    abi >= SCOPES
}

/// Name, act, what it may say inside, what it says outside.
#[rustfmt::skip]
const ROWS: &[(&str, &str, &[&str], &str)] = &[
    ("door", "go(DOOR)", &["db"], "db"),
    ("again", "go(DOOR)", &["db"], "db"),
    ("listed folder", "go(OTHER)", &["EPERM"], "other"),
    ("abstract", "go(HIDDEN)", &["EPERM"], "abstract"),
    ("link to another", "through(lambda p: os.symlink(OTHER, p), HERE + '/l1')", &["EPERM"], "other"),
    ("link to the door", "through(lambda p: os.symlink(DOOR, p), HERE + '/l2')", &["EPERM"], "db"),
    ("hard link", "through(lambda p: os.link(OTHER, p), HERE + '/l3')", &["EXDEV", "EPERM", "EACCES"], "other"),
    ("rename", "os.rename(OTHER, OTHER + '2') or os.rename(OTHER + '2', OTHER)", &["EXDEV", "EPERM", "EACCES", "EROFS"], "ok"),
    ("relative", "at(F + '/share', 'other.sock')", &["EPERM"], "other"),
    ("relative up", "at(F + '/share', '../share/other.sock')", &["EPERM"], "other"),
    ("by descriptor", "go('/proc/self/fd/%d' % os.open(OTHER, os.O_PATH))", &["EPERM"], "other"),
    ("by root", "go('/proc/self/root' + OTHER)", &["EPERM"], "other"),
    ("not quite", "go(F + '//share/other.sock')", &["EPERM"], "other"),
    ("longer", "go(DOOR + 'x')", &["EPERM"], "ENOENT"),
    ("shorter", "go(DOOR[:-1])", &["EPERM"], "ENOENT"),
    ("behind a zero", "go((OTHER + '\\0' + DOOR).encode())", &["EPERM"], "other"),
    ("own", "own(HERE + '/own')", &["EPERM"], "reached"),
    ("datagram", "go(OTHER, socket.SOCK_DGRAM)", &["EPROTONOSUPPORT"], "EPROTOTYPE"),
    ("packets", "go(OTHER, socket.SOCK_SEQPACKET)", &["EPROTONOSUPPORT"], "EPROTOTYPE"),
    ("pair of datagrams", "socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)[0].sendto(b'x', OTHER)", &["EPROTONOSUPPORT"], "EPROTOTYPE"),
    ("pair", "socket.socketpair()[0].sendto(b'x', OTHER)", &["EISCONN", "EOPNOTSUPP"], "EISCONN"),
    ("list its folder", "sorted(os.listdir(F + '/db'))", &["EACCES"], "['s.sock', 'secret']"),
    ("its neighbour", "os.stat(F + '/db/secret') and None", &["ENOENT"], "ok"),
    ("run", "os.listdir('/run') and None", &["ENOENT"], "ok"),
    ("write beside it", "open(F + '/db/new', 'w').close()", &["EROFS", "EACCES"], "ok"),
    ("over the door", "os.rename(HERE + '/l1', DOOR)", &["EXDEV", "EACCES", "EROFS", "EBUSY"], "ok"),
    ("remove it", "os.unlink(DOOR)", &["EROFS", "EACCES", "EBUSY"], "ok"),
];

#[test]
fn the_named_socket_is_reached_and_nothing_beside_it() {
    let scene = scene();
    if !doors_are_possible(&scene) {
        return;
    }
    let program = scene.program(ROWS);
    let events = scene.agent.events().expect("events");
    let (inside, wrong) = (scene.run(&program), &mut Vec::new());
    let said = answers(&inside);
    for (name, _, wanted, _) in ROWS {
        let got = said.get(*name).map_or("nothing", String::as_str);
        if !wanted.contains(&got) {
            wrong.push(format!("{name}: inside `{got}`, not {wanted:?}"));
        }
    }
    let control = scene.control(&program);
    let said = answers(&control);
    for (name, _, _, wanted) in ROWS {
        let got = said.get(*name).map_or("nothing", String::as_str);
        if got != *wanted {
            wrong.push(format!("{name}: control `{got}`, not `{wanted}`"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}\n{inside:?}\n{control:?}");
    thread::sleep(std::time::Duration::from_millis(300));
    let told = events.finish().expect("events");
    let tells = |outcome: &str, reason: &str| {
        told.iter().any(|event| {
            event["hook"] == "unix" && event["outcome"] == outcome && event["reason"] == reason
        })
    };
    assert!(
        tells("deny", "unix_socket") && tells("allow", "rule"),
        "{told:?}"
    );
}

#[test]
fn a_policy_without_a_door_has_no_such_sockets() {
    let scene = scene();
    let text = POLICY.replace(
        "[[local.allow]]\nunix = \"{scratch}/db/s.sock\"\nreason = \"the ledger's database\"\n",
        "",
    );
    assert_ne!(text, POLICY);
    scene.agent.write_policy("ledger", &text).expect("a policy");
    scene.agent.reload().expect("a reload");
    let rows: &[(&str, &str, &[&str], &str)] = &[("door", "go(DOOR)", &[], "")];
    let program = scene.program(rows);
    let found = |output: &Output| answers(output).get("door").cloned();
    assert_eq!(found(&scene.run(&program)).as_deref(), Some("EAFNOSUPPORT"));
    assert_eq!(found(&scene.control(&program)).as_deref(), Some("db"));
}

#[test]
fn a_rule_that_goes_shuts_its_door_to_running_sessions() {
    let scene = scene();
    if !doors_are_possible(&scene) {
        return;
    }
    let rows: &[(&str, &str, &[&str], &str)] = &[];
    let program = format!(
        "{}\nprint(go(DOOR), flush=True)\nsys.stdin.readline()\nprint(attempt(lambda: go(DOOR)))",
        scene.program(rows)
    );
    let mut command = scene.agent.tool("ledger", &[&program]).expect("a command");
    command
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped());
    let start = || command.spawn();
    let mut child = scene
        .lab
        .host()
        .enter(start)
        .expect("the host")
        .expect("it starts");
    let mut output = child.stdout.take().expect("a pipe");
    let mut first = [0; 3];
    output.read_exact(&mut first).expect("an answer");
    assert_eq!(&first, b"db\n");
    let other = POLICY.replace("db/s.sock", "share/other.sock");
    scene
        .agent
        .write_policy("ledger", &other)
        .expect("a policy");
    scene.agent.reload().expect("a reload");
    let mut input = child.stdin.take().expect("a pipe");
    input.write_all(b"\n").expect("it waits");
    let mut second = String::new();
    output.read_to_string(&mut second).expect("an answer");
    assert_eq!(second, "EPERM\n");
    child.wait().expect("its end");
}

#[test]
fn a_server_that_starts_again_is_reached_by_the_next_session() {
    let scene = scene();
    if !doors_are_possible(&scene) {
        return;
    }
    let program = format!("{}\nprint(go(DOOR))", scene.program(&[]));
    assert_eq!(scene.run(&program).stdout, b"db\n");
    let door = scene.folder.join("db/s.sock");
    fs::remove_file(&door).expect("the old socket");
    listen(&door, "new");
    assert_eq!(scene.run(&program).stdout, b"new\n");
}

#[test]
fn what_can_not_be_a_door_is_said_at_the_launch() {
    let scene = scene();
    if !doors_are_possible(&scene) {
        return;
    }
    let door = scene.folder.join("db/s.sock");
    fs::set_permissions(&door, fs::Permissions::from_mode(0o770)).expect("its mode");
    scene.refuses("its mode is 0770: a session's user, who is of no group, may not connect");
    // The control: the very same connect is what the mode forbids.
    let connect = UnixStream::connect(&door);
    assert!(connect.is_ok(), "root may: {connect:?}");
    fs::remove_file(&door).expect("the socket");
    scene.refuses("hint: start its server first");
    fs::write(&door, "").expect("a file");
    scene.refuses("not a socket");
    fs::remove_file(&door).expect("the file");
    std::os::unix::fs::symlink(scene.folder.join("share/other.sock"), &door).expect("a link");
    scene.refuses("a symbolic link leads there");
    fs::remove_file(&door).expect("the link");
    listen(&door, "db");
    let writable = format!("{POLICY}write = [\"{{scratch}}/db\"]\n");
    scene
        .agent
        .write_policy("ledger", &writable)
        .expect("a policy");
    scene.agent.reload().expect("a reload");
    scene.refuses("the worker may write on the way to it");
    let own = scene.agent.control_socket();
    let text = POLICY.replace("{scratch}/db/s.sock", &own.display().to_string());
    scene.agent.write_policy("ledger", &text).expect("a policy");
    scene.agent.reload().expect("a reload");
    scene.refuses("no worker speaks to the agent");
    fs::remove_file(&door).expect("the link");
    listen(&door, "db");
    scene
        .agent
        .write_policy("ledger", POLICY)
        .expect("a policy");
    scene.agent.reload().expect("a reload");
    let program = format!("{}\nprint(go(DOOR))", scene.program(&[]));
    assert_eq!(scene.run(&program).stdout, b"db\n");
}
