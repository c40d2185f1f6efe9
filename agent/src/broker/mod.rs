//! The broker: checks every call to a tool (who, for what, with which arguments, how often), runs it
//! in a fenced worker and records what came of it.
//!
//! It launches nothing itself and knows neither kernel nor sandbox: the daemon hands it the way to
//! start a session. All doors lead into [`Broker::call`]; no other way leads to a worker.

pub mod call;
mod caught;
pub mod door;
mod flood;
pub mod idempotency;
pub mod issuer;
pub mod jose;
pub mod limit;
mod private_file;
pub mod proof;
pub mod reason;
mod refusals;
pub mod switch;
pub mod token;
pub mod worker;

use std::{
    io,
    sync::Arc,
    time::{Duration, SystemTime},
};

use tokio::{runtime::Handle, sync::Semaphore};

use call::{
    Credentials, Door, Listed, Received, Reply,
    authenticated::Shown,
    chain::carry_out,
    trail::Trail,
    validated::{covers_tool, find},
};
use caught::caught;
use flood::Floods;
use reason::{Reason, Refused};
use refusals::AWAY_MAX;

use crate::{
    audit::{self, CallRecord, Caller, Journal, Refusal},
    observe::metrics::Calls,
    policy::compiled::{CompiledPolicy, Digest},
    shutdown::Stopping,
};

/// How often warm workers are looked at.
const SWEEP_PAUSE: Duration = Duration::from_secs(1);

/// What the daemon does for the broker.
pub trait Host: Send + Sync + 'static {
    /// The policy in force of a tool.
    fn policy(&self, tool: &str) -> Option<Arc<CompiledPolicy>>;
    /// Every policy in force.
    fn policies(&self) -> Vec<Arc<CompiledPolicy>>;
    /// Whether a user is one that workers get.
    fn is_worker(&self, uid: u32) -> bool;
    /// Starts a worker in its fence.
    fn launch(&self, order: worker::Order) -> worker::Starting;
}

/// Bounds of a message, for every door.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FrameLimits {
    /// Bytes of a request.
    pub bytes_in: usize,
    /// Bytes of a reply.
    pub bytes_out: usize,
    /// Arrays and objects within each other.
    pub depth: usize,
}

impl Default for FrameLimits {
    fn default() -> Self {
        Self {
            bytes_in: 1 << 20,
            bytes_out: 8 << 20,
            depth: 64,
        }
    }
}

/// What a broker is made of.
pub struct Parts {
    /// The daemon.
    pub host: Arc<dyn Host>,
    /// The record.
    pub journal: Arc<Journal>,
    /// Whose keys count.
    pub issuers: Arc<issuer::Issuers>,
    /// What was revoked.
    pub revoked: Arc<issuer::Revoked>,
    /// Checks tokens by the two.
    pub verifier: Arc<token::Verifier>,
    /// Proofs of possession.
    pub proofs: Arc<proof::Proofs>,
    /// Rates and quotas.
    pub limiter: limit::Limiter,
    /// What was called before.
    pub store: idempotency::Store,
    /// Tools that are off.
    pub switches: switch::Switches,
    /// What is counted.
    pub calls: Arc<Calls>,
    /// Bounds of messages.
    pub limits: FrameLimits,
    /// How long a call may take at most.
    pub call_time: Duration,
    /// How long a worker is kept warm at most.
    pub warm_time: Duration,
    /// How many workers are kept warm.
    pub warm_max: usize,
    /// When the agent ends.
    pub stopping: Stopping,
}

/// The one way from every door to every worker. Clones are the same broker.
#[derive(Clone)]
pub struct Broker(Arc<Inner>);

/// What every stage may use.
pub(in crate::broker) struct Inner {
    host: Arc<dyn Host>,
    /// Where workers live: the threads that carry out calls end before it.
    runtime: Handle,
    journal: Arc<Journal>,
    issuers: Arc<issuer::Issuers>,
    revoked: Arc<issuer::Revoked>,
    verifier: Arc<token::Verifier>,
    proofs: Arc<proof::Proofs>,
    limiter: limit::Limiter,
    store: idempotency::Store,
    switches: switch::Switches,
    calls: Arc<Calls>,
    pool: worker::Pool,
    limits: FrameLimits,
    call_time: Duration,
    warm_time: Duration,
    stopping: Stopping,
    /// Records of what was turned away at a door, on their way.
    away: Arc<Semaphore>,
    /// What came from callers that nobody knows.
    floods: Floods,
}

