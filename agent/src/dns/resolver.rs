//! A query's way: who asks, may he, is it known; else it waits with all that ask the same. Knows no
//! sockets: bytes in, bytes out.

use std::{
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex},
    time::Duration,
};

use common::{
    decide::Mode,
    verdict::{Outcome, Reason},
};

use super::{
    answer::Records,
    asker::{Answered, Asker, Askers, QueryEvent, Witness},
    cache::{Cache, Kept},
    gate::{self, Admitted, Ruling},
    lease::{Granter, Leased, Lessee},
    query::{self, Malformed, Query},
    reply::{self, Code},
    session::{Place, Session, Sessions, lock},
    settings::{Refusal, Settings},
    stats::{Counters, Served, Stats},
};
use crate::{clock::BootTime, policy::compiled::CompiledPolicy};

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
}

/// The worker that has a source; none, where nobody is answered.
#[derive(Debug)]
pub(super) struct Identity(Option<(Asker, Arc<Session>)>);

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

    /// The session behind a connection, for its bound on connections.
    pub(super) fn session_of(&self, source: Source) -> Option<Arc<Session>> {
        self.identify(source).0.map(|(_, session)| session)
    }

    /// Who has this source now.
    pub(super) fn identify(&self, source: Source) -> Identity {
        let asker = self.askers.find(source.address, source.protocol);
        Identity(asker.and_then(|asker| {
            let session = self.sessions.get(asker.session, BootTime::now().0)?;
            Some((asker, session))
        }))
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
        let read = query::read(bytes);
        if read == Err(Malformed::Unanswerable) {
            self.counters.malformed.add();
            return Taken::Silent;
        }
        let Some((asker, session)) = &who.0 else {
            self.counters.unknown.add();
            return refuse(&read, Code::Refused, out);
        };
        let case = Case {
            asker: asker.clone(),
            session: Arc::clone(session),
            now: BootTime::now(),
        };
        let limits = &self.settings.limits;
        if case.session.lock().take_query(limits, case.now.0).is_err() {
            self.served(&case, Served::Limited);
            self.report(&case, read.as_ref().ok(), denied(Reason::QueryLimit), None);
            return refuse(&read, Code::Refused, out);
        }
        match read {
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

    fn judge(&self, case: Case, query: Query<'_>, protocol: u16, out: &mut Vec<u8>) -> Taken {
        let (code, reason) = match gate::judge(&case.asker.policy, &query) {
            Ruling::Admit(admitted) => return self.admit(case, query, admitted, protocol, out),
            Ruling::NoName(reason) => (self.refusal(), reason),
            Ruling::NoRecord(reason) => (Code::NoError, reason),
            Ruling::Nothing => (Code::NxDomain, None),
        };
        self.served(&case, Served::Refused);
        if let Some(reason) = reason {
            self.report(&case, Some(&query), denied(reason), None);
        }
        reply::empty(&query, code, out);
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
            self.answer(&case, &query, &admitted, &kept, protocol, out);
            return Taken::Replied;
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

    /// Writes the reply of a query that waited. `None`: upstream did not answer.
    pub(super) fn finish(&self, waiter: &Waiter, kept: Option<&Kept>, out: &mut Vec<u8>) {
        let Waiter {
            case,
            query,
            admitted,
            protocol,
            ..
        } = waiter;
        let Some(kept) = kept else {
            self.served(case, Served::Failed);
            reply::empty(query, Code::ServFail, out);
            return;
        };
        self.answer(case, query, admitted, kept, *protocol, out);
    }

    fn answer(
        &self,
        case: &Case,
        query: &Query<'_>,
        admitted: &Admitted,
        kept: &Kept,
        protocol: u16,
        out: &mut Vec<u8>,
    ) {
        let now = BootTime::now();
        let ttl = kept.ttl(now.0);
        if let Some(reason) = admitted.observed {
            self.report(case, Some(query), (Outcome::Observe, reason), None);
        }
        let bytes_max = if protocol == common::flow::TCP {
            reply::TCP_BYTES_MAX
        } else {
            query.udp_bytes_max()
        };
        let Records::Addresses(addresses) = &kept.answer.records else {
            self.told(case, admitted, &[], kept.answer.records.is_empty());
            reply::answer(
                query,
                &kept.answer,
                &kept.answer.records,
                ttl,
                bytes_max,
                out,
            );
            return;
        };
        let lessee = Lessee {
            id: case.asker.session,
            session: &case.session,
            policy: &case.asker.policy,
            question: &admitted.question,
        };
        let is_local = &self.settings.is_local;
        let leased = lessee.lease(addresses, ttl, &*self.granter, is_local, now);
        let addresses = match leased {
            Leased::Addresses(addresses) => addresses,
            Leased::None => Vec::new(),
            Leased::Private(address) => {
                self.served(case, Served::Private);
                self.report(
                    case,
                    Some(query),
                    denied(Reason::PrivateAnswer),
                    Some(address),
                );
                reply::empty(query, Code::NoError, out);
                return;
            }
            Leased::Full(address) => {
                self.served(case, Served::GrantsFull);
                self.report(case, Some(query), denied(Reason::GrantsFull), Some(address));
                reply::empty(query, Code::ServFail, out);
                return;
            }
        };
        self.told(case, admitted, &addresses, addresses.is_empty());
        let records = Records::Addresses(addresses);
        reply::answer(query, &kept.answer, &records, ttl, bytes_max, out);
    }

    /// Counts an answer, and tells the witness of it where the worker is only observed.
    fn told(&self, case: &Case, admitted: &Admitted, addresses: &[IpAddr], nothing: bool) {
        let served = if nothing {
            Served::Nothing
        } else {
            Served::Answered
        };
        self.served(case, served);
        if case.asker.policy.mode == Mode::Observe {
            self.witness.answered(Answered {
                session: case.asker.session,
                policy: &case.asker.policy,
                question: &admitted.question,
                observed: admitted.observed,
                addresses,
            });
        }
    }

    fn served(&self, case: &Case, result: Served) {
        self.counters.of(result).add();
        let duration = BootTime::now().0.saturating_sub(case.now.0);
        self.witness.served(
            case.asker.policy.tool.as_str(),
            result,
            Duration::from_nanos(duration),
        );
    }

    fn refusal(&self) -> Code {
        match self.settings.refusal {
            Refusal::NxDomain => Code::NxDomain,
            Refusal::Refused => Code::Refused,
        }
    }

    fn report(
        &self,
        case: &Case,
        query: Option<&Query<'_>>,
        (outcome, reason): (Outcome, Reason),
        address: Option<IpAddr>,
    ) {
        let now = BootTime::now();
        if !case.session.lock().may_report(now.0) {
            self.counters.events_suppressed.add();
            return;
        }
        let policy: &CompiledPolicy = &case.asker.policy;
        self.witness.saw(QueryEvent {
            session: case.asker.session,
            tool: policy.tool.as_str().to_owned(),
            name: query.map(Query::shown_name).unwrap_or_default(),
            record: query
                .map(|query| gate::record_name(query.record))
                .unwrap_or_default(),
            outcome,
            reason,
            rule: query.and_then(|query| gate::rule_text(policy, query)),
            address,
            took: Duration::from_nanos(now.0.saturating_sub(case.now.0)),
        });
    }
}

fn denied(reason: Reason) -> (Outcome, Reason) {
    (Outcome::Deny, reason)
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
