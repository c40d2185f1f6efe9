//! What is no request, at every door of the broker: refused by its code with a sentence that says
//! nothing of the input, recorded once, counted once; and whoever calls rightly meanwhile is served.
//!
//! | what comes | tests |
//! |---|---|
//! | too large, too deep (10,000 levels), cut, a key twice, invalid UTF-8, NaN, 1e400 | here; each bound at its edge: `agent/src/json/tests.rs`, `door/tests/{lines,http}.rs` |
//! | head, body or line that drips | here; `door/tests/{lines,http}.rs` |
//! | a caller that reads nothing, or says nothing | `door/tests/lines.rs` |
//! | two lengths, a header twice, credentials in the body | `door/tests/http.rs` |
//! | floods of connections, of refusals, of lines | `door/tests/{flood,socket}.rs` |
//! | floods of key ids | `issuer/fetched/tests/flood.rs` |
//! | floods of idempotency keys, of subjects, of proofs | `idempotency/tests.rs`, `limit/tests.rs`, `proof/tests/memory.rs` |
//! | key sets that are huge, slow, wrong or gone | `issuer/fetched/tests/hostile.rs` |
//! | clocks that jump | `proof/tests/memory.rs`, `idempotency/{tests,time}.rs`, `limit/tests/daily.rs`, `token/tests/revocation.rs` |
//! | a full disk under the journal | here; `audit/tests.rs` |
//! | tokens of others, forged, expired, revoked; keys rotated; proofs of other calls | [`super::credentials`], `{token,proof}/tests/`, [`super::oidc`] |
//! | fields the schema does not know, huge strings and numbers, numbers as strings | [`super::credentials`]; the suite of JSON Schema: `tests/it/suite.rs` |
//! | one idempotency key of two callers | [`super::credentials`], `idempotency/tests.rs` |
//! | a tool whose definition changed | [`super::examples`], `worker/tests/mcp.rs` |
//! | an operator's words from a caller | [`super::doors`] |
//! | one proof, key or place of a day for a thousand, also killed | [`super::races`], [`super::killed`] |
//!
//! Paths without a folder lie in `agent/src/broker`.

use std::{
    collections::BTreeMap,
    fs,
    io::{Read as _, Write as _},
    net::Shutdown,
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::{Duration, Instant},
};

use lab::{
    agent::{self, METRICS},
    metrics,
};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use serde_json::{Value, json};

use super::{Scene, caller::Caller};

/// Stands in every input, and in nothing that the broker says or writes.
const SECRET: &str = "swordfish";
/// As the manual says: `docs/calling.md`, "Bounds".
const FRAME: Duration = Duration::from_secs(10);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Door {
    Lines,
    Mcp,
    Plain,
}

const DOORS: [Door; 3] = [Door::Lines, Door::Mcp, Door::Plain];

impl Door {
    /// The request with this body; `length` where it is to say another.
    fn request(self, body: &[u8], length: Option<usize>) -> Vec<u8> {
        let path = match self {
            Self::Lines => return [body, b"\n"].concat(),
            Self::Mcp => "/mcp",
            Self::Plain => "/v1/calls",
        };
        let length = length.unwrap_or(body.len());
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: broker\r\nConnection: close\r\n\
             Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
        );
        [head.as_bytes(), body].concat()
    }

    /// The code in an answer.
    fn reason(self, answer: &str) -> String {
        let body = match self {
            Self::Lines => answer,
            Self::Mcp | Self::Plain => answer.split_once("\r\n\r\n").map_or("", |(_, body)| body),
        };
        let body: Value = serde_json::from_str(body).unwrap_or_default();
        let place = match self {
            Self::Lines | Self::Mcp => "/error/data/reason",
            Self::Plain => "/reason",
        };
        let reason = body.pointer(place).and_then(Value::as_str);
        reason.unwrap_or_default().to_owned()
    }
}

fn socket(scene: &Scene) -> PathBuf {
    let folder = Path::new("/run").join(scene.agent.instance());
    folder.join("broker.sock")
}

fn connect(scene: &Scene) -> UnixStream {
    let stream = UnixStream::connect(socket(scene)).expect("the broker listens");
    let patience = Some(agent::patience());
    stream.set_read_timeout(patience).expect("a timeout");
    stream
}

