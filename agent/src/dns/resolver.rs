//! A query's way: who asks, may he, is it known; else it waits with all that ask the same. Knows no
//! sockets: bytes in, bytes out.

mod identity;
mod repeated;
mod telling;

use std::{
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex},
};

use common::verdict::{Outcome, Reason};

pub(super) use self::identity::Identity;
use self::telling::denied;
use super::{
    answer::Records,
    asker::{Asker, Askers, Witness},
    cache::{Cache, Kept},
    gate::{self, Admitted, Ruling},
    lease::{Granter, Leased, Lessee},
    query::{self, Malformed, Query},
    reply::{self, Code},
    session::{Place, Session, Sessions, lock},
    settings::{Refusal, Settings},
    stats::{Counters, Served, Stats},
};
use crate::clock::BootTime;

/// Everything that answers queries.
pub(super) struct Resolver {
    pub(super) settings: Settings,
    askers: Arc<dyn Askers>,
    granter: Arc<dyn Granter>,
    witness: Arc<dyn Witness>,
    pub(super) sessions: Sessions,
    pub(super) cache: Mutex<Cache>,
    pub(super) counters: Counters,
    pub(super) waiting: super::session::Gauge,
    pub(super) connections: super::session::Gauge,
}

/// Where a query came from.
#[derive(Clone, Copy, Debug)]
pub(super) struct Source {
    pub(super) address: SocketAddr,
    /// IP protocol number.
    pub(super) protocol: u16,
    /// Cookie of the network namespace; nothing for the agent's own.
    pub(super) netns: Option<u64>,
}

/// What became of a query.
#[derive(Debug)]
pub(super) enum Taken {
    /// It gets no reply.
    Silent,
    /// The reply is written.
    Replied,
    /// It has to be asked upstream.
    Ask(Box<Waiter>),
}

/// A query that waits for upstream.
#[derive(Debug)]
pub(super) struct Waiter {
    case: Case,
    query: Query<'static>,
    pub(super) admitted: Admitted,
    protocol: u16,
    /// Given back when the waiting is over.
    _places: [Place; 2],
}

/// What the gate refuses.
#[derive(Clone, Copy, Debug)]
struct Refused {
    code: Code,
    /// Why, where that is worth an event.
    reason: Option<Reason>,
}

/// Who asked, and when.
#[derive(Debug)]
struct Case {
    asker: Asker,
    session: Arc<Session>,
    now: BootTime,
}

impl Resolver {
    pub(super) fn new(
        settings: Settings,
        askers: Arc<dyn Askers>,
        granter: Arc<dyn Granter>,
        witness: Arc<dyn Witness>,
    ) -> Self {
        let limits = settings.limits;
        Self {
            settings,
            askers,
            granter,
            witness,
            sessions: Sessions::default(),
            cache: Mutex::new(Cache::new(limits.cache_entries, limits.cache_bytes)),
            counters: Counters::default(),
            waiting: super::session::Gauge::default(),
            connections: super::session::Gauge::default(),
        }
    }

    pub(super) fn stats(&self) -> Stats {
        let (cache_entries, cache_bytes) = lock(&self.cache).size();
        Stats {
            waiting: self.waiting.count(),
            connections: self.connections.count(),
            sessions: self.sessions.count(),
            cache_entries,
            cache_bytes,
            ..self.counters.read()
        }
    }

    /// Takes one query; the reply, if there is one at once, is in `out`.
    pub(super) fn take(&self, bytes: &[u8], source: Source, out: &mut Vec<u8>) -> Taken {
        self.take_of(&self.identify(source), bytes, source.protocol, out)
    }

