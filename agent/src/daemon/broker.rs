//! The broker's place in the engine: what it is made of, and how it starts a session.

use std::{
    io,
    os::unix::net::UnixListener,
    sync::{Arc, Weak},
};

use tokio::sync::oneshot;

use super::{
    CommandLine, Counter, Engine, LaunchError, Order, Session, StartError, Tokens,
    control::protocol::IssuerStatus,
    doors,
    error::{chain, suggestion},
};
use crate::{
    audit::End,
    broker::{
        Broker, FrameLimits, Host, Parts, door,
        idempotency::Store,
        issuer,
        limit::Limiter,
        switch::Switches,
        worker::{self, Ended, Fenced, NotStarted, Starting},
    },
    config,
    exit::Code,
    observe::metrics::{BrokerNumbers, IssuerNumbers},
    policy::compiled::CompiledPolicy,
    sandbox::uids,
    sys::inherited,
};

/// Why the broker can not be made; any part of it may say so.
type Fault = Box<dyn std::error::Error + Send + Sync>;

/// The kill switch was not moved.
#[derive(Debug, thiserror::Error)]
pub enum SwitchError {
    /// No calls are taken at all.
    #[error("broker: off\nhint: `enabled = true` under `[broker.calls]` in stockade.toml")]
    NoBroker,
    /// No policy names the tool.
    #[error("tool `{tool}`: no policy names it{}", suggestion(near.as_deref()))]
    NoPolicy {
        /// What was asked for.
        tool: String,
        /// The nearest name there is.
        near: Option<String>,
    },
    /// It can not be kept over a restart.
    #[error("tool `{tool}`: the switch can not be kept; it is off until the agent ends")]
    Keep {
        /// The tool.
        tool: String,
        /// Why.
        source: io::Error,
    },
}

impl SwitchError {
    /// The exit code that tells it.
    #[must_use]
    pub fn code(&self) -> Code {
        match self {
            Self::NoBroker => Code::Unavailable,
            Self::NoPolicy { .. } => Code::Finding,
            Self::Keep { .. } => Code::CanNotCreate,
        }
    }
}

/// The engine as the broker sees it. Weak: the engine holds the broker.
struct EngineHost(Weak<Engine>);

impl Host for EngineHost {
    fn policy(&self, tool: &str) -> Option<Arc<CompiledPolicy>> {
        let set = self.0.upgrade()?.policies.current();
        set.by_tool
            .get(tool)
            .map(|loaded| Arc::clone(&loaded.policy))
    }

    fn policies(&self) -> Vec<Arc<CompiledPolicy>> {
        let Some(engine) = self.0.upgrade() else {
            return Vec::new();
        };
        let set = engine.policies.current();
        let loaded = set.by_tool.values();
        loaded.map(|loaded| Arc::clone(&loaded.policy)).collect()
    }

    fn is_worker(&self, uid: u32) -> bool {
        uids::of_any_instance().contains(&uid)
    }

    fn launch(&self, order: worker::Order) -> Starting {
        let engine = self.0.clone();
        Box::pin(async move {
            let engine = engine.upgrade().ok_or(NotStarted::Stopping)?;
            let (give, given) = oneshot::channel();
            // A call may end at any moment, a launch that has begun goes to its end: dropped in its middle
            // it would leave cgroup, entries and a record without an outcome.
            tokio::spawn(async move {
                // Where nobody waits any more the session is let go of here, and ends.
                drop(give.send(fenced(&engine, order).await));
            });
            given.await.unwrap_or_else(|_gone| {
                Err(NotStarted::Failed("the launch ended early".to_owned()))
            })
        })
    }
}

async fn fenced(engine: &Arc<Engine>, order: worker::Order) -> Result<Fenced, NotStarted> {
    let worker::Order {
        policy,
        caller,
        stdio,
    } = order;
    let order = Order {
        tool: policy.tool.to_string(),
        command: CommandLine::OfPolicy(Vec::new()),
        stdio,
        caller,
        under: Some(policy.digest),
        // Each answer has a bound of its own.
        counter: Counter::Nobody,
    };
    let session = engine.launch(order).await;
    let session = session.map_err(|error| not_started(&error))?;
    let (stop, stopped) = oneshot::channel();
    let (tell, ended) = oneshot::channel();
    let id = session.id().0;
    tokio::spawn(follow(session, stopped, tell));
    Ok(Fenced {
        session: id,
        stop,
        ended,
    })
}

fn not_started(error: &LaunchError) -> NotStarted {
    match error {
        LaunchError::TooMany { .. } => NotStarted::Busy,
        LaunchError::Stopping => NotStarted::Stopping,
        LaunchError::Changed(_) | LaunchError::NoPolicy { .. } => NotStarted::Changed,
        LaunchError::NoCommand(_)
        | LaunchError::Slipped { .. }
        | LaunchError::NoReport { .. }
        | LaunchError::Journal(_)
        | LaunchError::Descriptors(_)
        | LaunchError::Kernel(_)
        | LaunchError::Launcher(_) => NotStarted::Failed(chain(error)),
    }
}

/// Ends a session when the broker lets go of it, and tells the broker of its end.
async fn follow(
    mut session: Session,
    stopped: oneshot::Receiver<()>,
    tell: oneshot::Sender<Ended>,
) {
    let finished = tokio::select! {
        finished = session.finished() => Some(finished),
        // Whether it was sent or dropped: nobody wants the worker any more.
        _ = stopped => None,
    };
    let finished = if let Some(finished) = finished {
        finished
    } else {
        session.abandon().await;
        session.finished().await
    };
    let ended = if finished.end == End::Exit(0) {
        Ended::Well
    } else {
        Ended::Badly(format!("session ended: {:?}", finished.end))
    };
    // Nobody may wait any more.
    drop(tell.send(ended));
}

