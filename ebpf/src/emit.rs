//! Tells the agent what was decided: counters for every decision, events for those worth telling.
//!
//! Never waits and never fails: what can not be told is counted as lost.

use common::{
    event::{Event, Hook},
    flow::{Address, TCP, UDP},
    id::{Generation, PolicyId, SessionId},
    layout::{CounterKey, Tally},
    limits::EVENTS_PER_SECOND,
    verdict::{Outcome, Verdict},
};

use crate::{ctx, maps, rules::Kernel};

pub(crate) const NANOSECONDS: u64 = 1_000_000_000;

/// Whose flow it was.
pub(crate) struct Who {
    pub(crate) session: SessionId,
    pub(crate) policy: PolicyId,
    pub(crate) generation: Generation,
    /// Where no session is known, the cgroup.
    pub(crate) cgroup: u64,
}

impl Who {
    /// A socket of nobody that the agent knows.
    #[inline(always)]
    pub(crate) fn nobody(cgroup: u64) -> Self {
        Self {
            session: SessionId(0),
            policy: PolicyId(0),
            generation: Generation(0),
            cgroup,
        }
    }

    #[inline(always)]
    pub(crate) fn of(kernel: &Kernel) -> Self {
        Self {
            session: kernel.session,
            policy: kernel.policy,
            generation: kernel.word.generation().unwrap_or_default(),
            cgroup: 0,
        }
    }
}

/// What it was about.
pub(crate) struct What {
    pub(crate) hook: Hook,
    pub(crate) address: Address,
    pub(crate) port: u16,
    pub(crate) local_port: u16,
    pub(crate) protocol: u16,
    pub(crate) family: u16,
    pub(crate) socket_type: u8,
    pub(crate) pid: u32,
    pub(crate) cookie: u64,
}

/// Counts a decision.
#[inline(always)]
pub(crate) fn count(who: &Who, hook: Hook, protocol: u16, verdict: &Verdict) {
    let counted = protocol == TCP || protocol == UDP;
    maps::count(&CounterKey {
        policy: who.policy,
        protocol: if counted { protocol } else { 0 },
        outcome: verdict.outcome() as u8,
        reason: verdict.reason() as u8,
        hook: hook as u8,
        pad: [0; 7],
    });
}

/// Sends a decision's event, as far as the session's rate allows.
#[inline(always)]
pub(crate) fn tell(who: &Who, what: &What, verdict: &Verdict) {
    let time_ns = ctx::now();
    let Some(suppressed) = admit(who.session, time_ns) else {
        maps::tally(Tally::EventsSuppressed);
        return;
    };
    // What is allowed can wait a moment; a refusal is what somebody waits for.
    let urgent = verdict.outcome() != Outcome::Allow;
    maps::send_event(time_ns, urgent, || {
        event(who, what, verdict, time_ns, suppressed)
    });
}

/// The same, with the name of a refused handshake.
#[inline(always)]
pub(crate) fn tell_named(who: &Who, what: &What, verdict: &Verdict, name: &maps::Name) {
    let time_ns = ctx::now();
    let Some(suppressed) = admit(who.session, time_ns) else {
        maps::tally(Tally::EventsSuppressed);
        return;
    };
    name.send_event(|| event(who, what, verdict, time_ns, suppressed));
}

#[inline(always)]
fn event(who: &Who, what: &What, verdict: &Verdict, time_ns: u64, suppressed: u32) -> Event {
    Event {
        time_ns,
        session: who.session,
        rule: verdict.rule(),
        cookie: what.cookie,
        address: what.address,
        policy: who.policy,
        generation: who.generation,
        pid: what.pid,
        suppressed,
        cgroup: who.cgroup,
        protocol: what.protocol,
        port: what.port,
        local_port: what.local_port,
        family: what.family,
        outcome: verdict.outcome() as u8,
        reason: verdict.reason() as u8,
        hook: what.hook as u8,
        socket_type: what.socket_type,
        pad: 0,
    }
}

/// How many events were suppressed before this one, or `None` when this one is too many. A session
/// without an entry shares entry 0 with all such.
#[inline(always)]
fn admit(session: SessionId, time_ns: u64) -> Option<u32> {
    let usage = match maps::usage(session) {
        Some(usage) => usage,
        None => maps::usage(SessionId(0))?,
    };
    let second = time_ns / NANOSECONDS;
    if usage.event_second().load() != second {
        usage.event_second().store(second);
        usage.event_count().store(0);
    }
    if usage.event_count().fetch_add(1) >= u64::from(EVENTS_PER_SECOND) {
        usage.suppressed().fetch_add(1);
        return None;
    }
    if usage.suppressed().load() == 0 {
        return Some(0);
    }
    Some(u32::try_from(usage.suppressed().swap(0)).unwrap_or(u32::MAX))
}
