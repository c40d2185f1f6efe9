//! The first bytes of a connection that owes a name: one whole TLS hello for a name that a rule opens
//! at this port, or nothing.
//!
//! No byte passes before it, so none can be completed by what comes later; and it must stand at the
//! very beginning of the stream.

use common::{
    decide::Mode,
    event::Hook,
    flow::TCP,
    hello::{Answer, Bytes, Covers, Hello},
    layout::{STATE_NAME_OWED, STATE_OBSERVED, STATE_SYN_SEEN},
    limits::HELLO_PIECES_MAX,
    verdict::{Reason, Verdict},
};

use crate::{
    ctx::{Header, Packet, Payload, Segment},
    emit::{self, What, Who},
    maps::Name,
    rules::Kernel,
    state::{Seen, State, Verified},
};

/// What becomes of a packet.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It goes on.
    Pass,
    /// It does not; TCP sends it again, with what was written meanwhile.
    Hold,
    /// It does not, and its socket is to be destroyed. The reason is still to be told.
    Refuse(Reason),
    /// The same, and the agent has been told.
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
pub(crate) fn judge(
    packet: &Packet,
    header: &Header,
    kernel: &Kernel,
    state: Option<State>,
    what: &What,
) -> Fate {
    let Some(state) = state else {
        // Nothing would say where the stream began.
        return Fate::Refuse(Reason::TableFull);
    };
    let Some(segment) = packet.segment(header) else {
        return Fate::Refuse(Reason::TlsMalformed);
    };
    let silent = segment.length() == 0 && !segment.is_urgent();
    if state.is_ordered() {
        // It is being destroyed: its reset still goes out.
        return if silent { Fate::Pass } else { Fate::Hold };
    }
    let (seen, verified) = state.verified();
    let mut owing = Owing {
        kernel,
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
    let fate = owing.carry_out(answer, &name, what);
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
    fn answer(
        &self,
        segment: &Segment,
        payload: &Payload<'_>,
        name: &Name,
        header: &Header,
    ) -> Answer {
        let begins = self.verified.flags & STATE_SYN_SEEN != 0
            && segment.begins(self.state.initial_sequence());
        // Urgent data may be taken out of the stream: the server would read another hello.
        if !begins || segment.is_urgent() {
            return Answer::Refuse(Reason::TlsMalformed);
        }
        let mut hello = Hello::read(payload);
        let mut covers = Covers::default();
        if hello.name_at != 0 {
            if name.fold(payload, hello.name_at, hello.name_length) {
                let generation = self.verified.generation;
                covers = name.covers(self.kernel.policy, generation, header.destination_port);
            } else {
                hello.reason = Reason::TlsMalformed;
            }
        }
        hello.answer(covers)
    }

    #[inline(always)]
    fn carry_out(&self, answer: Answer, name: &Name, what: &What) -> Fate {
        let observes = self.kernel.word.mode() == Mode::Observe;
        let reason = match answer {
            Answer::Pass(rule) => {
                let paid = Verified {
                    rule,
                    flags: self.verified.flags & !(STATE_NAME_OWED | STATE_SYN_SEEN),
                    ..self.verified
                };
                return self.settle(&paid);
            }
            Answer::Hold => {
                let pieces = self.state.hello_pieces();
                if !observes && pieces < HELLO_PIECES_MAX {
                    self.state.hold(self.seen, &self.verified, pieces + 1);
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
        emit::tell_named(&who, what, &verdict, name);
        if !observes {
            return Fate::Refused;
        }
        // Passed by no rule: no later generation may carry it on.
        let paid = Verified {
            flags: (self.verified.flags & !(STATE_NAME_OWED | STATE_SYN_SEEN)) | STATE_OBSERVED,
            ..self.verified
        };
        self.settle(&paid)
    }

    /// Owes the name no more. Where another hook writes, the packet waits.
    #[inline(always)]
    fn settle(&self, paid: &Verified) -> Fate {
        if self.state.settle(self.seen, paid) {
            Fate::Pass
        } else {
            Fate::Hold
        }
    }
}