fn numbers(condition: issuer::Condition) -> IssuerNumbers {
    let issuer::Condition {
        issuer,
        source: _,
        keys,
        age,
        error: _,
        fetches,
    } = condition;
    IssuerNumbers {
        issuer,
        keys: keys as u64,
        age,
        fetches,
    }
}

fn status(condition: issuer::Condition) -> IssuerStatus {
    let issuer::Condition {
        issuer,
        source,
        keys,
        age,
        error,
        fetches: _,
    } = condition;
    IssuerStatus {
        issuer,
        source: source.to_owned(),
        keys: keys as u64,
        age_seconds: age.map(|age| age.as_secs()),
        error,
    }
}

impl Engine {
    /// The broker, where calls are taken.
    #[must_use]
    pub fn broker(&self) -> Option<&Broker> {
        self.broker.get()
    }

    /// Makes the broker. The state folder is there: the tokens' files lie in it.
    pub(super) fn take_calls(self: &Arc<Self>, settings: &config::Calls) -> Result<(), StartError> {
        let Some(tokens) = &self.tokens else {
            return Ok(());
        };
        let made = self.broker_of(tokens, settings);
        let broker = made.map_err(StartError::Broker)?;
        // Nobody else sets it.
        drop(self.broker.set(broker));
        Ok(())
    }

    fn broker_of(
        self: &Arc<Self>,
        tokens: &Tokens,
        settings: &config::Calls,
    ) -> Result<Broker, Fault> {
        let state = self.instance.state_folder();
        Ok(Broker::new(Parts {
            host: Arc::new(EngineHost(Arc::downgrade(self))),
            journal: Arc::clone(&self.journal),
            issuers: Arc::clone(tokens.issuers()),
            revoked: Arc::clone(tokens.revoked()),
            verifier: Arc::clone(tokens.verifier()),
            proofs: Arc::clone(tokens.proofs()),
            limiter: Limiter::open(&state.join("quotas.json"))?,
            store: Store::open(&state.join("calls.redb"))?,
            switches: Switches::open(&state.join("off.json"))?,
            calls: self.metrics.calls(),
            limits: FrameLimits {
                bytes_in: settings.bytes_in as usize,
                bytes_out: settings.bytes_out as usize,
                depth: settings.depth as usize,
            },
            call_time: settings.time,
            warm_time: settings.warm_time,
            warm_max: settings.warm as usize,
            stopping: self.stopping.clone(),
        }))
    }

    /// Opens the broker's socket, for root and the members of `group` where that group exists, or takes
    /// over the one that the service manager made. Wants a runtime.
    pub fn open_broker(
        &self,
        handed_over: Option<UnixListener>,
        group: &str,
    ) -> Result<(), StartError> {
        let Some(broker) = self.broker.get() else {
            return Ok(());
        };
        let name = "broker";
        let unusable = |source| inherited::Error::Unusable { name, source };
        let listener = if let Some(listener) = handed_over {
            listener
        } else {
            let gid = doors::gid(group, "broker")?;
            door::bind(&self.instance.broker_socket(), gid)?
        };
        listener.set_nonblocking(true).map_err(unusable)?;
        let listener = tokio::net::UnixListener::from_std(listener).map_err(unusable)?;
        let settings = door::Settings::new(uids::of_any_instance());
        let broker = Arc::new(broker.clone());
        let pulse = self.doors.clone();
        let served = door::serve(listener, broker, settings, self.stopping(), pulse);
        tokio::spawn(served);
        if let Some(warning) = self.shared_doors() {
            tracing::warn!(warning, "callers have the control socket too");
        }
        Ok(())
    }

    /// Moves the kill switch of a tool; tells whether it stood otherwise. A tool without a policy can
    /// not be switched off: a name that is spelled wrongly would look like success.
    pub fn switch(&self, tool: &str, on: bool) -> Result<bool, SwitchError> {
        let broker = self.broker.get().ok_or(SwitchError::NoBroker)?;
        let set = self.policies.current();
        let known =
            set.by_tool.contains_key(tool) || broker.switched_off().iter().any(|off| off == tool);
        if !known {
            return Err(SwitchError::NoPolicy {
                tool: tool.to_owned(),
                near: set.near(tool),
            });
        }
        broker.switch(tool, on).map_err(|source| SwitchError::Keep {
            tool: tool.to_owned(),
            source,
        })
    }

    /// Tools that the kill switch holds off.
    pub(super) fn tools_off(&self) -> Vec<String> {
        self.broker
            .get()
            .map_or_else(Vec::new, Broker::switched_off)
    }

    pub(super) fn broker_numbers(&self) -> Option<BrokerNumbers> {
        let broker = self.broker.get()?;
        Some(BrokerNumbers {
            warm: broker.warm() as u64,
            off: broker.switched_off().len() as u64,
            entries: broker.entries(),
            issuers: broker.issuers().into_iter().map(numbers).collect(),
        })
    }

    /// How the keys of token issuers are.
    pub(super) fn issuer_statuses(&self) -> Vec<IssuerStatus> {
        let issuers = self.broker.get().map(Broker::issuers);
        issuers
            .unwrap_or_default()
            .into_iter()
            .map(status)
            .collect()
    }
}
