//! `cgroup/sock_create`: only TCP and UDP sockets are made in a fence, and each is tagged with its
//! session. A socket without the tag gets nowhere.

use common::{
    event::Hook,
    flow::{Address, TCP, UDP},
    id::SessionId,
    layout::{Tally, WORKER_CLOSING},
    verdict::{Reason, Verdict},
};

use super::{PASS, REFUSE};
use crate::{
    ctx::{self, Creation},
    emit::{self, What, Who},
    maps,
    rules::{Charge, Kernel},
};

const AF_INET: u16 = 2;
const AF_INET6: u16 = 10;
const SOCK_STREAM: u8 = 1;
const SOCK_DGRAM: u8 = 2;
const EACCES: i32 = 13;
const ENOMEM: i32 = 12;
const EPROTONOSUPPORT: i32 = 93;

#[inline(always)]
pub(crate) fn run(creation: &Creation) -> i32 {
    let (cgroup, worker) = ctx::nearest_worker(|level| creation.ancestor(level));
    if worker.session == SessionId(0) {
        return refuse(creation, &Who::nobody(cgroup), Reason::UnknownWorker);
    }
    let reason = if worker.flags & WORKER_CLOSING != 0 {
        Reason::UnknownWorker
    } else if let Some(errno) = refused_kind(creation) {
        ctx::set_errno(errno);
        Reason::SocketType
    } else if let Some(state) = creation.make_state() {
        state.tag(worker.session, worker.policy, creation.netns());
        return PASS;
    } else {
        maps::tally(Tally::StateMissing);
        ctx::set_errno(ENOMEM);
        Reason::TableFull
    };
    // Looked up for refusals only.
    let kernel = Kernel::new(worker.session, worker.policy, Charge::Nothing);
    refuse(creation, &Who::of(&kernel), reason)
}

/// The error number for a kind of socket that no worker gets. Programs fall back to TCP on
/// EPROTONOSUPPORT (MPTCP, SCTP), and report EACCES as a lack of rights (raw, ping).
#[inline(always)]
fn refused_kind(creation: &Creation) -> Option<i32> {
    const DCCP: u16 = 33;
    const SCTP: u16 = 132;
    const UDP_LITE: u16 = 136;
    const MPTCP: u16 = common::flow::MPTCP;
    let family = creation.family();
    match (creation.socket_type(), creation.protocol()) {
        (SOCK_STREAM, TCP) | (SOCK_DGRAM, UDP) if family == AF_INET || family == AF_INET6 => None,
        (_, MPTCP | SCTP | DCCP | UDP_LITE) => Some(EPROTONOSUPPORT),
        _ => Some(EACCES),
    }
}

#[inline(always)]
fn refuse(creation: &Creation, who: &Who, reason: Reason) -> i32 {
    let verdict = Verdict::Deny(reason);
    let protocol = creation.protocol();
    emit::count(who, Hook::SockCreate, protocol, &verdict);
    let what = What {
        hook: Hook::SockCreate,
        address: Address([0; 16]),
        port: 0,
        local_port: 0,
        protocol,
        family: creation.family(),
        socket_type: creation.socket_type(),
        pid: creation.pid(),
        cookie: creation.cookie(),
    };
    emit::tell(who, &what, &verdict);
    REFUSE
}