    /// The same for who has been identified since the query was received.
    pub(super) fn take_of(
        &self,
        who: &Identity,
        bytes: &[u8],
        protocol: u16,
        out: &mut Vec<u8>,
    ) -> Taken {
        let Some((asker, session)) = &who.0 else {
            let read = query::read(bytes);
            if read == Err(Malformed::Unanswerable) {
                self.counters.malformed.add();
                return Taken::Silent;
            }
            self.counters.unknown.add();
            return refuse(&read, Code::Refused, out);
        };
        let case = Case {
            asker: asker.clone(),
            session: Arc::clone(session),
            now: BootTime::now(),
        };
        let over = self.is_over(&case);
        if over && !case.session.lock().may_refuse(case.now.0) {
            // What gets no reply is not read either: reading is the dear part, and others wait.
            self.served(&case, Served::Limited);
            self.report(&case, None, denied(Reason::QueryLimit), None);
            return Taken::Silent;
        }
        let read = query::read(bytes);
        if read == Err(Malformed::Unanswerable) {
            self.counters.malformed.add();
            return Taken::Silent;
        }
        if over {
            self.served(&case, Served::Limited);
            self.report(&case, read.as_ref().ok(), denied(Reason::QueryLimit), None);
            return refuse(&read, Code::Refused, out);
        }
        match read {
            Ok(query) if self.repeats(&case, &query, protocol, out) => Taken::Replied,
            Ok(query) if query.edns.is_none_or(|edns| edns.version == 0) => {
                self.judge(case, query, protocol, out)
            }
            Ok(_) => {
                self.served(&case, Served::Malformed);
                refuse(&read, Code::BadVers, out)
            }
            Err(_) => {
                self.served(&case, Served::Malformed);
                self.report(&case, None, denied(Reason::QueryMalformed), None);
                refuse(&read, Code::FormErr, out)
            }
        }
    }

    fn is_over(&self, case: &Case) -> bool {
        let mut session = case.session.lock();
        session
            .take_query(&self.settings.limits, case.now.0)
            .is_err()
    }

    fn judge(&self, case: Case, query: Query<'_>, protocol: u16, out: &mut Vec<u8>) -> Taken {
        match self.ruling(&case, &query) {
            Ok(admitted) => self.admit(case, query, admitted, protocol, out),
            Err(refused) => self.turn_away(&case, &query, refused, out),
        }
    }

    fn ruling(&self, case: &Case, query: &Query<'_>) -> Result<Admitted, Refused> {
        let (code, reason) = match gate::judge(&case.asker.policy, query) {
            Ruling::Admit(admitted) => return Ok(admitted),
            Ruling::NoName(reason) => (self.refusal(), reason),
            Ruling::NoRecord(reason) => (Code::NoError, reason),
            Ruling::Nothing => (Code::NxDomain, None),
        };
        Err(Refused { code, reason })
    }

    fn turn_away(
        &self,
        case: &Case,
        query: &Query<'_>,
        Refused { code, reason }: Refused,
        out: &mut Vec<u8>,
    ) -> Taken {
        self.served(case, Served::Refused);
        if let Some(reason) = reason {
            self.report(case, Some(query), denied(reason), None);
        }
        reply::empty(query, code, out);
        Taken::Replied
    }

    fn admit(
        &self,
        case: Case,
        query: Query<'_>,
        admitted: Admitted,
        protocol: u16,
        out: &mut Vec<u8>,
    ) -> Taken {
        let limits = &self.settings.limits;
        let over = |reason, code, out: &mut Vec<u8>| {
            self.served(&case, Served::Limited);
            self.report(&case, Some(&query), denied(reason), None);
            reply::empty(&query, code, out);
            Taken::Replied
        };
        let taken = case.session.lock().take_name(&admitted, limits, case.now.0);
        if taken.is_err() {
            return over(Reason::NameBudget, self.refusal(), out);
        }
        let kept = lock(&self.cache).find(&admitted.question, case.now.0);
        if let Some(kept) = kept {
            self.counters.cache_hits.add();
            return self.answer(&case, &query, &admitted, &kept, protocol, out);
        }
        let Some(own) = case.session.waiting.take(limits.waiting_per_session) else {
            return over(Reason::QueryLimit, Code::Refused, out);
        };
        let Some(shared) = self.waiting.take(limits.waiting) else {
            // Not this session's fault alone: no event blames it.
            self.served(&case, Served::Failed);
            reply::empty(&query, Code::ServFail, out);
            return Taken::Replied;
        };
        Taken::Ask(Box::new(Waiter {
            case,
            query: query.into_owned(),
            admitted,
            protocol,
            _places: [own, shared],
        }))
    }

