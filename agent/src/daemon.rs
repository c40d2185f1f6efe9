//! The composition root: wires policy, kernel, launcher, journal and observation into an [`Engine`],
//! which `stockade agent` and a stand-alone `stockade run` share.
//!
//! Nothing below imports this; siblings that must not know each other meet here.

mod ahead;
pub mod attachments;
mod broker;
mod checkpoints;
mod confine;
pub mod control;
mod doors;
mod error;
mod explained;
mod life;
mod lock;
mod meter;
mod names;
mod opening;
mod policies;
mod prepared;
mod push;
mod seen;
mod selftests;
pub mod service;
mod session;
mod setup;
mod status;
mod suggest;
mod table;
mod tasks;
mod tokens;
mod watch;

pub use broker::SwitchError;
pub use confine::{ConfineError, confine};
pub use error::{LaunchError, StartError, SuggestError, chain, told};
pub use explained::explained;
pub use names::upstream;
pub use policies::{
    ChangeError, ChangeOrder, Changed, Entry, FolderError, HistoryError, Keeping, Origin, Preview,
    ReloadError,
};
pub use prepared::{Holder, Prepared};
pub use push::{Cut, WouldChange};
pub use session::{CommandLine, Counter, Finished, Order, Session, Stdio};
pub use setup::{Ending, PolicySource, Setup, remove, sweep_abandoned};
pub use tokens::{TokenError, Tokens};

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::Instant,
};

use tokio::{
    sync::{Semaphore, mpsc, oneshot},
    task::{JoinSet, spawn_blocking},
};

use crate::{
    audit::{self, Journal},
    broker::{Broker, door},
    config::Instance,
    kernel::{self, Kernel, cgroup},
    launcher::Launcher,
    observe::{
        destinations::Destinations, dispatch::Dispatcher, learned::Learned, metrics::Metrics,
    },
    shutdown::{Stop, Stopping},
    sys::heap,
};

/// Everything that runs sessions, ready: hooks attached, policies in force, launcher waiting.
pub struct Engine {
    instance: Instance,
    ending: Ending,
    _lock: lock::InstanceLock,
    parent: cgroup::Parent,
    kernel: Kernel,
    attached: kernel::Attached,
    launcher: Launcher,
    journal: Arc<Journal>,
    /// Set before the first call; nothing where no calls are taken.
    broker: OnceLock<Broker>,
    /// Whether the broker's socket is served.
    doors: door::Pulse,
    policies: policies::Policies,
    sessions: table::Table,
    self_tests: selftests::SelfTests,
    ahead: ahead::Ahead,
    attachments: attachments::Attachments,
    slots: Arc<Semaphore>,
    sessions_max: u32,
    names: names::Names,
    tokens: Option<Arc<tokens::Tokens>>,
    /// Set once, where the configuration names places.
    checkpoints: OnceLock<checkpoints::Checkpoints>,
    learned: Learned,
    destinations: Destinations,
    dispatcher: Dispatcher,
    metrics: Metrics,
    drains: mpsc::Sender<oneshot::Sender<()>>,
    chores: mpsc::Sender<tasks::Chore>,
    started: Instant,
    stop: Stop,
    stopping: Stopping,
    tasks: Mutex<JoinSet<()>>,
}

impl Engine {
    /// The instance.
    #[must_use]
    pub fn instance(&self) -> &Instance {
        &self.instance
    }

    /// Where events go out.
    #[must_use]
    pub fn dispatcher(&self) -> &Dispatcher {
        &self.dispatcher
    }

    /// What the agent counts.
    #[must_use]
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Becomes ready when the engine is closed.
    #[must_use]
    pub fn stopping(&self) -> Stopping {
        self.stopping.clone()
    }

    /// Reads the policies again, and the keys of token issuers. On an error nothing changes. `caller`:
    /// who asked, where somebody did.
    pub async fn reload(
        self: &Arc<Self>,
        caller: Option<audit::Caller>,
    ) -> Result<usize, ReloadError> {
        self.reload_issuers().await;
        let engine = Arc::clone(self);
        // Reading, compiling and publishing many rules takes longer than a thread that serves
        // everybody may be held.
        let reload = move || {
            let (kernel, journal) = (&engine.kernel, &engine.journal);
            let reloaded = engine.policies.reload(kernel, journal, caller);
            heap::give_back();
            reloaded
        };
        let reloaded = spawn_blocking(reload).await;
        let reloaded = reloaded.unwrap_or(Err(ReloadError::Interrupted));
        self.metrics.reload(reloaded.is_ok());
        match &reloaded {
            Ok(policies) => {
                tracing::info!(policies, "policies in force");
                self.follow_policies();
            }
            Err(error) => {
                tracing::error!(
                    error = chain(error),
                    "policies not reloaded: the last set stays"
                );
            }
        }
        reloaded
    }

    /// After a change: sessions of tools that are gone end, templates of policies that are gone are
    /// let go, sockets that the new policies refuse are destroyed.
    fn follow_policies(self: &Arc<Self>) {
        let set = self.policies.current();
        let in_force = |id| set.by_tool.values().any(|loaded| loaded.id == id);
        self.sessions.end(table::Why::PolicyRemoved, |entry| {
            entry.outpost.is_none() && !in_force(entry.policy_id)
        });
        let digests: HashSet<_> = set
            .by_tool
            .values()
            .map(|loaded| loaded.policy.digest)
            .collect();
        if let Some(broker) = self.broker.get() {
            broker.follow_policies(|digest| digests.contains(digest));
        }
        // Units that a policy names now, or names no more.
        self.attachments.stir();
        self.launcher.retain(|digest| digests.contains(digest));
        self.self_tests.retain(|digest| digests.contains(digest));
        let engine = Arc::clone(self);
        tokio::spawn(async move {
            engine
                .give_up_ahead(|waiting| !digests.contains(waiting))
                .await;
        });
        if self.chores.try_send(tasks::Chore::Sweep).is_err() {
            tracing::trace!("a sweep is due already");
        }
    }

    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        tasks.spawn(task);
    }
}
