//! `cgroup/bind4`, `bind6`: nobody dials a worker, so a port of its own choice is of no use to it,
//! but where the session's own processes may.

use common::{
    event::Hook,
    verdict::{Reason, Verdict},
};

use super::{PASS, REFUSE, connect, own};
use crate::{
    ctx::{self, Call},
    emit::{self, Who},
    rules::{Charge, Kernel},
};

#[inline(always)]
pub(crate) fn run(call: &Call) -> i32 {
    let Some(state) = call.state() else {
        return connect::refuse_unknown(call, Hook::Bind);
    };
    if call.port() == 0 {
        call.share_no_port();
        return PASS;
    }
    let kernel = Kernel::of(state, Charge::Nothing);
    let Some(errno) = own::refusal_to_bind(call, &kernel) else {
        return PASS;
    };
    let verdict = Verdict::Deny(Reason::BindPort);
    let who = Who::of(&kernel);
    emit::count(&who, Hook::Bind, call.protocol(), &verdict);
    emit::tell(&who, &connect::what(call, Hook::Bind), &verdict);
    ctx::set_errno(errno);
    REFUSE
}