/// All that comes until the door closes; a line's answer is one line.
fn answer(mut stream: UnixStream, door: Door) -> String {
    let mut bytes = Vec::new();
    let mut byte = [0];
    while matches!(stream.read(&mut byte), Ok(1)) {
        if door == Door::Lines && byte == *b"\n" {
            break;
        }
        bytes.extend(byte);
    }
    super::text(&bytes)
}

fn is_served(alice: &Caller) {
    /// The guard against loops takes the same call over and over for one.
    static CALLS: AtomicU32 = AtomicU32::new(0);
    let id = match CALLS.fetch_add(1, Ordering::Relaxed) % 2 {
        0 => "INV-0A1B2C3D",
        _ => "INV-00000000",
    };
    let read = alice.call("invoice", "read", json!({"id": id}));
    assert_eq!(read.status, 200, "{read:?}");
}

/// Refusals of this code: those recorded, and those counted.
fn told(scene: &Scene, reason: &str) -> (usize, f64) {
    let recorded = scene.records(&["--outcome", reason]).len();
    let page = metrics::get(scene.lab.host(), METRICS, "/metrics").expect("metrics");
    let label = format!("outcome=\"{reason}\"");
    let samples = metrics::parse(&page);
    let counted = metrics::sum(
        &samples,
        "stockade_calls_total",
        &["tool=\"unknown\"", &label],
    );
    (recorded, counted)
}

