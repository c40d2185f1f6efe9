//! `cgroup/bind4`, `bind6`: nobody dials a worker, so a port of its own choice is of no use to it.

use common::{
    event::Hook,
    verdict::{Reason, Verdict},
};

use super::{PASS, REFUSE, connect};
use crate::{
    ctx::{self, Call},
    emit::{self, Who},
    rules::{Charge, Kernel},
};

const EACCES: i32 = 13;

#[inline(always)]
pub(crate) fn run(call: &Call) -> i32 {
    let Some(state) = call.state() else {
        return connect::refuse_unknown(call, Hook::Bind);
    };
    if call.port() == 0 {
        return PASS;
    }
    let verdict = Verdict::Deny(Reason::BindPort);
    let who = Who::of(&Kernel::new(
        state.session(),
        state.policy(),
        Charge::Nothing,
    ));
    emit::count(&who, Hook::Bind, call.protocol(), &verdict);
    emit::tell(&who, &connect::what(call, Hook::Bind), &verdict);
    ctx::set_errno(EACCES);
    REFUSE
}
