//! What is behind the doors under test: a broker with an issuer of its own and no tool.

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime},
};

use crate::{
    audit::Journal,
    broker::{
        Broker, FrameLimits, Host, Parts,
        idempotency::Store,
        issuer::{Embedded, Fetched, Issuers, Order, Revoked},
        limit::Limiter,
        proof::Proofs,
        switch::Switches,
        token::Verifier,
        worker::{NotStarted, Order as WorkerOrder, Starting},
    },
    observe::metrics::Metrics,
    policy::compiled::CompiledPolicy,
    shutdown::Stopping,
};

/// What tokens and proofs are for.
pub(crate) const RESOURCE: &str = "https://host.example/broker";
/// The scope of the tokens.
pub(crate) const SCOPE: &str = "invoice:read";

/// A broker, and what makes tokens for it.
pub(crate) struct Behind {
    pub(crate) broker: Arc<Broker>,
    issuer: Arc<Embedded>,
}

struct NoTool;

impl Host for NoTool {
    fn policy(&self, _tool: &str) -> Option<Arc<CompiledPolicy>> {
        None
    }

    fn policies(&self) -> Vec<Arc<CompiledPolicy>> {
        Vec::new()
    }

    fn is_worker(&self, _uid: u32) -> bool {
        false
    }

    fn launch(&self, _order: WorkerOrder) -> Starting {
        Box::pin(async { Err(NotStarted::Stopping) })
    }
}

impl Behind {
    /// Makes one whose files lie in `folder`, and that believes these issuers beside its own. Wants a
    /// runtime.
    pub(crate) fn new(
        folder: &Path,
        limits: FrameLimits,
        fetched: Vec<Fetched>,
        stopping: Stopping,
    ) -> Self {
        let file = |name: &str| folder.join(name);
        let (journal, _) = Journal::open(&file("journal.jsonl")).expect("a journal");
        let issuer = Embedded::open(
            &file("issuer.json"),
            "https://host.example/issuer".to_owned(),
            RESOURCE.to_owned(),
            SystemTime::now(),
        );
        let issuer = Arc::new(issuer.expect("an issuer"));
        let issuers = Issuers::with_fetched(Some(Arc::clone(&issuer)), Vec::new(), fetched);
        let issuers = Arc::new(issuers.expect("issuers"));
        let revoked = Arc::new(Revoked::open(&file("revoked.json")).expect("a list"));
        let lifetime = Duration::from_mins(5);
        let verifier = Verifier::new(
            RESOURCE.to_owned(),
            lifetime,
            Arc::clone(&issuers),
            Arc::clone(&revoked),
        );
        let broker = Broker::new(Parts {
            host: Arc::new(NoTool),
            journal: Arc::new(journal),
            issuers,
            revoked,
            verifier: Arc::new(verifier),
            proofs: Arc::new(Proofs::new(RESOURCE.to_owned()).expect("random bytes")),
            limiter: Limiter::open(&file("quotas.json")).expect("quotas"),
            store: Store::open(&file("calls.redb")).expect("a store"),
            switches: Switches::open(&file("off.json")).expect("switches"),
            calls: Metrics::new(8).expect("metrics").calls(),
            limits,
            call_time: Duration::from_secs(10),
            warm_time: Duration::from_secs(10),
            warm_max: 1,
            stopping,
        });
        Self {
            broker: Arc::new(broker),
            issuer,
        }
    }

    /// A token for the key with this thumbprint.
    pub(crate) fn token(&self, jkt: [u8; 32]) -> String {
        let order = Order {
            subject: "alice".to_owned(),
            client: "orchestrator".to_owned(),
            scopes: vec![SCOPE.to_owned()],
            tool: None,
            lifetime: Duration::from_mins(1),
            jkt,
            purpose: None,
            session_hash: None,
            arguments_digest: None,
        };
        let issued = self.issuer.issue(&order, SystemTime::now());
        issued.expect("a token").token.expose().clone()
    }
}
