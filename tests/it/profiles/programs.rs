//! Real programs, each under the narrowest profile that it needs.

use std::{os::unix::fs::PermissionsExt as _, path::Path};

use agent::launcher::Exit;

use crate::fence::room::{Outcome, USR, policy, with_room};

/// Threads of runtimes, and their heaps.
const ROOMY: &str = "[limits]\nmemory = \"1GiB\"\nprocesses = 128\nopen_files = 1024\n";

/// What Python programs are made of, part by part; each part says its name when it has worked.
const PYTHON: &str = r#"
import asyncio, concurrent.futures, ctypes, multiprocessing, os, queue, select, signal, sqlite3, ssl
import subprocess, sys, tempfile, threading

def double(x):
    return 2 * x

async def loop():
    child = await asyncio.create_subprocess_exec(
        '/usr/bin/cat', stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    out, _ = await child.communicate(b'through a pipe')
    assert out == b'through a pipe'
    assert await asyncio.to_thread(double, 4) == 8
    async with asyncio.timeout(10):
        await asyncio.gather(*(asyncio.sleep(0.01) for _ in range(50)))

def tls():
    folder = tempfile.mkdtemp()
    key, cert = folder + '/key', folder + '/cert'
    subprocess.run(['/usr/bin/openssl', 'req', '-x509', '-newkey', 'ec', '-pkeyopt',
        'ec_paramgen_curve:P-256', '-nodes', '-keyout', key, '-out', cert, '-days', '2',
        '-subj', '/CN=own.test', '-addext', 'subjectAltName=DNS:own.test'],
        check=True, stderr=subprocess.DEVNULL)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(cert, key)
    client = ssl.create_default_context(cafile=cert)
    import socket
    ours, theirs = socket.socketpair()
    def serve():
        with server.wrap_socket(theirs, server_side=True) as end:
            end.sendall(end.recv(100).upper())
    thread = threading.Thread(target=serve)
    thread.start()
    with client.wrap_socket(ours, server_hostname='own.test') as end:
        end.sendall(b'hello')
        assert end.recv(100) == b'HELLO'
    thread.join()

def processes(way):
    context = multiprocessing.get_context(way)
    with context.Pool(2) as pool:
        assert pool.map(double, range(20)) == [2 * x for x in range(20)]
    box = context.Queue()
    child = context.Process(target=box.put, args=('hello',))
    child.start()
    assert box.get(timeout=20) == 'hello'
    child.join()
    assert child.exitcode == 0

def database():
    path = tempfile.mkdtemp() + '/data'
    with sqlite3.connect(path) as base:
        base.execute('pragma journal_mode = wal')
        base.execute('create table t (x)')
        base.executemany('insert into t values (?)', [(x,) for x in range(100)])
        assert base.execute('select sum(x) from t').fetchone() == (4950,)

def signals():
    heard = []
    signal.signal(signal.SIGUSR1, lambda *_: heard.append(1))
    os.kill(os.getpid(), signal.SIGUSR1)
    assert heard == [1]
    signal.setitimer(signal.ITIMER_REAL, 0.01)
    signal.signal(signal.SIGALRM, lambda *_: heard.append(2))
    signal.pause()
    assert heard == [1, 2]

def pool():
    with concurrent.futures.ThreadPoolExecutor(8) as threads:
        assert sum(threads.map(double, range(100))) == 9900

def shell():
    text = 'seq 3 | sort -r | tr "\\n" ,; find /workdir -maxdepth 0; tar c /etc/hosts | wc -c'
    out = subprocess.run(['/bin/sh', '-c', text], check=True, capture_output=True).stdout
    assert out.startswith(b'3,2,1,/workdir'), out

if __name__ == '__main__':
    for name, part in [('asyncio', lambda: asyncio.run(loop())), ('tls', tls),
            ('spawn', lambda: processes('spawn')), ('fork', lambda: processes('fork')),
            ('database', database), ('signals', signals), ('pool', pool), ('shell', shell)]:
        part()
        print(name, flush=True)
"#;
const PYTHON_PARTS: &str = "asyncio\ntls\nspawn\nfork\ndatabase\nsignals\npool\nshell\n";

/// Node's ways of doing two things at once, and what it is built from.
const NODE: &str = r"
const { Worker, isMainThread, parentPort } = require('worker_threads');
const { execFile, fork, spawnSync } = require('child_process');
const { createHash, randomBytes, scrypt, generateKeyPairSync } = require('crypto');
const fs = require('fs'), os = require('os'), zlib = require('zlib'), { promisify } = require('util');
if (process.argv[2] === 'child') {
  process.on('message', (text) => { process.send(text.toUpperCase()); process.disconnect(); });
} else if (!isMainThread) {
  parentPort.once('message', (x) => parentPort.postMessage(x * 2));
} else (async () => {
  const said = (name) => console.log(name);
  const worker = new Worker(__filename);
  worker.postMessage(21);
  if (await new Promise((done) => worker.once('message', done)) !== 42) throw 'worker';
  said('worker_threads');
  const { stdout } = await promisify(execFile)('/usr/bin/echo', ['from a child']);
  if (stdout !== 'from a child\n') throw stdout;
  if (spawnSync('/bin/sh', ['-c', 'cat'], { input: 'x' }).stdout.toString() !== 'x') throw 'sh';
  const child = fork(__filename, ['child']);
  child.send('hello');
  if (await new Promise((done) => child.once('message', done)) !== 'HELLO') throw 'fork';
  await new Promise((done) => child.once('exit', done));
  said('child_process');
  await promisify(scrypt)(randomBytes(8), 'salt', 32);
  generateKeyPairSync('ed25519');
  if (zlib.gunzipSync(zlib.gzipSync('x'.repeat(1e5))).length !== 1e5) throw 'zlib';
  said(createHash('sha256').update('x').digest('hex').slice(0, 8));
  await fs.promises.mkdir('/workdir/a/b', { recursive: true });
  await fs.promises.writeFile('/workdir/a/b/c', 'x');
  await fs.promises.cp('/workdir/a', '/workdir/d', { recursive: true });
  let watcher;
  const watched = new Promise((done) => { watcher = fs.watch('/workdir/d', done); });
  await fs.promises.rename('/workdir/d/b', '/workdir/d/e');
  await watched;
  watcher.close();
  said(fs.readdirSync('/workdir/d/e').join());
  const module = new WebAssembly.Module(Uint8Array.of(0, 97, 115, 109, 1, 0, 0, 0));
  new WebAssembly.Instance(module);
  os.cpus(); os.networkInterfaces(); os.userInfo();
  said('done');
})().catch((error) => { console.error(error); process.exit(1); });
";
const NODE_PARTS: &str = "worker_threads\nchild_process\n2d711642\nc\ndone\n";

const GIT: &str = r"
set -e
cd /workdir
git init -q -b main own
cd own
git config user.name Worker
git config user.email worker@own.test
seq 1000 > numbers
git add numbers
git commit -q -m first
git checkout -q -b other
seq 2000 > numbers
git commit -q -a -m second
git checkout -q main
git merge -q other
git gc -q
git clone -q . ../copy
git -C ../copy fsck
git log --format=%s
git diff --stat HEAD~1 | tail -1
";

const OPENSSL: &str = "openssl genpkey -algorithm ed25519 -out key && \
    openssl pkey -in key -pubout -out public && echo text > text && \
    openssl pkeyutl -sign -inkey key -rawin -in text -out signed && \
    openssl pkeyutl -verify -pubin -inkey public -rawin -in text -sigfile signed";

/// A policy with a profile, more files to read and run, and room.
fn with(profile: &str, folder: Option<&Path>) -> String {
    let more = folder.map_or_else(String::new, |folder| format!(", \"{}\"", folder.display()));
    let usr = USR
        .replace("\"/etc/ssl\"]", &format!("\"/etc/ssl\"{more}]"))
        .replace("execute = [\"/usr\"", &format!("execute = [\"/usr\"{more}"));
    format!(
        "{usr}\n[worker]\nenvironment = {{ HOME = \"/workdir\", PATH = \"/usr/bin\" }}\n\
         [syscalls]\nprofile = \"{profile}\"\n{ROOMY}"
    )
}

fn worked(outcome: &Outcome, stdout: &str) {
    assert_eq!(outcome.exit, Exit::Code(0), "{outcome:?}");
    assert_eq!(outcome.stdout, stdout, "{outcome:?}");
}

#[test]
fn python_runs_under_default_and_interpreter() {
    with_room(async |room| {
        for profile in ["default", "interpreter"] {
            let folder = room.shared("python");
            // `spawn` starts from a file.
            std::fs::write(folder.join("parts.py"), PYTHON).expect("a file");
            let file = folder.join("parts.py").display().to_string();
            let policy = policy(&with(profile, Some(&folder)));
            let ended = room.run(&policy, &["/usr/bin/python3", &file]).await;
            worked(&ended, PYTHON_PARTS);
        }
    });
}

/// Managers listen on a socket with a name.
#[test]
fn managers_of_python_want_the_interpreter_profile() {
    let program = "import multiprocessing\n\
                   with multiprocessing.Manager() as m:\n d = m.dict()\n d['x'] = 1\n print(d['x'])";
    with_room(async |room| {
        let allowed = room
            .python(&policy(&with("interpreter", None)), program)
            .await;
        worked(&allowed, "1\n");
        let refused = room.python(&policy(&with("default", None)), program).await;
        assert_eq!(refused.exit, Exit::Code(1), "{refused:?}");
        assert!(
            refused.stderr.contains("Address family not supported"),
            "{refused:?}"
        );
    });
}

#[test]
fn node_runs_under_interpreter() {
    with_room(async |room| {
        let folder = room.shared("node");
        std::fs::write(folder.join("parts.js"), NODE).expect("a file");
        let file = folder.join("parts.js").display().to_string();
        let policy = policy(&with("interpreter", Some(&folder)));
        let ended = room.run(&policy, &["/usr/bin/node", &file]).await;
        worked(&ended, NODE_PARTS);
    });
}

#[test]
fn git_openssl_and_curl_run_under_default() {
    with_room(async |room| {
        let policy = policy(&with("default", None));
        let git = room.sh(&policy, GIT).await;
        worked(&git, "second\nfirst\n 1 file changed, 1000 insertions(+)\n");
        let openssl = room.sh(&policy, OPENSSL).await;
        worked(&openssl, "Signature Verified Successfully\n");
        let curl = room
            .sh(&policy, "echo text > x; curl -sS file:///workdir/x")
            .await;
        worked(&curl, "text\n");
    });
}

#[test]
fn programs_of_one_process_run_under_strict() {
    with_room(async |room| {
        let policy = policy(&with("strict", None));
        let digest = ["/usr/bin/openssl", "dgst", "-sha256", "-r", "/etc/hosts"];
        let openssl = room.run(&policy, &digest).await;
        assert_eq!(openssl.exit, Exit::Code(0), "{openssl:?}");
        assert!(openssl.stdout.ends_with(" */etc/hosts\n"), "{openssl:?}");
        let curl = ["/usr/bin/curl", "-sS", "file:///etc/group"];
        let curl = room.run(&policy, &curl).await;
        worked(&curl, "root:x:0:\nnogroup:x:65534:\n");
        let sort = ["/usr/bin/sort", "--parallel=4", "-r", "/etc/group"];
        let sort = room.run(&policy, &sort).await;
        worked(&sort, "root:x:0:\nnogroup:x:65534:\n");
    });
}

/// Go's runtime: threads, timers, its own way of everything.
#[test]
fn a_go_program_runs_under_strict() {
    with_room(async |room| {
        let folder = room.shared("go");
        let rules = "groups:\n- name: one\n  rules:\n  - record: r\n    expr: sum(up) by (job)\n";
        std::fs::write(folder.join("rules.yml"), rules).expect("a file");
        let file = folder.join("rules.yml").display().to_string();
        let policy = policy(&with("strict", Some(&folder)));
        let command = ["/usr/bin/promtool", "check", "rules", &file];
        let ended = room.run(&policy, &command).await;
        assert_eq!(ended.exit, Exit::Code(0), "{ended:?}");
        assert!(ended.stdout.contains("SUCCESS: 1 rules found"), "{ended:?}");
    });
}

#[test]
fn a_rust_program_with_threads_runs_under_strict() {
    with_room(async |room| {
        let folder = room.shared("rust");
        let prober = folder.join("prober");
        std::fs::copy(lab::binary::built("prober").expect("it is built"), &prober).expect("a copy");
        std::fs::set_permissions(&prober, std::fs::Permissions::from_mode(0o755))
            .expect("its mode");
        let policy = policy(&with("strict", Some(&folder)));
        // Two threads, one socket; nothing leaves, for the policy opens nothing.
        let script = "socket inet dgram 0; race 10.0.0.1:9 10.0.0.2:9 30";
        let prober = prober.display().to_string();
        let ended = room.run(&policy, &[&prober, script]).await;
        assert_eq!(ended.exit, Exit::Code(0), "{ended:?}");
        assert!(ended.stdout.contains("\"ok\":true"), "{ended:?}");
        assert!(ended.stdout.contains("\"sent\":0"), "{ended:?}");
    });
}
