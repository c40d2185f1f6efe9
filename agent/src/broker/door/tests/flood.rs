//! Floods of callers that nobody knows: what is refused too often has to be waited for and gets no
//! record each; who has a good token and proof waits for nothing.

use std::{
    io::{Read as _, Write as _},
    path::Path,
    time::{Duration, Instant},
};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair as CertificateKey,
};

use serde_json::{Value, json};

use super::{Door, nobody, read_line, reason, shown::Holder};
use crate::{
    broker::{
        door::Settings,
        flood::{BURST, PENALTY},
        issuer::Fetched,
        jose::KeyPair,
    },
    config::{Endpoint, Fetching, KeyPlace, LoopbackHttp},
};

const CALL: &str = r#"{"tool":"invoice","verb":"read"}"#;
const GARBAGE: &str = "Authorization: DPoP a.b.c\r\nDPoP: a.b.c\r\n";
/// An issuer that is believed, and whose keys can not be had.
const ELSEWHERE: &str = "https://elsewhere.example";
/// More than the burst and all that is paid for while it comes, on a slow machine too.
const MANY: u32 = 20 * BURST;

/// Shows garbage until that has to be waited for; how often it was refused before.
fn flood(door: &Door) -> u32 {
    flood_of(door, GARBAGE, (401, "token_malformed"))
}

/// The same with something else to show.
fn flood_of(door: &Door, headers: &str, (expected, reason): (u16, &str)) -> u32 {
    for refused in 0..MANY {
        let began = Instant::now();
        let (status, _, answer) = door.post("/v1/calls", headers, CALL);
        assert_eq!((status, &answer["reason"]), (expected, &json!(reason)));
        if began.elapsed() >= PENALTY {
            return refused;
        }
    }
    panic!("{MANY} refusals in a row, and none had to be waited for");
}

/// The issuer of that name: nobody answers at the port, and it is asked once in the whole test.
fn elsewhere(folder: &Path) -> Vec<Fetched> {
    let mut params = CertificateParams::new(Vec::new()).expect("parameters");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = CertificateKey::generate().expect("a key");
    let authority = CertifiedIssuer::self_signed(params, key).expect("an authority");
    let ca = folder.join("ca.pem");
    std::fs::write(&ca, authority.pem()).expect("written");
    let place = Endpoint::parse("http://127.0.0.1:1/keys", LoopbackHttp::Taken).expect("a URL");
    let hour = Duration::from_hours(1);
    let fetching = Fetching {
        place: KeyPlace::Set(place),
        ca,
        http: LoopbackHttp::Taken,
        refresh_min: hour,
        refresh_max: hour,
        stale_max: hour,
        pause: hour,
    };
    vec![Fetched::new(ELSEWHERE.to_owned(), fetching).expect("an issuer")]
}

/// A token in its name, made up by somebody.
fn made_up() -> String {
    let header = json!({"typ": "at+jwt", "kid": "one"});
    let header = header.as_object().expect("an object").clone();
    let pair = KeyPair::ed25519().expect("a key");
    let token = pair.sign(header, &json!({"iss": ELSEWHERE}));
    token.expect("signed")
}

/// A call with everything good; there is no tool, which is found out last.
fn is_known(door: &Door, holder: &Holder) {
    let headers = holder.headers(&door.behind.broker.nonce(), CALL);
    let (status, _, answer) = door.post("/v1/calls", &headers, CALL);
    assert_eq!(
        (status, &answer["reason"]),
        (403, &json!("unknown_or_forbidden"))
    );
}

#[test]
fn a_flood_waits_and_a_known_caller_does_not() {
    let door = Door::open();
    let holder = Holder::of(&door);
    assert!(flood(&door) + 1 >= BURST);
    // Half of it may be the machine's.
    let began = Instant::now();
    is_known(&door, &holder);
    assert!(began.elapsed() < PENALTY / 2, "{:?}", began.elapsed());
    // So does what asks for no credentials, and an address that is none.
    let ping = r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#;
    let notification = r#"{"jsonrpc":"2.0","method":"x"}"#;
    let free = [
        ("/nowhere", ping, 404),
        ("/mcp", ping, 200),
        ("/mcp", notification, 202),
    ];
    for (path, body, status) in free {
        let began = Instant::now();
        assert_eq!(door.post(path, "", body).0, status);
        assert!(began.elapsed() >= PENALTY, "{path}: {:?}", began.elapsed());
    }
}

#[test]
fn a_token_whose_keys_can_not_be_had_makes_nobody_known() {
    let door = Door::trusting(Settings::new(nobody()), elsewhere);
    let token = made_up();
    let headers = format!("Authorization: DPoP {token}\r\nDPoP: a.b.c\r\n");
    assert!(flood_of(&door, &headers, (503, "issuer_unavailable")) + 1 >= BURST);
    // Nor on a connection for lines: each of them waits, after the one before.
    let call = |id: u32| {
        json!({"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": {
            "name": "invoice.read", "arguments": {}, "_meta": {
                "stockade/authorization": format!("DPoP {token}"), "stockade/dpop": "a.b.c",
            },
        }})
    };
    let mut stream = door.connect();
    let three = [1, 2, 3].map(|id| call(id).to_string()).join("\n") + "\n";
    let began = Instant::now();
    stream.write_all(three.as_bytes()).expect("somebody reads");
    for id in 1..4 {
        let answer = read_line(&mut stream);
        assert_eq!(reason(&answer), "issuer_unavailable", "{answer}");
        assert_eq!(answer["id"], id, "in their order");
        assert!(began.elapsed() >= PENALTY * id, "{:?}", began.elapsed());
    }
    // Who is known waits for nothing.
    let began = Instant::now();
    is_known(&door, &Holder::of(&door));
    assert!(began.elapsed() < PENALTY / 2, "{:?}", began.elapsed());
}

