//! Checkpoints of the journal in other places: what is kept there finds out a journal that was put
//! back, also by who has its key.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{Ipv4Addr, TcpListener},
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use lab::{agent::METRICS, metrics, patience::scaled};
use serde_json::json;

use super::{Scene, text};

const PATIENCE: Duration = Duration::from_secs(30);

/// Takes what is posted, but for the first time.
fn server(listener: TcpListener) -> mpsc::Receiver<String> {
    let (sender, taken) = mpsc::channel();
    thread::spawn(move || {
        for (number, stream) in listener.incoming().enumerate() {
            let mut stream = stream.expect("a connection");
            let (mut request, mut bytes) = (String::new(), [0; 4096]);
            while !request.ends_with('\n') || !request.contains("\u{2014} ") {
                let read = stream.read(&mut bytes).expect("a request");
                request.push_str(str::from_utf8(&bytes[..read]).expect("text"));
                assert!(read > 0, "{request}");
            }
            let status = if number == 0 { "503 Busy" } else { "204 Taken" };
            write!(stream, "HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n").expect("it reads");
            let (_, note) = request.split_once("\r\n\r\n").expect("a request");
            if number > 0 && sender.send(note.to_owned()).is_err() {
                return;
            }
        }
    });
    taken
}

/// Runs `audit verify` on a journal with kept checkpoints on its standard input.
fn verify(journal: &Path, notes: &str) -> Output {
    let mut command = Command::new(lab::binary::stockade().expect("the binary is built"));
    let mut child = command
        .args(["audit", "verify", "--checkpoint", "-", "--file"])
        .arg(journal)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it runs");
    let mut stdin = child.stdin.take().expect("a pipe");
    stdin.write_all(notes.as_bytes()).expect("it reads");
    drop(stdin);
    child.wait_with_output().expect("it ends")
}

fn becomes(what: &str, so: impl Fn() -> bool) {
    let until = Instant::now() + scaled(PATIENCE);
    while !so() {
        assert!(Instant::now() < until, "{what}");
        thread::sleep(Duration::from_millis(20));
    }
}

/// The number of the last record that a checkpoint covers.
fn sequence(note: &str) -> u64 {
    let line = note.lines().nth(1).expect("a checkpoint");
    line.parse().expect("a number")
}

/// Copies a journal while it is written; the number of its last record there.
fn copy(from: &Path, to: &Path) -> u64 {
    // The records last: a checkpoint is never ahead of them.
    for name in ["checkpoint", "key", "pub", "jsonl"] {
        let name = format!("journal.{name}");
        fs::copy(from.join(&name), to.join(&name)).expect("a copy");
    }
    let records = fs::read_to_string(to.join("journal.jsonl")).expect("records");
    records.lines().count() as u64
}

#[test]
fn a_journal_that_was_put_back_is_found_out_by_what_is_kept_elsewhere() {
    let kept = tempfile::tempdir().expect("a folder");
    let file: PathBuf = kept.path().join("here.checkpoint");
    let (tell, told) = mpsc::channel();
    let scene = Scene::invoice_configured(|lab| {
        let bound = lab
            .host()
            .enter(|| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))
            .expect("the namespace")
            .expect("a port");
        let address = bound.local_addr().expect("bound");
        tell.send(server(bound)).expect("somebody waits");
        format!(
            "[audit]\ncheckpoint_every = \"1s\"\n\
             [[audit.checkpoint]]\nto = \"{}\"\n\
             [[audit.checkpoint]]\nto = \"http://{address}/kept\"\nloopback_http = true\n",
            file.display()
        )
    });
    let posted = told.recv().expect("a server");
    let read = || fs::read_to_string(&file).unwrap_or_default();
    becomes("a file", || !read().is_empty());
    let journal = PathBuf::from(format!("/var/lib/{}", scene.agent.instance()));
    // What somebody with all rights keeps, to put it back.
    let before = tempfile::tempdir().expect("a folder");
    let last = copy(&journal, before.path());
    let caller = scene.caller("alice", &["invoice:read"]);
    let refused = caller.call("invoice", "read", json!({"nothing": "such"}));
    assert_eq!(refused.reason(), "arguments_refused", "{refused:?}");
    becomes("a newer one", || sequence(&read()) > last);
    let mut notes = String::new();
    loop {
        let note = posted.recv_timeout(scaled(PATIENCE)).expect("a newer one");
        assert!(note.ends_with('\n'), "{note}");
        notes.push_str(&note);
        if sequence(&note) > last {
            break;
        }
    }
    // It is counted when the answer has come back.
    becomes("all of them counted", || {
        let page = metrics::get(scene.lab.host(), METRICS, "/metrics").expect("a page");
        let samples = metrics::parse(&page);
        let count = |place: &str, outcome: &str| {
            let labels = [
                format!("place=\"{place}\""),
                format!("outcome=\"{outcome}\""),
            ];
            let labels = [labels[0].as_str(), labels[1].as_str()];
            metrics::sum(&samples, "stockade_checkpoints_total", &labels)
        };
        count("http-2", "failed") > 0.0
            && count("http-2", "kept") > 0.0
            && count("file-1", "kept") > 1.0
            && page.contains("stockade_checkpoint_lag_seconds{place=\"file-1\"}")
    });
    for notes in [read(), notes] {
        let whole = verify(&journal.join("journal.jsonl"), &notes);
        assert!(whole.status.success(), "{}", text(&whole.stdout));
        // By itself it is whole, with a checkpoint and a key of its own.
        let old = before.path().join("journal.jsonl");
        let own = fs::read_to_string(before.path().join("journal.checkpoint")).expect("a file");
        let alone = verify(&old, &own);
        assert!(alone.status.success(), "{}", text(&alone.stdout));
        let found = verify(&old, &notes);
        assert_eq!(found.status.code(), Some(1), "{}", text(&found.stderr));
        let said = text(&found.stdout);
        assert!(said.contains("records were cut off"), "{said}");
    }
    let nothing = verify(&journal.join("journal.jsonl"), "");
    assert_eq!(nothing.status.code(), Some(69), "{}", text(&nothing.stdout));
    scene.end();
}
