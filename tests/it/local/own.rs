//! `loopback = "own"`: real servers and clients in one session, whom nobody else reaches.

use std::{
    collections::BTreeMap,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    process::{Child, Output, Stdio},
    thread,
    time::Duration,
};

use lab::{Lab, agent::Agent};

const POLICY: &str = r#"
version = 1
tool = "notebook"
[worker]
command = ["/usr/bin/python3", "-c"]
[[local.allow]]
loopback = "own"
[filesystem]
read = ["/usr", "/etc/ld.so.cache"]
execute = ["/usr"]
[syscalls]
profile = "interpreter"
[limits]
memory = "1GiB"
"#;

/// Each prints a line: its name, and what came of it.
const PROGRAMS: &str = r#"
import errno, http.server, multiprocessing, os, socket, socketserver, subprocess, sys, threading
from multiprocessing.managers import BaseManager
from multiprocessing.connection import Client, Listener

class Pages(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = b'page' * 50000
        self.send_response(200)
        self.send_header('Content-Length', str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *words):
        pass
class Six(http.server.ThreadingHTTPServer):
    address_family = socket.AF_INET6
    def server_bind(self):
        self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        socketserver.TCPServer.server_bind(self)
class Echo(socketserver.BaseRequestHandler):
    def handle(self):
        data, sock = self.request
        sock.sendto(data[::-1], self.client_address)

FETCH = 'import sys, urllib.request; print(len(urllib.request.urlopen(sys.argv[1], timeout=10).read()))'
def other(program, *words):
    done = subprocess.run([sys.executable, '-c', program, *words], capture_output=True, text=True)
    return done.stdout.strip() or done.stderr[-300:]
def web(kind, at, *names):
    server = kind((at, 0), Pages)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    port = server.server_address[1]
    return ' '.join(other(FETCH, f'http://{name}:{port}/') for name in names)
def datagrams(kind, at, to):
    server = kind((at, 0), Echo)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    program = ('import socket, sys\ns = socket.socket(%d, socket.SOCK_DGRAM)\ns.settimeout(5)\n'
        's.sendto(b"abc", (sys.argv[1], int(sys.argv[2])))\nprint(s.recv(16).decode())') % kind.address_family
    return other(program, to, str(server.server_address[1]))
class Six6(socketserver.UDPServer):
    address_family = socket.AF_INET6
class Kept:
    def add(self, a, b):
        return a + b
class Manager(BaseManager):
    pass
Manager.register('Kept', Kept)
def manager():
    with Manager(address=('127.0.0.1', 0), authkey=b'k') as m:
        return m.Kept().add(2, 3)
def listener():
    with Listener(('localhost', 0), authkey=b'k') as l:
        child = multiprocessing.Process(target=lambda: Client(l.address, authkey=b'k').send('hello'))
        child.start()
        with l.accept() as c:
            said = c.recv()
        child.join()
        return said
NODE = '''
const http = require('http');
const server = http.createServer((q, a) => a.end('node'));
server.listen(0, process.argv[1], () => http.get(
    { host: process.argv[2], port: server.address().port },
    a => a.on('data', d => { console.log(String(d)); process.exit(0); })
).on('error', e => { console.log(e.code); process.exit(1); }));
'''
def node(at, to):
    done = subprocess.run(['/usr/bin/node', '-e', NODE, at, to], capture_output=True, text=True)
    return done.stdout.strip() or done.stderr[-300:]
def attempt(name, act):
    try:
        said = act()
    except OSError as error:
        said = errno.errorcode.get(error.errno, str(error))
    print(name, said, sep='\t', flush=True)
def again():
    s = socket.create_server(('127.0.0.1', 0))
    def greet():
        for _ in range(3):
            c, _ = s.accept()
            c.sendall(b'x')
            c.close()
    threading.Thread(target=greet, daemon=True).start()
    said = b''
    for _ in range(3):
        with socket.socket() as c:
            c.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            c.bind(('127.0.0.1', 9100))
            c.settimeout(5)
            c.connect(s.getsockname())
            while piece := c.recv(16):
                said += piece
    return said.decode()
def dial(to, port):
    with socket.create_connection((to, port), timeout=5) as s:
        return s.recv(16).decode()
def held(at, port):
    with socket.socket() as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        s.bind((at, port))
        s.listen()
        return 'held'
"#;

const TALK: &str = r"
attempt('web', lambda: web(http.server.ThreadingHTTPServer, '127.0.0.1', '127.0.0.1', 'localhost'))
attempt('web on all addresses', lambda: web(http.server.ThreadingHTTPServer, '', '127.0.0.1', '127.0.1.1'))
attempt('web on ipv6', lambda: web(Six, '::1', '[::1]'))
attempt('web on both', lambda: web(Six, '::', '[::1]', '127.0.0.1'))
attempt('datagrams', lambda: datagrams(socketserver.UDPServer, '127.0.0.1', '127.0.0.1'))
attempt('datagrams on ipv6', lambda: datagrams(Six6, '::1', '::1'))
attempt('manager', manager)
attempt('listener', listener)
attempt('node', lambda: node('127.0.0.1', '127.0.0.1'))
attempt('node on both', lambda: node('::', '::1'))
attempt('same ports again', again)
attempt('nobody', lambda: dial('127.0.0.1', 8999))
";

/// Serves on a port of its choice until its input ends.
const SERVE: &str = r"
s = socket.create_server(('127.0.0.1', 8765))
def greet():
    while True:
        c, _ = s.accept()
        c.sendall(b'own')
        c.close()
threading.Thread(target=greet, daemon=True).start()
attempt('self', lambda: dial('127.0.0.1', 8765))
sys.stdin.readline()
";

fn answers(output: &Output) -> BTreeMap<String, String> {
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(|line| line.split_once('\t'))
        .map(|(name, answer)| (name.to_owned(), answer.to_owned()))
        .collect()
}

struct Scene {
    lab: Lab,
    agent: Agent,
}

fn scene() -> Scene {
    let lab = Lab::new().expect("the lab can be made");
    let agent = Agent::start(lab.host(), &[("notebook", POLICY)]).expect("an agent");
    Scene { lab, agent }
}

impl Scene {
    fn run(&self, program: &str) -> Output {
        let program = format!("{PROGRAMS}\n{program}");
        self.agent.run("notebook", &[&program]).expect("it is run")
    }

    /// A session that serves until its input is dropped.
    fn serve(&self) -> Child {
        let program = format!("{PROGRAMS}\n{SERVE}");
        let mut command = self.agent.tool("notebook", &[&program]).expect("a command");
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let start = || command.spawn();
        let entered = self.lab.host().enter(start).expect("the host");
        let mut child = entered.expect("it starts");
        let output = child.stdout.take().expect("a pipe");
        let mut line = String::new();
        BufReader::new(output)
            .read_line(&mut line)
            .expect("its first line");
        assert_eq!(line, "self\town\n");
        child
    }

    fn host_dials(&self, address: &str) -> bool {
        let address: SocketAddr = address.parse().expect("an address");
        let dial = || {
            let mut stream = TcpStream::connect_timeout(&address, Duration::from_millis(500))?;
            stream.read_exact(&mut [0; 3])
        };
        self.lab.host().enter(dial).expect("the host").is_ok()
    }
}

#[test]
fn servers_and_clients_of_one_session_talk() {
    let scene = scene();
    let output = scene.run(TALK);
    let said = answers(&output);
    let expected = [
        ("web", "200000 200000"),
        ("web on all addresses", "200000 200000"),
        ("web on ipv6", "200000"),
        ("web on both", "200000 200000"),
        ("datagrams", "cba"),
        ("datagrams on ipv6", "cba"),
        ("manager", "5"),
        ("listener", "hello"),
        ("node", "node"),
        ("node on both", "node"),
        // The server ends each connection, and its end of it lingers.
        ("same ports again", "xxx"),
        ("nobody", "ECONNREFUSED"),
    ];
    for (name, wanted) in expected {
        let got = said.get(name).map(String::as_str);
        assert_eq!(got, Some(wanted), "{name}: {output:?}");
    }
    // Without the rule none of it.
    let text = POLICY.replace("[[local.allow]]\nloopback = \"own\"\n", "");
    assert_ne!(text, POLICY);
    scene
        .agent
        .write_policy("notebook", &text)
        .expect("a policy");
    scene.agent.reload().expect("a reload");
    let output = scene.run(TALK);
    let said = answers(&output);
    for (name, wanted) in expected {
        let got = said.get(name).map(String::as_str);
        assert!(got.is_none_or(|got| got != wanted), "{name}: {output:?}");
    }
    // The script ends with its first server; a dial alone gets as far as landlock, which holds a policy
    // that opens nothing.
    let output = scene.run("attempt('nobody', lambda: dial('127.0.0.1', 8999))");
    let refused = answers(&output).remove("nobody");
    assert_eq!(refused.as_deref(), Some("EACCES"), "{output:?}");
}

#[test]
fn nobody_else_reaches_a_sessions_server_and_it_reaches_nobody_else() {
    let scene = scene();
    let bind = || TcpListener::bind("127.0.0.1:8766");
    let entered = scene.lab.host().enter(bind).expect("the host");
    let listener = entered.expect("a port");
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            // Whoever goes away early is its own affair.
            drop(stream.write_all(b"host"));
        }
    });
    let mut child = scene.serve();
    assert!(scene.host_dials("127.0.0.1:8766"), "the control");
    assert!(!scene.host_dials("127.0.0.1:8765"));
    let tries = "
