//! Datagrams that are received together, from several sources.

use std::{
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use common::id::SessionId;
use hickory_proto::{
    op::{Message, ResponseCode},
    rr::RecordType,
};
use tokio::time::timeout;

use super::{
    Case, LATE, query,
    standin::{StandIn, addresses, public},
};
use crate::dns::{Asker, Askers, Server, Settings, Sockets, Upstream, serve};

/// More than one batch of them.
const QUERIES: u16 = 60;

/// The same as around a case, but one source is nobody's.
struct Apart {
    case: Case,
    stranger: SocketAddr,
    looks: AtomicUsize,
}

impl Askers for Apart {
    fn find(&self, source: SocketAddr, protocol: u16) -> Option<Asker> {
        self.looks.fetch_add(1, Ordering::AcqRel);
        let asker = self.case.around.find(source, protocol);
        asker.filter(|_| source != self.stranger)
    }

    fn again(&self, session: SessionId) -> Option<Asker> {
        self.case.around.again(session)
    }
}

fn client() -> UdpSocket {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a socket");
    socket.set_nonblocking(true).expect("non-blocking");
    socket
}

/// A resolver that knows all but one source, and begins when these sources have asked.
fn resolver(
    upstream: &StandIn,
    stranger: &UdpSocket,
    asking: &[&UdpSocket],
    name: &str,
) -> (Arc<Apart>, Server) {
    let apart = Arc::new(Apart {
        case: Case::new(upstream.address),
        stranger: stranger.local_addr().expect("an address"),
        looks: AtomicUsize::new(0),
    });
    let sockets = Sockets::anywhere().expect("sockets");
    let to = SocketAddr::from((Ipv4Addr::LOCALHOST, sockets.port()));
    for id in 0..QUERIES {
        let mut query = query(name, RecordType::A);
        query.metadata.id = id;
        let bytes = query.to_vec().expect("wire");
        for socket in asking {
            socket.send_to(&bytes, to).expect("sent");
        }
    }
    let around = &apart.case.around;
    let server = serve(
        sockets,
        Settings {
            upstream: Upstream::Plain(vec![upstream.address]),
            ..Settings::default()
        },
        Arc::clone(&apart) as _,
        Arc::clone(around) as _,
        Arc::clone(around) as _,
    );
    (apart, server.expect("a resolver"))
}

/// The codes of all replies, by the ids of the queries.
async fn replies(socket: UdpSocket) -> Vec<(u16, ResponseCode)> {
    let socket = tokio::net::UdpSocket::from_std(socket).expect("a socket");
    let mut all = Vec::new();
    let mut buffer = [0; 512];
    while all.len() < usize::from(QUERIES) {
        let received = timeout(LATE, socket.recv(&mut buffer)).await;
        let length = received.expect("in time").expect("received");
        let message = Message::from_vec(&buffer[..length]).expect("a message");
        all.push((message.metadata.id, message.metadata.response_code));
    }
    all.sort_unstable_by_key(|(id, _)| *id);
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_nobody_is_told_apart_in_the_midst_of_a_workers_queries() {
    let upstream = StandIn::new(|query, _| addresses(query, 300, &public(1)));
    let (worker, stranger) = (client(), client());
    let (_apart, server) = resolver(&upstream, &stranger, &[&worker, &stranger], "api.example.");
    let answered = |code| (0..QUERIES).map(|id| (id, code)).collect::<Vec<_>>();
    assert_eq!(replies(stranger).await, answered(ResponseCode::Refused));
    assert_eq!(replies(worker).await, answered(ResponseCode::NoError));
    assert_eq!(server.stats().unknown, u64::from(QUERIES));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_source_is_looked_up_once_a_batch_and_in_each_anew() {
    let upstream = StandIn::new(|query, _| addresses(query, 300, &public(1)));
    let (worker, stranger) = (client(), client());
    // Refused at once: who waits for upstream is looked up once more before the reply.
    let (apart, _server) = resolver(&upstream, &stranger, &[&worker], "other.example.");
    assert_eq!(replies(worker).await.len(), usize::from(QUERIES));
    let looks = apart.looks.load(Ordering::Acquire);
    assert!(
        (2..usize::from(QUERIES) / 10).contains(&looks),
        "{looks} looks"
    );
}
