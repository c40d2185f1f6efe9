//! Who asks, and who is told of refusals: the resolver's two doors to the daemon.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use common::{
    id::{Generation, SessionId},
    verdict::{Outcome, Reason},
};

use super::{gate::Question, stats::Served};
use crate::policy::compiled::CompiledPolicy;

/// The worker behind a source address.
#[derive(Clone, Debug)]
pub struct Asker {
    /// Its session.
    pub session: SessionId,
    /// The policy in force for it.
    pub policy: Arc<CompiledPolicy>,
    /// The generation of that policy's rules: another one after every push that changes them, the
    /// same rules included that come back later.
    pub generation: Generation,
}

/// Finds who asks.
pub trait Askers: Send + Sync + 'static {
    /// The worker that sends from this address by this protocol (TCP or UDP). `None`: nobody's, and
    /// nothing is answered.
    fn find(&self, source: SocketAddr, protocol: u16) -> Option<Asker>;

    /// The same in another network namespace, by its cookie.
    fn find_in(&self, _netns: u64, _source: SocketAddr, _protocol: u16) -> Option<Asker> {
        None
    }

    /// A session as it stands now. `None`: it is over or about to be, and nothing is answered.
    fn again(&self, session: SessionId) -> Option<Asker>;
}

/// One query that was refused, or passed in `observe` mode only.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct QueryEvent {
    /// The session.
    pub session: SessionId,
    /// Its tool.
    pub tool: String,
    /// The name as it was asked, unusual bytes as `\DDD`; empty where the query has none.
    pub name: String,
    /// The record type; empty where the query has none.
    pub record: String,
    /// What was decided.
    pub outcome: Outcome,
    /// Why.
    pub reason: Reason,
    /// The first rule that covers the name, in its canonical words.
    pub rule: Option<String>,
    /// An address of the answer, where it was the reason.
    pub address: Option<IpAddr>,
    /// From the query to its reply.
    pub took: Duration,
}

/// A query that a policy in `observe` mode let through, and what it was told.
#[derive(Clone, Copy, Debug)]
pub struct Answered<'a> {
    /// The session.
    pub session: SessionId,
    /// Its policy.
    pub policy: &'a CompiledPolicy,
    /// What was asked.
    pub question: &'a Question,
    /// Why it would have been refused, where it would.
    pub observed: Option<Reason>,
    /// The addresses of the answer.
    pub addresses: &'a [IpAddr],
}

/// Is told of queries. Called on their way: it must not wait.
pub trait Witness: Send + Sync + 'static {
    /// Takes an event: a refusal, or what only `observe` mode let through.
    fn saw(&self, event: QueryEvent);

    /// Takes an answer to a worker that is only observed.
    fn answered(&self, _answered: Answered<'_>) {}

    /// Counts a query of a worker, by what it got.
    fn served(&self, _tool: &str, _result: Served, _took: Duration) {}
}
