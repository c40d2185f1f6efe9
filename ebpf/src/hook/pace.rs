//! Paced congestion control and the first bytes of a connection that owes a name.
//!
//! BBR sends by the clock: on a slow path one segment at a time, so a hello of two segments never
//! stands in one packet, and none passes before it is whole. A socket that owes a name therefore
//! begins with `reno`, which every kernel has and which sends two segments in one packet at any round
//! trip, and gets its own back with the first round trip after the name was seen.

use common::layout::STATE_NAME_OWED;

use super::PASS;
use crate::ctx::{Call, CongestionName, Moment};

/// What stands in for a paced one.
const RENO: CongestionName = *b"reno\0\0\0\0\0\0\0\0\0\0\0\0";

/// `BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB`
const ESTABLISHED: u32 = 4;
/// `BPF_SOCK_OPS_RTT_CB`
const ROUND_TRIP: u32 = 12;
/// `BPF_SOCK_OPS_RTT_CB_FLAG`
const ROUND_TRIPS: i32 = 1 << 3;

/// Whether it sends by the clock: every version of BBR.
#[inline(always)]
fn is_paced(name: &CongestionName) -> bool {
    name[0] == b'b' && name[1] == b'b' && name[2] == b'r'
}

/// For a connection that will owe a name: nothing of it was sent yet.
#[inline(always)]
pub(crate) fn unpace(call: &Call) {
    if let Some(name) = call.congestion()
        && is_paced(&name)
    {
        call.swap_congestion(&name, &RENO);
    }
}

/// Gives a socket its own congestion control back once it owes no name.
#[inline(always)]
pub(crate) fn run(moment: &Moment) -> i32 {
    match moment.what() {
        ESTABLISHED if moment.kept().is_some() => moment.watch(ROUND_TRIPS),
        ROUND_TRIP => restore(moment),
        _ => {}
    }
    PASS
}

#[inline(always)]
fn restore(moment: &Moment) {
    let owes = |flags: u32| flags & STATE_NAME_OWED != 0;
    if moment
        .state()
        .is_none_or(|state| owes(state.verified().1.flags))
    {
        return;
    }
    if let Some(name) = moment.kept() {
        // A program that chose another one meanwhile keeps it.
        if moment.congestion() == Some(RENO) {
            moment.set_congestion(&name);
        }
        moment.forget();
    }
    moment.watch(0);
}
