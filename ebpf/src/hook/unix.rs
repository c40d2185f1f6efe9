//! `cgroup/connect_unix`, `sendmsg_unix` (Linux 6.7): a unix socket is reached by a path that a rule
//! names, letter by letter, and by no other. Where the profile has sockets by name within the session,
//! its root bounds the paths, and only abstract names are refused here.

use common::{
    event::Hook,
    flow::Address,
    id::{Generation, RuleId, SessionId},
    layout::WORKER_CLOSING,
    unix::{UNIX_KEY_BYTES, UnixKey, UnixName, judge},
    verdict::{Reason, Verdict},
};

use super::{PASS, REFUSE};
use crate::{
    ctx::{self, UnixCall},
    emit::{self, What, Who},
    maps,
    rules::{Charge, Kernel},
};

const AF_UNIX: u16 = 1;
const SOCK_STREAM: u8 = 1;

#[inline(always)]
pub(crate) fn connect(call: &UnixCall) -> i32 {
    run(call, true)
}

/// Only datagrams carry a name, and no worker has sockets for those.
#[inline(always)]
pub(crate) fn sendmsg(call: &UnixCall) -> i32 {
    run(call, false)
}

#[inline(always)]
fn run(call: &UnixCall, connects: bool) -> i32 {
    let (cgroup, worker) = ctx::nearest_worker(|level| call.ancestor(level));
    if worker.session == SessionId(0) || worker.flags & WORKER_CLOSING != 0 {
        let verdict = Verdict::Deny(Reason::UnknownWorker);
        return end(call, &Who::nobody(cgroup), verdict);
    }
    let kernel = Kernel::new(worker.session, worker.policy, Charge::Nothing);
    let verdict = match kernel.word.generation() {
        _ if !connects || call.socket_type() != SOCK_STREAM => Verdict::Deny(Reason::SocketType),
        Some(generation) => judge(name(call, &kernel, generation), kernel.word.unix_names()),
        None => Verdict::Deny(Reason::UnknownWorker),
    };
    end(call, &Who::of(&kernel), verdict)
}

#[inline(always)]
fn name(call: &UnixCall, kernel: &Kernel, generation: Generation) -> UnixName {
    let mut key = UnixKey {
        policy: kernel.policy,
        generation,
        path: [0; UNIX_KEY_BYTES],
    };
    if !call.read_path(&mut key.path) {
        return UnixName::Abstract;
    }
    match maps::unix_door(&key) {
        RuleId(0) => UnixName::Path,
        rule => UnixName::Door(rule),
    }
}

#[inline(always)]
fn end(call: &UnixCall, who: &Who, verdict: Verdict) -> i32 {
    emit::count(who, Hook::Unix, 0, &verdict);
    let what = What {
        hook: Hook::Unix,
        address: Address([0; 16]),
        port: 0,
        local_port: 0,
        protocol: 0,
        family: AF_UNIX,
        socket_type: call.socket_type(),
        pid: call.pid(),
        cookie: call.cookie(),
    };
    emit::tell(who, &what, &verdict);
    if verdict.passes() { PASS } else { REFUSE }
}
