//! `cgroup/recvmsg4`, `recvmsg6`, `getpeername4`, `getpeername6`: a program that asked a name server
//! sees its address, not the resolver's. They decide nothing and can refuse nothing.

use super::PASS;
use crate::{ctx::Call, rules};

#[inline(always)]
pub(crate) fn run(call: &Call) -> i32 {
    let resolver = rules::resolver_port();
    if resolver == 0 || call.port() != resolver || !rules::is_resolver_address(&call.address()) {
        return PASS;
    }
    let Some(state) = call.state() else {
        return PASS;
    };
    let (address, port) = state.original();
    if port != 0 && call.takes(&address) {
        call.set(address, port);
    }
    PASS
}
