//! What the files hold after each way to use, cut or damage them.

mod calls;
mod killed;
mod notes;
mod tampered;

use std::{
    fs::{self, OpenOptions},
    io::Write,
    os::{fd::AsRawFd, unix::fs::symlink},
    path::Path,
};

use nix::{
    fcntl::{FcntlArg, SealFlag, fcntl},
    sys::memfd::{MFdFlags, memfd_create},
};
use serde_json::Value;

use super::{
    Against, Caller, End, Error, Finding, Intent, Journal, Opened, Outcome, Spent, VerifyError,
    place::Place, verify,
};

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
            torn_bytes: 0,
            unfinished: 0,
            adopted: false
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
        output_uncounted: false,
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
    // Each agent writes that it opened the journal and that the session of the one before ended unseen.
    for (expected, unfinished) in [(2, 0), (5, 1), (8, 1)] {
        let (journal, opened) = Journal::open(&path).expect("journal");
        assert_eq!(opened.unfinished, unfinished);
        let receipt = journal.intent(&intent(&[])).expect("receipt");
        assert_eq!(receipt.sequence(), expected);
    }
    let lines = records(&path);
    assert_eq!(lines[3]["record"], "outcome_unknown");
    assert_eq!(lines[3]["begun"], 2);
    verify(&path, &Against::default()).expect("whole");
}

#[test]
fn two_agents_do_not_write_one_journal() {
    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path().join("journal.jsonl");
    let (journal, _) = Journal::open(&path).expect("journal");
    assert!(matches!(Journal::open(&path), Err(Error::Busy(_))));
    drop(journal);
    drop(Journal::open(&path).expect("journal"));
}

#[test]
fn a_journal_without_a_chain_is_gone_on_from_and_pinned() {
    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path().join("journal.jsonl");
    let old = "{\"sequence\":1,\"record\":\"opened\"}\n{\"sequence\":2,\"record\":\"leftover\"}\n";
    fs::write(&path, old).expect("write");
    let (journal, opened) = Journal::open(&path).expect("journal");
    assert!(opened.adopted && opened.next == 3);
    drop(journal);
    let lines = records(&path);
    assert_eq!(lines[0]["record"], "adopted");
    assert_eq!(lines[0]["sequence"], 3);
    let whole = verify(&path, &Against::default()).expect("whole");
    assert_eq!((whole.first, whole.last), (3, 4));
    assert_eq!(whole.plain_bytes, old.len() as u64);
    let aside = folder.path().join("journal.00000000000000000001.jsonl");
    fs::write(&aside, old.replace("leftover", "leftovex")).expect("write");
    assert!(matches!(
        verify(&path, &Against::default()),
        Err(VerifyError::Found(Finding::PlainChanged(_)))
    ));
    fs::write(&aside, old).expect("write");
    drop(Journal::open(&path).expect("journal"));
    verify(&path, &Against::default()).expect("whole");
    // Nor is one put into the place of a chain.
    fs::write(&path, old).expect("write");
    assert!(matches!(Journal::open(&path), Err(Error::Damaged(_))));
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
            torn_bytes: 18,
            unfinished: 0,
            adopted: false
        }
    );
    let lines = records(&path);
    assert_eq!(lines[1], Value::Null);
    assert_eq!(lines[2]["record"], "torn");
    assert_eq!(lines[2]["bytes"], 18);
    assert_eq!(lines[3]["record"], "opened");
    assert_eq!(lines[3]["sequence"], 3);
    verify(&path, &Against::default()).expect("whole");
    let text = fs::read_to_string(&path).expect("text");
    for changed in [
        text.replace("\"rec\n", "\"rex\n"),
        text.replace("{\"sequence\":2,\"rec\n", ""),
        text.replace("\"rec\n", "\"rec\n\n"),
    ] {
        assert_ne!(changed, text);
        fs::write(&path, changed).expect("write");
        assert!(verify(&path, &Against::default()).is_err());
    }
}

#[test]
fn a_record_that_lacks_only_its_end_counts() {
    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path().join("journal.jsonl");
    let (journal, _) = Journal::open(&path).expect("journal");
    let checkpoint = folder.path().join("journal.checkpoint");
    let early = fs::read(&checkpoint).expect("checkpoint");
    let receipt = journal.intent(&intent(&[])).expect("receipt");
    assert_eq!(receipt.sequence(), 2);
    drop(journal);
    // As if the agent had been killed in the middle of the write.
    fs::write(&checkpoint, early).expect("write");
    let file = OpenOptions::new().write(true).open(&path).expect("file");
    let size = file.metadata().expect("size").len();
    file.set_len(size - 1).expect("cut");
    verify(&path, &Against::default()).expect("whole as far as it is signed");
    let (_, opened) = Journal::open(&path).expect("journal");
    assert_eq!(
        (opened.next, opened.torn_bytes, opened.unfinished),
        (3, 0, 1)
    );
    verify(&path, &Against::default()).expect("whole");
}

