//! What a flood of callers that nobody knows takes from one whom the broker knows.
//!
//! The flood is a process of another user with two threads. It shows what costs most to refuse of all
//! that one without a key can make: a token with the head and the claims of a good one, and a
//! signature that is none; each another one. Beside it one that connects to nobody: so much anybody
//! takes who may run two threads on the machine.

use std::{
    io::{Read as _, Write as _},
    os::unix::{fs::MetadataExt as _, net::UnixStream, process::CommandExt as _},
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use agent::broker::jose::base64url;
use anyhow::{Context as _, Result, bail};
use lab::{agent::METRICS, metrics};

use super::{
    Scene, block_on,
    callers::Door,
    load::{Pace, Turn, turn},
    processor_seconds,
};
use crate::row::Row;

/// The word by which the bench's own program is the flood.
pub(crate) const WORD: &str = "flood-of-calls";
const ROUNDS: usize = 5;
const TIME: Duration = Duration::from_secs(2);
/// Until the flood has come to what it can do.
const SETTLE: Duration = Duration::from_secs(1);
const PACE: u32 = 1_000;
const CONNECTIONS: usize = 32;
const QUESTIONS: usize = 900;
const THREADS: usize = 2;
/// Connections that a thread of the flood keeps.
const KEPT: usize = 100;
/// A user that is no worker, as it has no entry anywhere else.
const NOBODY: u32 = 65_534;
const SIGNATURE_BYTES: usize = 64;
/// How long a connection of the flood waits for its answer at most.
const ANSWER_TIME: Duration = Duration::from_secs(30);

/// How it comes.
const KINDS: [(&str, [&str; 4]); 3] = [
    (
        "busy",
        [
            "flood_busy_calls",
            "flood_busy_pace",
            "flood_busy_refused",
            "flood_busy_processor",
        ],
    ),
    (
        "kept",
        [
            "flood_kept_calls",
            "flood_kept_pace",
            "flood_kept_refused",
            "flood_kept_processor",
        ],
    ),
    (
        "fresh",
        [
            "flood_fresh_calls",
            "flood_fresh_pace",
            "flood_fresh_refused",
            "flood_fresh_processor",
        ],
    ),
];

/// What was seen with or without a flood.
#[derive(Default)]
struct Seen {
    rates: Vec<f64>,
    paced: Vec<f64>,
}

/// The rows of this bench. `bare` is without a flood.
pub(crate) fn run() -> Result<Vec<Row>> {
    let mut scene = Scene::new()?;
    // Workers that are warm, and caches that are filled.
    own(&mut scene, Pace::Full)?;
    let mut rows = Vec::new();
    for (kind, metrics) in KINDS {
        let (mut without, mut with) = (Seen::default(), Seen::default());
        let (mut refused, mut spent) = (Vec::new(), Vec::new());
        for round in 0..ROUNDS {
            for flooded in [round % 2 == 0, round % 2 != 0] {
                if !flooded {
                    without.add(&mut scene)?;
                    continue;
                }
                let before = refusals(&scene)?;
                let flood = Flood::start(&scene, kind)?;
                std::thread::sleep(SETTLE);
                let outcome = with.add(&mut scene);
                scene.told(outcome)?;
                refused.push((refusals(&scene)? - before) / flood.seconds());
                spent.push(processor_seconds(flood.child.id())? / flood.seconds());
            }
        }
        let [calls, pace, rate, processor] = metrics;
        for (subject, mut seen) in [("bare", without), ("stockade", with)] {
            rows.push(Row::new("broker", subject, calls, "1/s", &mut seen.rates));
            rows.push(Row::new("broker", subject, pace, "µs", &mut seen.paced));
        }
        rows.push(Row::new("broker", "flood", rate, "1/s", &mut refused));
        rows.push(Row::new("broker", "flood", processor, "cpus", &mut spent));
    }
    Ok(rows)
}

impl Seen {
    fn add(&mut self, scene: &mut Scene) -> Result<()> {
        self.rates.push(own(scene, Pace::Full)?.rate());
        let paced = own(scene, Pace::PerSecond(PACE))?;
        self.paced.extend(paced.latencies);
        Ok(())
    }
}

/// A turn of callers who have good tokens.
fn own(scene: &mut Scene, pace: Pace) -> Result<Turn> {
    scene.callers.renew()?;
    block_on(async {
        let all = scene
            .callers
            .connections(Door::Http, "echo", CONNECTIONS, QUESTIONS)?;
        turn(all, pace, TIME).await
    })
}

/// Requests that were refused for their token so far.
fn refusals(scene: &Scene) -> Result<f64> {
    let text = metrics::get(scene.lab.host(), METRICS, "/metrics")?;
    let samples = metrics::parse(&text);
    let of = |reason: &str| {
        let label = format!("outcome=\"{reason}\"");
        metrics::sum(&samples, "stockade_calls_total", &[&label])
    };
    Ok(of("token_signature") + of("connection_limit"))
}

/// The flood's process; it ends with this value.
struct Flood {
    child: Child,
    began: std::time::Instant,
}

impl Flood {
    fn start(scene: &Scene, kind: &str) -> Result<Self> {
        let socket = scene.callers.socket();
        let child = Command::new("/proc/self/exe")
            .args([WORD, kind, &scene.callers.a_token()?])
            .arg(socket)
            .uid(NOBODY)
            .gid(std::fs::metadata(socket)?.gid())
            .stdin(Stdio::null())
            .spawn()
            .context("the flood")?;
        let began = std::time::Instant::now();
        Ok(Self { child, began })
    }

    fn seconds(&self) -> f64 {
        self.began.elapsed().as_secs_f64()
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// The flood itself: `KIND TOKEN SOCKET`. Ends when it is killed.
pub(crate) fn pour(mut words: impl Iterator<Item = String>) -> Result<()> {
    let mut word = || words.next().context("KIND TOKEN SOCKET");
    let (kind, token, socket) = (word()?, word()?, word()?);
    let (body, _signature) = token.rsplit_once('.').context("a token has a signature")?;
    let each = |thread: usize| match kind.as_str() {
        "busy" => {
            busy(body, thread);
            Ok(())
        }
        "kept" => kept(Path::new(&socket), body, thread),
        "fresh" => fresh(Path::new(&socket), body, thread),
        kind => bail!("no flood is `{kind}`"),
    };
    std::thread::scope(|scope| {
        for thread in 1..THREADS {
            scope.spawn(move || each(thread));
        }
        each(0)
    })
}

/// Makes its requests and sends none.
fn busy(token: &str, thread: usize) {
    for number in (thread..).step_by(THREADS) {
        drop(std::hint::black_box(request(token, number)));
    }
}

/// Connections that are kept: on each the next request as soon as there is an answer.
fn kept(socket: &Path, token: &str, thread: usize) -> Result<()> {
    let mut number = thread;
    let mut next = || {
        number += THREADS;
        request(token, number)
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let (sender, mut answered) = tokio::sync::mpsc::unbounded_channel();
        for _ in 0..KEPT {
            sender.send(None).ok();
        }
        while let Some(stream) = answered.recv().await {
            let (sender, request, socket) = (sender.clone(), next(), socket.to_owned());
            tokio::spawn(async move {
                let mut answer = vec![0; 4096];
                let mut stream = match stream {
                    Some(stream) => stream,
                    None => match tokio::net::UnixStream::connect(&socket).await {
                        Ok(stream) => stream,
                        Err(_) => return sender.send(None),
                    },
                };
                let asked = async {
                    stream.write_all(&request).await?;
                    stream.read(&mut answer).await
                };
                let answered = tokio::time::timeout(ANSWER_TIME, asked).await;
                let goes_on = matches!(answered, Ok(Ok(bytes)) if bytes > 0);
                sender.send(goes_on.then_some(stream))
            });
        }
        Ok(())
    })
}

/// A connection for each request, left before the answer.
fn fresh(socket: &Path, token: &str, thread: usize) -> Result<()> {
    let mut byte = [0];
    for number in (thread..).step_by(THREADS) {
        let Ok(mut stream) = UnixStream::connect(socket) else {
            continue;
        };
        if stream.write_all(&request(token, number)).is_ok() && number % 64 == thread {
            // Now and then it waits, as the queue of the socket makes it do.
            stream.set_read_timeout(Some(Duration::from_millis(1)))?;
            drop(stream.read(&mut byte));
        }
    }
    Ok(())
}

fn request(token: &str, number: usize) -> Vec<u8> {
    let mut signature = vec![7; SIGNATURE_BYTES];
    for (byte, part) in signature.iter_mut().zip(number.to_le_bytes()) {
        *byte = part;
    }
    let signature = base64url(&signature);
    let body = r#"{"tool": "echo", "verb": "say", "arguments": {"text": "nothing"}}"#;
    format!(
        "POST /v1/calls HTTP/1.1\r\nHost: broker\r\nContent-Type: application/json\r\n\
         Authorization: DPoP {token}.{signature}\r\nDPoP: {token}.{signature}\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}