impl Broker {
    /// One that takes calls. Wants a runtime.
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        let Parts {
            host,
            journal,
            issuers,
            revoked,
            verifier,
            proofs,
            limiter,
            store,
            switches,
            calls,
            limits,
            call_time,
            warm_time,
            warm_max,
            stopping,
        } = parts;
        let inner = Arc::new(Inner {
            host,
            runtime: Handle::current(),
            journal,
            issuers,
            revoked,
            verifier,
            proofs,
            limiter,
            store,
            switches,
            calls,
            pool: worker::Pool::new(warm_max),
            limits,
            call_time,
            warm_time,
            stopping,
            away: Arc::new(Semaphore::new(AWAY_MAX)),
            floods: Floods::default(),
        });
        inner.issuers.start(&inner.stopping);
        tokio::spawn(sweep(Arc::downgrade(&inner)));
        Self(inner)
    }

    /// Carries out one call, or says why not. What came of it is recorded before this returns, so it is
    /// not dropped before its end; `Received::cancelled` ends it.
    pub fn call(&self, received: Received) -> impl Future<Output = Reply> + Send + use<> {
        let inner = Arc::clone(&self.0);
        async move {
            let lost = Trail::of_call(&received);
            let _runs = inner.calls.runs();
            if let Some(reply) = caught(carry_out(&inner, received)).await {
                return reply;
            }
            // Our bug: the record says so as far as it still can.
            let refused = Refused::because(Reason::Internal, "the call panicked");
            tracing::error!(error = %refused.detail, "call ended early");
            lost.over(&inner.calls, Reason::Internal.code());
            let record = inner.refused(lost.record(), &refused).await.ok();
            inner.reply(refused, Vec::new(), record)
        }
    }

    /// The verbs that the shown token covers, of one tool or of all.
    pub async fn list(
        &self,
        peer: Caller,
        credentials: Credentials,
        body_digest: [u8; 32],
        tool: Option<&str>,
    ) -> Result<Vec<Listed>, Refused> {
        let inner = &*self.0;
        let mut trail = Trail::new(Door::Http, peer);
        let shown = Shown {
            peer,
            credentials,
            body: body_digest,
        };
        let listed = inner.list(&shown, tool, &mut trail).await;
        let mut refused = match listed {
            Ok(listed) => return Ok(listed),
            Err(refused) => refused,
        };
        trail.over(&inner.calls, refused.reason.code());
        if inner.noted(&mut refused, &trail)
            && let Err(error) = inner.refused(trail.record(), &refused).await
        {
            return Err(Refused::because(Reason::AuditUnavailable, error));
        }
        Err(refused)
    }

    /// The nonce that the next proof of a caller must carry (RFC 9449, 8).
    #[must_use]
    pub fn nonce(&self) -> String {
        self.0.proofs.nonce()
    }

    /// Bounds of a message.
    #[must_use]
    pub fn frame_limits(&self) -> FrameLimits {
        self.0.limits
    }

    /// Switches a tool off (calls that run are ended too) or on; tells whether that changed anything.
    pub fn switch(&self, tool: &str, on: bool) -> io::Result<bool> {
        let changed = self.0.switches.set(tool, on);
        if !on {
            self.0.pool.drain(tool);
        }
        changed
    }

    /// The tools that are off.
    #[must_use]
    pub fn switched_off(&self) -> Vec<String> {
        self.0.switches.all_off().into_iter().collect()
    }

    /// Lets go the warm workers of policies that are not in force any more.
    pub fn follow_policies(&self, in_force: impl Fn(&Digest) -> bool) {
        self.0.pool.retain(in_force);
    }

    /// What tokens and proofs must be for: an absolute URI.
    #[must_use]
    pub fn resource(&self) -> &str {
        self.0.verifier.audience()
    }

    /// How the keys of every issuer are.
    #[must_use]
    pub fn issuers(&self) -> Vec<issuer::Condition> {
        self.0.issuers.conditions(SystemTime::now())
    }

    /// Entries of each store.
    #[must_use]
    pub fn entries(&self) -> Vec<(&'static str, u64)> {
        vec![
            ("proofs", self.0.proofs.remembered() as u64),
            ("revocations", self.0.revoked.len() as u64),
            ("floods", self.0.floods.len() as u64),
        ]
    }

    /// Workers that wait for a call.
    #[must_use]
    pub fn warm(&self) -> usize {
        self.0.pool.len()
    }

    /// Calls that run.
    #[must_use]
    pub fn running(&self) -> u64 {
        self.0.calls.running()
    }

    /// Whether the last write of the idempotency store failed.
    #[must_use]
    pub fn store_has_failed(&self) -> bool {
        self.0.store.has_failed()
    }

    /// Lets all warm workers go.
    pub fn close(&self) {
        self.0.pool.clear();
    }
}

impl Inner {
    async fn list(
        &self,
        shown: &Shown,
        tool: Option<&str>,
        trail: &mut Trail,
    ) -> Result<Vec<Listed>, Refused> {
        let (claims, _spent) = shown.check(self, |_| false, trail).await?;
        if let Some(tool) = tool {
            covers_tool(&claims, tool)?;
        }
        let mut listed = Vec::new();
        for policy in self.host.policies() {
            let name = policy.tool.as_str();
            let asked = tool.is_none_or(|tool| tool == name) && covers_tool(&claims, name).is_ok();
            if !asked || self.switches.is_off(name) {
                continue;
            }
            let names = policy.verbs.iter().map(|verb| verb.name.as_str());
            let covered = names.filter_map(|name| find(&policy, name, &claims));
            listed.extend(
                covered
                    .filter(|verb| verb.quarantine.is_none())
                    .map(|verb| Listed {
                        tool: name.to_owned(),
                        verb: verb.name.clone(),
                        description: verb.description.clone(),
                        arguments: verb.arguments.document().clone(),
                        result: verb.result.as_ref().map(|schema| schema.document().clone()),
                    }),
            );
        }
        Ok(listed)
    }

    async fn refused(&self, record: &CallRecord, refused: &Refused) -> Result<u64, audit::Error> {
        let refusal = Refusal {
            code: refused.reason.code(),
            detail: &refused.detail,
        };
        self.journal.refused(record, refusal).await
    }

    fn reply(&self, refused: Refused, places: Vec<(String, String)>, record: Option<u64>) -> Reply {
        let fresh = refused.reason.fault() == reason::Fault::Unauthenticated;
        Reply::Refused {
            nonce: fresh.then(|| self.proofs.nonce()),
            refused,
            places,
            record,
        }
    }
}

/// Lets idle workers go and tells of floods, as long as there is a broker.
async fn sweep(inner: std::sync::Weak<Inner>) {
    loop {
        tokio::time::sleep(SWEEP_PAUSE).await;
        match inner.upgrade() {
            Some(inner) => {
                inner.pool.sweep();
                inner.tell_of_floods().await;
            }
            None => return,
        }
    }
}

impl std::fmt::Debug for Broker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Broker").finish_non_exhaustive()
    }
}
