//! A journal, and places that take its checkpoints, or do not.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::TcpListener,
    os::unix::net::UnixDatagram,
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{task::JoinHandle, time::timeout};

use super::{
    Place, keep,
    way::{NotKept, Way},
};
use crate::{
    audit::{Against, Finding, Journal, Signed, VerifyError, notes, verify},
    config::{Endpoint, Instance, Keeper, LoopbackHttp},
};

const PATIENCE: Duration = Duration::from_secs(20);
const EVERY: Duration = Duration::from_millis(1);

fn journal(folder: &Path) -> Journal {
    let (journal, _) = Journal::open(&folder.join("journal.jsonl")).expect("a journal");
    journal
}

fn place(way: Way, journal: &Journal) -> (Arc<Place>, JoinHandle<()>) {
    let place = Arc::new(Place {
        name: "here-1".to_owned(),
        state: Mutex::default(),
    });
    let task = tokio::spawn(keep(Arc::clone(&place), way, EVERY, journal.checkpoints()));
    (place, task)
}

async fn becomes(so: impl Fn() -> bool) {
    let wait = async {
        while !so() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, wait).await.expect("in time");
}

fn last(journal: &Journal) -> Signed {
    let signed = journal.checkpoints().borrow().clone();
    signed.expect("a journal that is open has a checkpoint")
}

/// Whether the journal in this folder is what these checkpoints say.
fn held_against(folder: &Path, notes: Vec<String>) -> Result<u64, VerifyError> {
    let against = Against {
        checkpoints: notes,
        ..Against::default()
    };
    verify(&folder.join("journal.jsonl"), &against).map(|whole| whole.last)
}

#[tokio::test]
async fn a_file_has_the_newest_one_and_a_journal_that_was_put_back_is_found_out() {
    let (folder, kept) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let path = kept.path().join("journal.checkpoint");
    let own = journal(folder.path());
    let (place, task) = place(Way::file(path.clone()), &own);
    let first = last(&own);
    becomes(|| fs::read_to_string(&path).is_ok_and(|text| *text == *first.note)).await;
    // What an attacker keeps of it, to put it back later.
    let copy = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(folder.path()).unwrap() {
        let from = entry.unwrap().path();
        fs::copy(&from, copy.path().join(from.file_name().unwrap())).unwrap();
    }
    own.policies_kept(None, "a record more").expect("a record");
    becomes(|| last(&own).sequence > first.sequence).await;
    let second = last(&own);
    becomes(|| fs::read_to_string(&path).is_ok_and(|text| *text == *second.note)).await;
    becomes(|| place.numbers().sent == [("kept", 2), ("failed", 0)]).await;
    assert_eq!(place.numbers().lag, Duration::ZERO);
    drop(own);
    timeout(PATIENCE, task).await.expect("it ends").unwrap();
    let kept = notes(&fs::read_to_string(&path).unwrap());
    assert!(held_against(folder.path(), kept.clone()).is_ok());
    // Alone it is whole, with its own older checkpoint.
    assert!(held_against(copy.path(), Vec::new()).is_ok());
    let found = held_against(copy.path(), kept);
    assert!(
        matches!(&found, Err(VerifyError::Found(Finding::Cut { signed, .. })) if *signed == second.sequence),
        "{found:?}"
    );
}

#[tokio::test]
async fn the_hosts_log_gets_entries_in_its_own_form() {
    let folder = tempfile::tempdir().unwrap();
    let own = journal(folder.path());
    let socket = folder.path().join("log.sock");
    let log = UnixDatagram::bind(&socket).unwrap();
    log.set_nonblocking(true).unwrap();
    let instance = Instance::new("stockade-test").unwrap();
    let (place, task) = place(Way::journald(&socket, &instance), &own);
    becomes(|| place.numbers().sent == [("kept", 1), ("failed", 0)]).await;
    task.abort();
    let mut bytes = vec![0; 4096];
    let length = log.recv(&mut bytes).expect("an entry");
    let fields = b"PRIORITY=6\nSYSLOG_IDENTIFIER=stockade-checkpoint\n\
        STOCKADE_INSTANCE=stockade-test\nSTOCKADE_SEQUENCE=1\nMESSAGE\n";
    let rest = bytes[..length].strip_prefix(fields).expect("the fields");
    let (length, rest) = rest.split_first_chunk().expect("a length");
    let (message, end) = rest.split_at(usize::try_from(u64::from_le_bytes(*length)).unwrap());
    assert_eq!(end, b"\n");
    // As `journalctl -o cat` writes it, several times.
    let text = String::from_utf8(message.to_vec()).unwrap() + "\n";
    let kept = notes(&text.repeat(3));
    assert_eq!(kept, vec![last(&own).note.to_string(); 3]);
    assert!(held_against(folder.path(), kept).is_ok());
    assert_eq!(notes(""), Vec::<String>::new());
}

