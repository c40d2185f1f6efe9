//! Who asks, and who is told of refusals: the resolver's two doors to the daemon.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use common::{
    id::SessionId,
    verdict::{Outcome, Reason},
};

use crate::policy::compiled::CompiledPolicy;

/// The worker behind a source address.
#[derive(Clone, Debug)]
pub struct Asker {
    /// Its session.
    pub session: SessionId,
    /// The policy in force for it.
    pub policy: Arc<CompiledPolicy>,
}

/// Finds who asks.
pub trait Askers: Send + Sync + 'static {
    /// The worker that sends from this address by this protocol (TCP or UDP). `None`: nobody's, and
    /// nothing is answered.
    fn find(&self, source: SocketAddr, protocol: u16) -> Option<Asker>;
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

/// Is told of each refusal. Called on the way of a query: it must not wait.
pub trait Witness: Send + Sync + 'static {
    /// Takes an event.
    fn saw(&self, event: QueryEvent);
}