/// Waits until so many were recorded; the record of what the door turned away is written behind it.
fn are_told(scene: &Scene, reason: &str, expected: u32) {
    let until = Instant::now() + agent::patience();
    let wanted = usize::try_from(expected).expect("small");
    loop {
        let (recorded, counted) = told(scene, reason);
        if recorded == wanted && (counted - f64::from(expected)).abs() < 0.1 {
            return;
        }
        assert!(
            Instant::now() < until,
            "{reason}: {expected} expected, {recorded} recorded, {counted} counted\n{}",
            scene.agent.log()
        );
        thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn what_is_no_request_is_refused_recorded_and_counted_at_each_door() {
    let scene = Scene::invoice();
    let alice = scene.caller("alice", &["invoice:read"]);
    let deep = format!(
        "{{\"{SECRET}\":{}{}}}",
        "[".repeat(10_000),
        "]".repeat(10_000)
    );
    let large = format!("{{\"{SECRET}\":\"{}\"}}", "x".repeat(2 << 20));
    let inputs: [(&[u8], &str); 7] = [
        (br#"{"a":1,"a":"swordfish"}"#, "json_duplicate_key"),
        (br#"{"a":1e400,"b":"swordfish"}"#, "json_number"),
        (br#"{"a":NaN,"b":"swordfish"}"#, "json_malformed"),
        (b"{\"a\":\"swordfish\xff\"}", "json_malformed"),
        (br#"{"a":"swordfish"#, "json_malformed"),
        (deep.as_bytes(), "json_too_deep"),
        (large.as_bytes(), "frame_too_large"),
    ];
    let mut expected = BTreeMap::new();
    for (input, reason) in inputs {
        for door in DOORS {
            let mut stream = connect(&scene);
            // Over HTTP the length that is announced is enough to be refused.
            let is_large = reason == "frame_too_large" && door != Door::Lines;
            let sent = if is_large { &[][..] } else { input };
            // The door may have heard enough before the end.
            drop(stream.write_all(&door.request(sent, Some(input.len()))));
            let told = answer(stream, door);
            let shown = super::text(&input[..input.len().min(40)]);
            println!("{door:?} {shown} -> {}", door.reason(&told));
            assert_eq!(door.reason(&told), reason, "{door:?} {shown}: {told}");
            assert!(!told.contains(SECRET), "{door:?} {shown}: {told}");
            *expected.entry(reason).or_insert(0) += 1;
        }
    }
    for (reason, count) in expected {
        are_told(&scene, reason, count);
    }
    // Cut in the middle, with nobody left to hear: the doors stay open.
    for door in DOORS {
        let mut stream = connect(&scene);
        let whole = door.request(br#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#, None);
        let half = &whole[..whole.len() - 10];
        stream.write_all(half).expect("it reads");
        stream.shutdown(Shutdown::Write).expect("its half");
        drop(stream);
    }
    is_served(&alice);
    let journal = fs::read_to_string(scene.agent.journal()).expect("the journal");
    assert!(!journal.contains(SECRET), "inputs are not recorded");
    assert!(!scene.agent.log().contains(SECRET), "nor logged");
    scene.end();
}

#[test]
fn what_drips_is_cut_off_at_each_door_and_holds_up_nobody() {
    let scene = Scene::invoice();
    let alice = scene.caller("alice", &["invoice:read"]);
    // Bodies and a line; and a head, which gets no answer.
    let mut begun: Vec<(Option<Door>, Vec<u8>)> = Vec::new();
    for door in DOORS {
        let mut start = door.request(b"{", Some(4_000));
        start.truncate(start.len() - usize::from(door == Door::Lines));
        begun.push((Some(door), start));
    }
    begun.push((None, b"POST /mcp HTTP/1.1\r\nHost: broker\r\nX-".to_vec()));
    let scene = &scene;
    let patience = lab::patience::scaled(FRAME * 3);
    thread::scope(|scope| {
        let drips = begun.into_iter().map(|(door, start)| {
            scope.spawn(move || {
                let (mut stream, since) = (connect(scene), Instant::now());
                stream.write_all(&start).expect("it reads");
                // Each byte comes in time; the whole does not.
                while stream.write_all(b"x").is_ok() {
                    assert!(since.elapsed() < patience, "{door:?}: still taken");
                    thread::sleep(Duration::from_millis(200));
                }
                assert!(since.elapsed() > FRAME / 2, "{door:?}: cut off at once");
                (door, door.map(|door| answer(stream, door)))
            })
        });
        let drips: Vec<_> = drips.collect();
        for _ in 0..20 {
            is_served(&alice);
            thread::sleep(Duration::from_millis(100));
        }
        for drip in drips {
            if let (Some(door), Some(told)) = drip.join().expect("no panic") {
                println!("{door:?}: {told}");
                assert_eq!(door.reason(&told), "frame_too_slow", "{door:?}: {told}");
            }
        }
    });
    // The head that got no answer too.
    are_told(scene, "frame_too_slow", 4);
    is_served(&scene.caller("alice", &["invoice:read"]));
}

/// A disk of its own in the place of a folder, as long as the value lives.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn at(folder: &Path) -> Self {
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
        let size = Some("size=24m,mode=0700");
        mount(Some("tmpfs"), folder, Some("tmpfs"), flags, size).expect("it is mounted");
        Self(folder.to_owned())
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        umount2(&self.0, MntFlags::MNT_DETACH).expect("it is taken away");
    }
}

#[test]
fn a_full_disk_under_the_journal_refuses_calls_until_there_is_room() {
    let mut scene = Scene::invoice();
    scene.agent.stop().expect("it ends");
    let state = Path::new("/var/lib").join(scene.agent.instance());
    let disk = SmallDisk::at(&state);
    scene.agent.launch().expect("it starts on a small disk");
    let alice = scene.caller("alice", &["invoice:read"]);
    is_served(&alice);
    let filler = state.join("filler");
    fs::write(&filler, vec![0; 64 << 20]).expect_err("the disk is small");
    let ask = || alice.call("invoice", "read", json!({"id": "INV-0A1B2C3D"}));
    // The last block of the journal may have room for some more.
    let until = Instant::now() + agent::patience();
    let refused = loop {
        let answer = ask();
        if !answer.is_done() {
            break answer;
        }
        assert!(Instant::now() < until, "a full disk takes everything");
    };
    assert_eq!(refused.reason(), "audit_unavailable", "{refused:?}");
    assert_eq!(refused.status, 503);
    let again = ask();
    assert_eq!(again.reason(), "audit_unavailable", "{again:?}");
    let (page, counted) = {
        let page = metrics::get(scene.lab.host(), METRICS, "/metrics").expect("metrics");
        let samples = metrics::parse(&page);
        let label = ["outcome=\"audit_unavailable\""];
        (page, metrics::sum(&samples, "stockade_calls_total", &label))
    };
    assert!(counted > 1.5, "{counted} {page}");
    fs::remove_file(&filler).expect("it is removed");
    is_served(&alice);
    scene.said(["audit", "verify"], &[]);
    scene.agent.stop().expect("it ends");
    drop(disk);
    scene.agent.launch().expect("it starts on its own disk");
    scene.end();
}