/// A server of one connection each: what it got, answered as it is told.
fn served(statuses: &'static [&'static str]) -> (Endpoint, std::thread::JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/kept?by=me", listener.local_addr().unwrap());
    let endpoint = Endpoint::parse(&url, LoopbackHttp::Taken).unwrap();
    let serve = move || {
        let one = |status: &&str| {
            let (mut stream, _) = listener.accept().unwrap();
            let (mut text, mut bytes) = (String::new(), [0; 4096]);
            while !text.ends_with('\n') || !text.contains(" stockade/journal/") {
                let read = stream.read(&mut bytes).unwrap();
                assert!(read > 0, "{text}");
                text.push_str(str::from_utf8(&bytes[..read]).unwrap());
            }
            write!(stream, "HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n").unwrap();
            text
        };
        statuses.iter().map(one).collect()
    };
    (endpoint, std::thread::spawn(serve))
}

#[tokio::test]
async fn what_is_not_taken_by_http_comes_again_until_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let own = journal(folder.path());
    let (endpoint, server) = served(&[
        "503 Busy",
        "302 Found\r\nLocation: http://127.0.0.1:9/",
        "204 No Content",
    ]);
    let authorities = folder.path().join("ca.pem");
    let certificate = rcgen::generate_simple_self_signed(vec!["a.example".to_owned()]).unwrap();
    fs::write(&authorities, certificate.cert.pem()).unwrap();
    let keeper = Keeper::Post {
        endpoint,
        ca: authorities,
    };
    let way = Way::to(&keeper, &Instance::service()).expect("authorities");
    let (place, task) = place(way, &own);
    becomes(|| place.numbers().sent[1].1 > 0).await;
    becomes(|| place.numbers().lag > Duration::ZERO).await;
    becomes(|| place.numbers().sent == [("kept", 1), ("failed", 2)]).await;
    assert_eq!(place.numbers().lag, Duration::ZERO);
    task.abort();
    for text in server.join().unwrap() {
        let (head, body) = text.split_once("\r\n\r\n").expect("a request");
        assert!(head.starts_with("POST /kept?by=me HTTP/1.1\r\n"), "{head}");
        assert_eq!(notes(body), [last(&own).note.to_string()]);
    }
}

#[test]
fn a_server_that_nobody_could_believe_is_a_mistake_of_the_configuration() {
    let keeper = Keeper::Post {
        endpoint: Endpoint::parse("https://kept.example/", LoopbackHttp::Refused).unwrap(),
        ca: "/nowhere/ca.pem".into(),
    };
    let refused = Way::to(&keeper, &Instance::service()).err().unwrap();
    assert_eq!(
        refused.to_string(),
        "checkpoints to `https://kept.example/`: authorities `/nowhere/ca.pem`: \
         No such file or directory (os error 2)"
    );
}

#[tokio::test]
async fn a_mount_that_hangs_holds_up_its_own_place_alone() {
    let folder = tempfile::tempdir().unwrap();
    let own = journal(folder.path());
    let path = folder.path().join("kept");
    // Opening a pipe that nobody reads does not return.
    nix::unistd::mkfifo(
        &folder.path().join("kept.new"),
        nix::sys::stat::Mode::S_IRWXU,
    )
    .unwrap();
    let way = Way::file(path);
    let signed = last(&own);
    // One is being written, and one waits.
    for _ in 0..2 {
        let kept = timeout(Duration::from_millis(200), way.keep(&signed)).await;
        assert!(kept.is_err(), "{kept:?}");
    }
    let refused = way.keep(&signed).await;
    assert!(matches!(refused, Err(NotKept::Stuck)), "{refused:?}");
}
