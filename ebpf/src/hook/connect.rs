//! `cgroup/connect4`, `connect6`: the quick answer to a connect, and the socket's state.
//!
//! A socket may be connected again, so the state is written from zero each time.

use common::{
    decide::decide,
    event::Hook,
    flow::{Address, Flow, Place, Shape, TCP},
    id::RuleId,
    layout::{
        Config, STATE_DOOR, STATE_NAME_OWED, STATE_OBSERVED, STATE_OWN, STATE_PEER_OWED,
        STATE_RESOLVER,
    },
    special::{self, Special},
    verdict::{Reason, Verdict},
};

use super::{PASS, REFUSE, own, pace};
use crate::{
    ctx::Call,
    emit::{self, What, Who},
    maps,
    rules::{self, Charge, Kernel},
    state::{State, Verified},
};

#[inline(always)]
pub(crate) fn run(call: &Call) -> i32 {
    let Some(state) = call.state() else {
        return refuse_unknown(call, Hook::Connect);
    };
    call.share_no_port();
    // Who was asked before is not asked any more.
    state.set_original(Address([0; 16]), 0);
    judge(call, Hook::Connect, state)
}

/// Decides, reports, and writes the state of what passes. Connect and sendmsg share it.
#[inline(always)]
pub(crate) fn judge(call: &Call, hook: Hook, state: State) -> i32 {
    let kernel = Kernel::of(state, Charge::Connection);
    let flow = flow(call, state);
    let verdict = own::checked(call, state, &flow, decide(&kernel, &flow));
    let who = Who::of(&kernel);
    emit::count(&who, hook, flow.protocol, &verdict);
    if matches!(verdict, Verdict::Resolver) {
        // The resolver itself tells what is worth telling.
        return redirect(call, state, &flow, &kernel);
    }
    emit::tell(&who, &what(call, hook), &verdict);
    if !verdict.passes() {
        return REFUSE;
    }
    if let Some(generation) = kernel.word.generation() {
        state.verify(&verified(&flow, verdict, generation));
    }
    if is_owed(&flow, &verdict) {
        pace::unpace(call);
    }
    PASS
}

/// Sends a flow of port 53 to the resolver, whatever server it was meant for.
#[inline(always)]
fn redirect(call: &Call, state: State, flow: &Flow, kernel: &Kernel) -> i32 {
    let (Some(generation), port) = (kernel.word.generation(), rules::resolver_port()) else {
        return REFUSE;
    };
    if port == 0 {
        return REFUSE;
    }
    state.set_original(flow.address, flow.port);
    call.send_to_loopback(flow.address.v4().is_some(), port);
    state.verify(&Verified {
        address: call.address(),
        port,
        protocol: flow.protocol,
        generation,
        rule: RuleId(0),
        flags: STATE_RESOLVER,
    });
    PASS
}

/// What goes into the state of a socket whose flow passes.
#[inline(always)]
pub(crate) fn verified(
    flow: &Flow,
    verdict: Verdict,
    generation: common::id::Generation,
) -> Verified {
    let mut flags = 0;
    if flow.place == Place::Host || special::classify(&flow.address) != Special::No {
        flags |= STATE_DOOR;
    }
    if matches!(verdict, Verdict::Observe(_)) {
        flags |= STATE_OBSERVED;
    }
    if is_owed(flow, &verdict) {
        flags |= STATE_NAME_OWED;
    }
    if matches!(verdict, Verdict::AllowOwn(_)) {
        flags |= STATE_OWN | STATE_PEER_OWED;
    }
    Verified {
        address: flow.address,
        port: flow.port,
        protocol: flow.protocol,
        generation,
        rule: verdict.rule(),
        flags,
    }
}

/// Whether the flow passes on the promise of a TLS handshake.
#[inline(always)]
pub(crate) fn is_owed(flow: &Flow, verdict: &Verdict) -> bool {
    flow.protocol == TCP && matches!(verdict, Verdict::AllowNamed(_))
}

/// Refuses a socket that carries no tag: not made through `sock_create` in a session's cgroup.
#[inline(always)]
pub(crate) fn refuse_unknown(call: &Call, hook: Hook) -> i32 {
    let verdict = Verdict::Deny(Reason::UnknownWorker);
    let who = Who::nobody(0);
    emit::count(&who, hook, call.protocol(), &verdict);
    emit::tell(&who, &what(call, hook), &verdict);
    REFUSE
}

#[inline(always)]
pub(crate) fn what(call: &Call, hook: Hook) -> What {
    What {
        hook,
        address: call.address(),
        port: call.port(),
        local_port: call.local_port(),
        protocol: call.protocol(),
        family: call.family(),
        socket_type: 0,
        pid: call.pid(),
        cookie: call.cookie(),
    }
}

/// The table of local addresses is that of the agent's network namespace; in any other only egress
/// knows, by the device.
#[inline(always)]
fn flow(call: &Call, state: State) -> Flow {
    let address = call.address();
    let ours = state.netns() == maps::config(Config::AgentNetns);
    Flow {
        protocol: call.protocol(),
        address,
        port: call.port(),
        place: if ours && maps::is_local(&address) {
            Place::Host
        } else {
            Place::Remote
        },
        shape: Shape::Plain,
    }
}
