//! A worker that asks as fast as it can, beside one that asks at times.

use std::{
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use common::id::{Generation, SessionId};
use hickory_proto::rr::RecordType;

use super::{
    Around, Case, query,
    standin::{StandIn, addresses, public},
};
use crate::dns::{Asker, Askers, Limits, Settings, Sockets, Upstream, serve, session::lock};

const QUESTIONS: u32 = 100;
/// How often a client sends a question (resolv.conf(5), `attempts`, and one more). All workers share a
/// socket's room, and a program without optimisation takes datagrams more slowly than another can send
/// them: some are lost, and every client knows what to do.
const ATTEMPTS: u32 = 3;
/// Questions that may stay without an answer all the same.
const LOST_MAX: u32 = QUESTIONS / 10;
const PAUSE: Duration = Duration::from_millis(5);
/// Far beyond what a reply takes on a busy machine, far below what a client waits.
const LATE: Duration = Duration::from_millis(500);
const FLOODER: SessionId = SessionId(66);

/// One source is a worker of its own; everybody else is one worker.
struct TwoWorkers {
    around: Arc<Around>,
    flooder: SocketAddr,
}

impl Askers for TwoWorkers {
    fn find(&self, source: SocketAddr, protocol: u16) -> Option<Asker> {
        let asker = self.around.find(source, protocol)?;
        let session = if source == self.flooder {
            FLOODER
        } else {
            asker.session
        };
        Some(Asker { session, ..asker })
    }

    fn again(&self, session: SessionId) -> Option<Asker> {
        Some(Asker {
            session,
            policy: Arc::clone(&lock(&self.around.policy)),
            generation: Generation(self.around.generation.load(Ordering::Acquire)),
        })
    }
}

/// Floods with these bytes while the other worker asks; its lost questions, the flooder's sent
/// datagrams and its replies.
fn beside(flood: &[u8]) -> (u32, u64, u64) {
    let upstream = StandIn::new(|query, _| addresses(query, 300, &public(1)));
    let case = Case::new(upstream.address);
    let flooder = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a socket");
    flooder.set_nonblocking(true).expect("non-blocking");
    let sockets = Sockets::anywhere().expect("sockets");
    let to = SocketAddr::from((Ipv4Addr::LOCALHOST, sockets.port()));
    let askers = TwoWorkers {
        around: Arc::clone(&case.around),
        flooder: flooder.local_addr().expect("an address"),
    };
    let settings = Settings {
        upstream: Upstream::Plain(vec![upstream.address]),
        limits: Limits::DEFAULT,
        ..Settings::default()
    };
    let around = &case.around;
    let server = serve(
        sockets,
        settings,
        Arc::new(askers),
        Arc::clone(around) as _,
        Arc::clone(around) as _,
    );
    let _server = server.expect("a resolver");
    let asker = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a socket");
    asker.set_read_timeout(Some(LATE)).expect("a timeout");
    let ended = AtomicBool::new(false);
    let (sent, heard) = (AtomicU64::new(0), AtomicU64::new(0));
    let mut lost = 0;
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut buffer = [0; 512];
            while !ended.load(Ordering::Relaxed) {
                if flooder.send_to(flood, to).is_ok() {
                    sent.fetch_add(1, Ordering::Relaxed);
                }
                while flooder.recv(&mut buffer).is_ok() {
                    heard.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
        let bytes = query("api.example.", RecordType::A).to_vec().expect("wire");
        let mut buffer = [0; 512];
        let mut worst = Duration::ZERO;
        for _ in 0..QUESTIONS {
            let began = Instant::now();
            let answered = (0..ATTEMPTS).any(|_| {
                asker.send_to(&bytes, to).expect("sent");
                asker.recv(&mut buffer).is_ok()
            });
            lost += u32::from(!answered);
            worst = worst.max(began.elapsed());
            thread::sleep(PAUSE);
        }
        ended.store(true, Ordering::Relaxed);
        println!("the slowest of {QUESTIONS} took {worst:?}");
    });
    (lost, sent.into_inner(), heard.into_inner())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_floods_starves_nobody() {
    let allowed = query("api.example.", RecordType::A).to_vec().expect("wire");
    let (lost, sent, heard) = tokio::task::spawn_blocking(move || beside(&allowed))
        .await
        .expect("ran");
    println!("{sent} datagrams, {heard} replies, {lost} of {QUESTIONS} lost");
    assert!(sent > 10 * u64::from(QUESTIONS), "no flood: {sent}");
    assert!(lost <= LOST_MAX, "{lost} of {QUESTIONS} beside {sent}");
    // What is over the rate is told so for a while, then dropped.
    assert!(heard < sent / 4, "{heard} replies to {sent}");
}

/// The longest query there is, no name that is a name, and no query at all.
#[tokio::test(flavor = "multi_thread")]
async fn hostile_bytes_in_a_flood_starve_nobody() {
    let mut options = query("api.example.", RecordType::A).to_vec().expect("wire");
    // One additional record, OPT, filled with empty options up to the longest query.
    options[11] = 1;
    options.extend_from_slice(&[0, 0, 41, 16, 0, 0, 0, 0, 0]);
    let room = crate::dns::query::QUERY_BYTES_MAX - options.len() - 2;
    let room = room / 4 * 4;
    options.extend_from_slice(&u16::try_from(room).expect("fits").to_be_bytes());
    options.extend(std::iter::repeat_n(0, room));
    let labels = format!("{}xn--a.example.", "a.".repeat(120));
    let labels = query(&labels, RecordType::TXT).to_vec().expect("wire");
    for flood in [options, labels, vec![0xff; 4_200], Vec::new()] {
        let (lost, sent, heard) = tokio::task::spawn_blocking(move || beside(&flood))
            .await
            .expect("ran");
        println!("{sent} datagrams, {heard} replies, {lost} of {QUESTIONS} lost");
        assert!(sent > 10 * u64::from(QUESTIONS), "no flood: {sent}");
        assert!(lost <= LOST_MAX, "{lost} of {QUESTIONS} beside {sent}");
    }
}
