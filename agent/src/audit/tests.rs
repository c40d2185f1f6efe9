//! What the file holds after each way to use, cut or damage it.

use std::{
    fs::{self, OpenOptions},
    io::Write,
    os::fd::AsRawFd,
    path::Path,
};

use nix::{
    fcntl::{FcntlArg, SealFlag, fcntl},
    sys::memfd::{MFdFlags, memfd_create},
};
use serde_json::Value;

use super::{Caller, End, Error, Intent, Journal, Opened, Outcome, Spent};

const CALLER: Caller = Caller {
    uid: 0,
    gid: 0,
    pid: 7,
};

fn intent(command: &[String]) -> Intent<'_> {
    Intent {
        tool: "web",
        policy: "00ff",
        command,
        caller: CALLER,
    }
}

fn records(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).expect("journal");
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap_or(Value::Null))
        .collect()
}

#[test]
fn a_session_is_an_intent_and_an_outcome() {
    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path().join("state/journal.jsonl");
    let (journal, opened) = Journal::open(&path).expect("journal");
    assert_eq!(
        opened,
        Opened {
            next: 1,
            torn_bytes: 0
        }
    );
    let receipt = journal
        .intent(&intent(&["/bin/true".to_owned()]))
        .expect("receipt");
    assert_eq!(receipt.sequence(), 2);
    let outcome = Outcome {
        end: End::Exit(3),
        seconds: 0.25,
        used: Spent::default(),
        enforced: Some(&["landlock"]),
        output: None,
        refused: &[],
        events_missing: 0,
    };
    journal
        .outcome(receipt.session(), &outcome)
        .expect("outcome");
    let lines = records(&path);
    assert_eq!(lines.len(), 3);
    assert_eq!(lines[1]["record"], "intent");
    assert_eq!(lines[1]["command"][0], "/bin/true");
    assert_eq!(lines[2]["record"], "outcome");
    assert_eq!(lines[2]["session"], 2);
    assert_eq!(lines[2]["end"]["exit"], 3);
    assert_eq!(lines[2]["enforced"][0], "landlock");
    assert!(lines[2].get("output").is_none());
}

#[test]
fn numbers_go_on_after_a_restart() {
    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path().join("journal.jsonl");
    for expected in [2, 4, 6] {
        let (journal, _) = Journal::open(&path).expect("journal");
        let receipt = journal.intent(&intent(&[])).expect("receipt");
        assert_eq!(receipt.sequence(), expected);
    }
}

#[test]
fn a_cut_record_is_marked_and_never_mended() {
    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path().join("journal.jsonl");
    drop(Journal::open(&path).expect("journal"));
    let mut file = OpenOptions::new().append(true).open(&path).expect("file");
    file.write_all(b"{\"sequence\":2,\"rec").expect("write");
    let (_, opened) = Journal::open(&path).expect("journal");
    assert_eq!(
        opened,
        Opened {
            next: 2,
            torn_bytes: 18
        }
    );
    let lines = records(&path);
    assert_eq!(lines[1], Value::Null);
    assert_eq!(lines[2]["record"], "torn");
    assert_eq!(lines[2]["bytes"], 18);
    assert_eq!(lines[3]["record"], "opened");
    assert_eq!(lines[3]["sequence"], 3);
}

#[test]
fn a_journal_without_a_record_is_not_written_to() {
    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path().join("journal.jsonl");
    fs::write(&path, "not a journal\n").expect("write");
    assert!(matches!(Journal::open(&path), Err(Error::Damaged(_))));
}

#[test]
fn no_receipt_without_a_write() {
    let (journal, _) = Journal::open(Path::new("/dev/null")).expect("journal");
    let large = vec!["x".repeat(super::RECORD_BYTES_MAX)];
    assert!(matches!(
        journal.intent(&intent(&large)),
        Err(Error::Size { .. })
    ));
}

#[test]
fn a_failed_write_gives_no_receipt() {
    let file = memfd_create(c"journal", MFdFlags::MFD_ALLOW_SEALING).expect("memory file");
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    let (journal, _) = Journal::open(Path::new(&path)).expect("journal");
    fcntl(&file, FcntlArg::F_ADD_SEALS(SealFlag::F_SEAL_WRITE)).expect("seal");
    assert!(matches!(
        journal.intent(&intent(&[])),
        Err(Error::Write { .. })
    ));
    assert!(!journal.is_whole());
}
