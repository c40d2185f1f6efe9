//! The first bytes of a connection that owes a name: one whole TLS hello for a name that a rule opens
//! at this port, or nothing.
//!
//! No byte passes before it, so none can be completed by what comes later; and it must stand at the
//! very beginning of the stream.

use aya_ebpf::bindings::__sk_buff;
use common::{
    decide::Mode,
    event::Hook,
    flow::TCP,
    hello::{Answer, Covers},
    id::RuleId,
    layout::{STATE_NAME_OWED, STATE_OBSERVED, STATE_SYN_SEEN, SocketState},
    limits::HELLO_PIECES_MAX,
    verdict::{Reason, Verdict},
};

use super::egress::what;
use crate::{
    ctx::{Header, Packet, Payload, Segment},
    emit::{self, What, Who},
    maps::Name,
    rules::{Charge, Kernel},
    state::{Seen, State, Verified},
};

/// What becomes of a packet.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It goes on.
    Pass,
    /// It does not; TCP sends it again, with what was written meanwhile.
    Hold,
    /// It does not, the agent was told why, and its socket is to be destroyed.
    Refused,
}

/// A flow that owes a name, as its state was read.
struct Owing<'a> {
    kernel: &'a Kernel,
    state: State,
    seen: Seen,
    verified: Verified,
}

/// Judges a packet of a TCP flow that owes a name and is admitted otherwise.
#[inline(always)]
pub(crate) fn judge(packet: &Packet, header: &Header, state: State) -> Fate {
    match judge_owing(packet.context(), header, state.entry()) {
        PASSES => Fate::Pass,
        REFUSED => Fate::Refused,
        _ => Fate::Hold,
    }
}

/// [`Fate`]s as numbers.
const HELD: u32 = 0;
const PASSES: u32 = 1;
const REFUSED: u32 = 2;

/// A global function: the verifier follows it once, whatever leads to it.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn judge_owing(
    context: *mut __sk_buff,
    header: *const Header,
    state: *mut SocketState,
) -> u32 {
    let (Some(header), Some(state)) = (Header::handed(header), State::new(state)) else {
        return HELD;
    };
    match owing(&Packet::handed(context), header, state) {
        Fate::Pass => PASSES,
        Fate::Hold => HELD,
        Fate::Refused => REFUSED,
    }
}

#[inline(always)]
fn owing(packet: &Packet, header: &Header, state: State) -> Fate {
    let Some(segment) = packet.segment(header) else {
        // The kernel makes no such header.
        return Fate::Hold;
    };
    let silent = segment.length() == 0 && !segment.is_urgent();
    if state.is_ordered() {
        // It is being destroyed: its reset still goes out.
        return if silent { Fate::Pass } else { Fate::Hold };
    }
    let (seen, verified) = state.verified();
    let kernel = Kernel::of(state, Charge::Nothing);
    let mut owing = Owing {
        kernel: &kernel,
        state,
        seen,
        verified,
    };
    if owing.verified.flags & STATE_NAME_OWED == 0 {
        // Another hook is writing.
        return Fate::Hold;
    }
    if segment.opens() && owing.verified.flags & STATE_SYN_SEEN == 0 && !owing.begin(&segment) {
        return Fate::Hold;
    }
    if silent {
        return Fate::Pass;
    }
    let Some(name) = Name::take() else {
        return Fate::Hold;
    };
    let answer = owing.answer(&segment, &packet.payload(&segment), &name, header);
    let fate = owing.carry_out(answer, &name, || what(packet, header));
    name.release();
    fate
}

impl Owing<'_> {
    /// Notes where the stream begins.
    #[inline(always)]
    fn begin(&mut self, segment: &Segment) -> bool {
        self.verified.flags |= STATE_SYN_SEEN;
        let (noted, seen) = self
            .state
            .begin(self.seen, &self.verified, segment.sequence());
        self.seen = seen;
        noted
    }

    #[inline(always)]
    fn answer(&self, segment: &Segment, payload: &Payload, name: &Name, header: &Header) -> Answer {
        let begins = self.verified.flags & STATE_SYN_SEEN != 0
            && segment.begins(self.state.initial_sequence());
        // Urgent data may be taken out of the stream: the server would read another hello.
        if !begins || segment.is_urgent() {
            return Answer::Refuse(Reason::TlsMalformed);
        }
        let hello = name.read(payload);
        if hello.name_at == 0 {
            return hello.answer(Covers::default());
        }
        let scope = (self.kernel.policy, self.verified.generation);
        match name.covers(payload, &hello, scope, header.destination_port) {
            Some(covers) => hello.answer(covers),
            None => Answer::Refuse(Reason::TlsMalformed),
        }
    }

    #[inline(always)]
    fn carry_out(&self, answer: Answer, name: &Name, what: impl Fn() -> What) -> Fate {
        let observes = self.kernel.word.mode() == Mode::Observe;
        let reason = match answer {
            Answer::Pass(rule) => {
                let flags = self.verified.flags & !(STATE_NAME_OWED | STATE_SYN_SEEN);
                return self.settle(rule, flags);
            }
            Answer::Hold => {
                let pieces = self.state.hello_pieces();
                if !observes && pieces < HELLO_PIECES_MAX {
                    self.state.hold(self.seen, pieces + 1);
                    return Fate::Hold;
                }
                Reason::TlsIncomplete
            }
            Answer::Refuse(reason) => reason,
        };
        let verdict = if observes {
            Verdict::Observe(reason)
        } else {
            Verdict::Deny(reason)
        };
        let who = Who::of(self.kernel);
        emit::count(&who, Hook::Egress, TCP, &verdict);
        emit::tell_named(&who, &what(), &verdict, name);
        if !observes {
            return Fate::Refused;
        }
        // Passed by no rule: no later generation may carry it on.
        let flags = self.verified.flags & !(STATE_NAME_OWED | STATE_SYN_SEEN);
        self.settle(self.verified.rule, flags | STATE_OBSERVED)
    }

    /// Owes the name no more. Where another hook writes, the packet waits.
    #[inline(always)]
    fn settle(&self, rule: RuleId, flags: u32) -> Fate {
        if self.state.settle(self.seen, rule, flags) {
            Fate::Pass
        } else {
            Fate::Hold
        }
    }
}