#[test]
fn what_is_cut_off_or_taken_away_is_not_gone_on_from() {
    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path().join("journal.jsonl");
    let (journal, _) = Journal::open(&path).expect("journal");
    drop(journal.intent(&intent(&[])).expect("receipt"));
    drop(journal);
    let all = fs::read(&path).expect("records");
    let first = all.split_inclusive(|byte| *byte == b'\n').next();
    for cut in [first.expect("a line"), b""] {
        fs::write(&path, cut).expect("write");
        assert!(matches!(Journal::open(&path), Err(Error::Cut { .. })));
    }
    let mut edited = all.clone();
    edited[20] ^= 1;
    fs::write(&path, edited).expect("write");
    assert!(Journal::open(&path).is_err());
    fs::write(&path, all).expect("write");
    for name in ["journal.checkpoint", "journal.key"] {
        let (from, to) = (folder.path().join(name), folder.path().join("aside"));
        fs::rename(&from, &to).expect("aside");
        let opened = Journal::open(&path);
        assert!(opened.is_err(), "{name}");
        fs::rename(&to, &from).expect("back");
    }
    drop(Journal::open(&path).expect("journal"));
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
    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path().join("journal.jsonl");
    let (journal, _) = Journal::open(&path).expect("journal");
    let large = vec!["x".repeat(super::RECORD_BYTES_MAX)];
    assert!(matches!(
        journal.intent(&intent(&large)),
        Err(Error::Size { .. })
    ));
    let device = folder.path().join("device.jsonl");
    symlink("/dev/null", &device).expect("link");
    assert!(matches!(Journal::open(&device), Err(Error::NoFile(_))));
}

#[test]
fn a_failed_write_gives_no_receipt() {
    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path().join("journal.jsonl");
    let file = memfd_create(c"journal", MFdFlags::MFD_ALLOW_SEALING).expect("memory file");
    symlink(format!("/proc/self/fd/{}", file.as_raw_fd()), &path).expect("link");
    let (journal, _) = Journal::open(&path).expect("journal");
    fcntl(&file, FcntlArg::F_ADD_SEALS(SealFlag::F_SEAL_WRITE)).expect("seal");
    assert!(matches!(
        journal.intent(&intent(&[])),
        Err(Error::Write { .. })
    ));
    assert!(!journal.is_whole());
}

#[test]
fn a_full_disk_refuses_and_leaves_a_whole_journal() {
    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path().join("journal.jsonl");
    let (journal, _) = Journal::open(&path).expect("journal");
    let shared = &journal.shared();
    let size = fs::metadata(&path).expect("size").len();
    // A write that is cut at each place of the line and of what says so.
    for room in 0..700 {
        shared.leave_room(room);
        let receipt = journal.intent(&intent(&[]));
        shared.leave_room(usize::MAX);
        drop(receipt);
    }
    drop(journal.intent(&intent(&[])).expect("receipt"));
    assert!(journal.is_whole());
    drop(journal);
    assert!(fs::metadata(&path).expect("size").len() > size);
    let whole = verify(&path, &Against::default()).expect("whole");
    assert_eq!(whole.signed, whole.last);
}

#[test]
fn a_file_that_can_not_be_synced_is_not_closed() {
    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path().join("journal.jsonl");
    let (journal, _) = Journal::open_sized(&path, 1).expect("journal");
    drop(journal.intent(&intent(&[])).expect("receipt"));
    let files = || fs::read_dir(folder.path()).expect("folder").count();
    let before = files();
    journal.shared().fail_sync();
    let refused = journal.intent(&intent(&[]));
    assert!(matches!(refused, Err(Error::Write { .. })), "{refused:?}");
    let refused = journal.intent(&intent(&[]));
    assert!(matches!(refused, Err(Error::Disk(_))), "{refused:?}");
    assert!(!journal.is_whole());
    drop(journal);
    assert_eq!(files(), before);
    verify(&path, &Against::default()).expect("whole");
}

#[test]
fn of_many_files_few_are_open_at_once() {
    let made = tempfile::tempdir().expect("folder");
    let folder = made.path().canonicalize().expect("path");
    let path = folder.join("journal.jsonl");
    let (journal, _) = Journal::open_sized(&path, 1).expect("journal");
    for _ in 0..40 {
        drop(journal.intent(&intent(&[])).expect("receipt"));
    }
    drop(journal);
    let whole = verify(&path, &Against::default()).expect("whole");
    assert!(whole.files > 40, "{whole:?}");
    // Other tests run in this process: only what lies in the folder counts.
    let open = || {
        let entries = fs::read_dir("/proc/self/fd").expect("descriptors");
        let links = entries.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
        links.filter(|link| link.starts_with(&folder)).count()
    };
    let mut walked = 0;
    for opened in verify::files(&Place::new(&path).expect("place")).expect("files") {
        let (_, _file, _) = opened.expect("a file");
        walked += 1;
        assert!(open() <= 2, "{}", open());
    }
    assert_eq!(walked, whole.files);
}