    /// Writes the reply of a query that waited, by the rules that are in force now. `None`: upstream
    /// did not answer.
    pub(super) fn finish(&self, waiter: Waiter, kept: Option<&Kept>, out: &mut Vec<u8>) -> Taken {
        let Waiter {
            mut case,
            query,
            mut admitted,
            protocol,
            _places,
        } = waiter;
        let Some(asker) = self.askers.again(case.asker.session) else {
            return self.gone();
        };
        if !Arc::ptr_eq(&asker.policy, &case.asker.policy) {
            case.asker = asker;
            admitted = match self.ruling(&case, &query) {
                Ok(admitted) => admitted,
                Err(refused) => return self.turn_away(&case, &query, refused, out),
            };
        }
        let Some(kept) = kept else {
            self.served(&case, Served::Failed);
            reply::empty(&query, Code::ServFail, out);
            return Taken::Replied;
        };
        self.answer(&case, &query, &admitted, kept, protocol, out)
    }

    fn answer(
        &self,
        case: &Case,
        query: &Query<'_>,
        admitted: &Admitted,
        kept: &Kept,
        protocol: u16,
        out: &mut Vec<u8>,
    ) -> Taken {
        let now = BootTime::now();
        let ttl = kept.ttl(now.0);
        let leased = match &kept.answer.records {
            Records::Addresses(addresses) => Some(self.lease(case, admitted, addresses, ttl, now)),
            Records::Others(_) => None,
        };
        // What was still granted goes with the session's last socket; nobody is told of it.
        if self.askers.again(case.asker.session).is_none() {
            return self.gone();
        }
        if let Some(reason) = admitted.observed {
            self.report(case, Some(query), (Outcome::Observe, reason), None);
        }
        let shown;
        let records = match leased {
            None => &kept.answer.records,
            Some(Leased::Addresses(addresses)) => {
                shown = Records::Addresses(addresses);
                &shown
            }
            Some(Leased::None) => {
                shown = Records::Addresses(Vec::new());
                &shown
            }
            Some(Leased::Private(address)) => {
                self.served(case, Served::Private);
                let why = denied(Reason::PrivateAnswer);
                self.report(case, Some(query), why, Some(address));
                reply::empty(query, Code::NoError, out);
                return Taken::Replied;
            }
            Some(Leased::Full(address)) => {
                self.served(case, Served::GrantsFull);
                self.report(case, Some(query), denied(Reason::GrantsFull), Some(address));
                reply::empty(query, Code::ServFail, out);
                return Taken::Replied;
            }
        };
        self.told(case, admitted, records);
        let written = reply::answer(
            query,
            &kept.answer,
            records,
            ttl,
            reply::bytes_max(query, protocol),
            out,
        );
        if written == reply::Written::Whole {
            case.remember(query, admitted, kept, now, out);
        }
        Taken::Replied
    }

    fn lease(
        &self,
        case: &Case,
        admitted: &Admitted,
        addresses: &[IpAddr],
        ttl: u32,
        now: BootTime,
    ) -> Leased {
        let lessee = Lessee {
            id: case.asker.session,
            session: &case.session,
            policy: &case.asker.policy,
            generation: case.asker.generation,
            question: &admitted.question,
        };
        lessee.lease(addresses, ttl, &*self.granter, &self.settings.is_local, now)
    }

    /// The session has ended while its query was on its way: there is nobody to answer.
    fn gone(&self) -> Taken {
        self.counters.unknown.add();
        Taken::Silent
    }

    fn refusal(&self) -> Code {
        match self.settings.refusal {
            Refusal::NxDomain => Code::NxDomain,
            Refusal::Refused => Code::Refused,
        }
    }
}

/// Replies to what was read with a code; bytes that could not be read keep the code of the reader.
fn refuse(read: &Result<Query<'_>, Malformed>, code: Code, out: &mut Vec<u8>) -> Taken {
    match read {
        Ok(query) => reply::empty(query, code, out),
        Err(Malformed::Answered(header, own)) => {
            let code = if code == Code::Refused { code } else { *own };
            reply::header(header, code, out);
        }
        Err(Malformed::Unanswerable) => return Taken::Silent,
    }
    Taken::Replied
}