attempt('other', lambda: dial('127.0.0.1', 8765))
attempt('host', lambda: dial('127.0.0.1', 8766))
attempt('taken', lambda: held('127.0.0.1', 8765))
attempt('taken by the host', lambda: held('0.0.0.0', 8766))
attempt('free', lambda: held('127.0.0.1', 8767))
attempt('low', lambda: held('127.0.0.1', 80))
";
    let output = scene.run(tries);
    let said = answers(&output);
    for (name, wanted) in [
        ("other", "ECONNREFUSED"),
        ("host", "ECONNREFUSED"),
        ("taken", "EADDRINUSE"),
        ("taken by the host", "EADDRINUSE"),
        ("free", "held"),
        ("low", "EACCES"),
    ] {
        let got = said.get(name).map(String::as_str);
        assert_eq!(got, Some(wanted), "{name}: {output:?}");
    }
    drop(child.stdin.take());
    assert!(child.wait().expect("its end").success());
    // The next session gets the port, and is asked like any other.
    let output = scene.run("attempt('after', lambda: dial('127.0.0.1', 8765))");
    let after = answers(&output).remove("after");
    assert_eq!(after.as_deref(), Some("ECONNREFUSED"), "{output:?}");
    let mut next = scene.serve();
    assert!(!scene.host_dials("127.0.0.1:8765"));
    drop(next.stdin.take());
    assert!(next.wait().expect("its end").success());
}