#[test]
fn of_a_flood_the_record_is_bounded_and_tells_how_much_it_lacks() {
    let door = Door::open();
    let recorded = flood(&door);
    let began = Instant::now();
    // Several at once, so that they are counted before one more is paid for.
    let counted = std::thread::scope(|scope| {
        let many: Vec<_> = (0..32)
            .map(|_| scope.spawn(|| door.post("/v1/calls", GARBAGE, CALL)))
            .collect();
        many.into_iter()
            .map(|one| one.join().expect("no panic"))
            .filter(|(_, _, answer)| answer.get("record").is_none())
            .count()
    });
    assert!(counted > 0, "each of them has a record");
    let told = loop {
        let told: u64 = door
            .records()
            .iter()
            .filter_map(|record| record["detail"].as_str())
            .filter_map(|detail| {
                let (before, _) = detail.split_once(" before it came too fast to record")?;
                before.rsplit(' ').next()?.parse::<u64>().ok()
            })
            .sum();
        if told >= counted as u64 {
            break told;
        }
        assert!(
            began.elapsed() < Duration::from_secs(20),
            "{told} of {counted}"
        );
        std::thread::sleep(Duration::from_millis(50));
    };
    assert_eq!(told, counted as u64, "each is told of once");
    let records = door.records().len();
    assert!(records >= recorded as usize, "{records} of {recorded}");
}

#[test]
fn lines_of_an_unknown_caller_come_one_by_one_in_a_flood() {
    let door = Door::open();
    let holder = Holder::of(&door);
    flood(&door);
    let call = |id: u32| {
        json!({"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": {
            "name": "invoice.read", "arguments": {}, "_meta": {
                "stockade/authorization": "DPoP a.b.c", "stockade/dpop": "a.b.c",
            },
        }})
    };
    let mut stream = door.connect();
    let three = [1, 2, 3].map(|id| call(id).to_string()).join("\n") + "\n";
    let began = Instant::now();
    stream.write_all(three.as_bytes()).expect("somebody reads");
    for id in 1..4 {
        let answer = read_line(&mut stream);
        assert_eq!(reason(&answer), "token_malformed", "{answer}");
        assert_eq!(answer["id"], id, "in their order");
        assert!(began.elapsed() >= PENALTY * id, "{:?}", began.elapsed());
    }
    // On a connection that has shown a good token and proof, nothing waits.
    let good = json!({"jsonrpc": "2.0", "id": 9, "method": "tools/list", "params": {"_meta": {}}});
    let good = holder.line(&door.behind.broker.nonce(), good);
    let began = Instant::now();
    writeln!(stream, "{good}").expect("somebody reads");
    let answer = read_line(&mut stream);
    assert_eq!(
        answer.pointer("/result/tools"),
        Some(&json!([])),
        "{answer}"
    );
    assert!(began.elapsed() < PENALTY / 2, "{:?}", began.elapsed());
}

#[test]
fn what_nobody_answers_counts_as_well() {
    for line in [
        r#"{"jsonrpc":"2.0","method":"x"}"#,
        r#"{"jsonrpc":"2.0","id":1,"result":{}}"#,
        r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}"#,
    ] {
        let door = Door::open();
        let mut stream = door.connect();
        let timeout = Some(Duration::from_secs(2));
        stream.set_write_timeout(timeout).expect("a socket");
        // They are free up to here, ten for the price of a refusal; from then on one is read a second.
        let many = format!("{line}\n").repeat(40 * BURST as usize);
        drop(stream.write_all(many.as_bytes()));
        let began = Instant::now();
        assert_eq!(door.post("/nowhere", "", "").0, 404);
        assert!(began.elapsed() >= PENALTY, "{line}: {:?}", began.elapsed());
    }
}

#[test]
fn who_hangs_up_in_a_flood_keeps_its_seat_until_it_has_waited() {
    let mut settings = Settings::new(nobody());
    settings.connections_of_uid = 4;
    let door = Door::with(settings);
    flood(&door);
    std::thread::sleep(PENALTY);
    let began = Instant::now();
    for _ in 0..4 {
        let mut stream = door.connect();
        let request = format!(
            "POST /v1/calls HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
             {GARBAGE}Content-Length: {}\r\n\r\n{CALL}",
            CALL.len()
        );
        stream
            .write_all(request.as_bytes())
            .expect("somebody reads");
    }
    // All of them have hung up; a fifth is not let in before their time is over.
    let mut byte = [0];
    let read = door.connect().read(&mut byte);
    assert!(matches!(read, Ok(0) | Err(_)), "{read:?}");
    assert!(began.elapsed() < PENALTY, "{:?}", began.elapsed());
    std::thread::sleep(PENALTY * 2);
    is_known(&door, &Holder::of(&door));
}

impl Door {
    /// What the journal holds.
    fn records(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(self.folder.path().join("journal.jsonl"));
        text.expect("a journal")
            .lines()
            .filter_map(|line| serde_json::from_str(line).ok())
            .collect()
    }
}
