//! What goes on all the time: events out of the ring to the log, their session and whoever listens;
//! sockets to destroy; addresses of this host.

use std::{os::fd::OwnedFd, sync::Arc, time::Duration};

use common::{
    event::DestroyOrder,
    verdict::{Outcome, Reason},
};
use tokio::{
    sync::{mpsc, oneshot},
    time::{sleep, timeout},
};

use super::{Engine, error::chain};
use crate::{
    kernel::{
        LocalAddresses,
        flows::Destroyer,
        lines::Lines,
        ring::{Events, Told},
    },
    observe::{event::Event, log},
    timestamp::Timestamp,
};

/// How long the end of a session waits for its last events.
const DRAIN_TIME_MAX: Duration = Duration::from_millis(500);
/// How often the hooks, and what an earlier agent left, are looked at.
const LOOKS_PAUSE: Duration = Duration::from_secs(5);
/// How often suppressed lines are told of.
const SUPPRESSED_PAUSE: Duration = Duration::from_secs(10);
/// Pause after an error that might come again at once.
const ERROR_PAUSE: Duration = Duration::from_secs(1);

impl Engine {
    /// Waits until every event that is in the ring by now has been handed out; tells whether it was
    /// in time.
    pub(super) async fn drain_events(&self) -> bool {
        let (tell, told) = oneshot::channel();
        if self.drains.send(tell).await.is_err() {
            return false;
        }
        let drained = timeout(DRAIN_TIME_MAX, told).await;
        if drained.is_err() {
            tracing::debug!("events not drained in time");
        }
        matches!(drained, Ok(Ok(())))
    }
}

/// Hands out events until the engine goes.
pub(super) async fn events(
    engine: Arc<Engine>,
    mut events: Events,
    mut drains: mpsc::Receiver<oneshot::Sender<()>>,
) {
    loop {
        tokio::select! {
            biased;
            event = events.next() => match event {
                Ok(raw) => engine.hand_out(&raw),
                Err(error) => {
                    tracing::error!(error = chain(&error), "events not read");
                    sleep(ERROR_PAUSE).await;
                }
            },
            asked = drains.recv() => match asked {
                Some(tell) => {
                    // What the programs did not wake us for is in the ring all the same.
                    while let Some(raw) = events.try_next() {
                        engine.hand_out(&raw);
                    }
                    // Whoever asked may have waited too long.
                    tell.send(()).ok();
                }
                None => return,
            },
        }
    }
}

impl Engine {
    fn hand_out(&self, raw: &Told) {
        if self.self_tests.is_test(raw.session) {
            return;
        }
        let set = self.policies.current();
        let mut event = match Event::decode(raw, &set.names, Timestamp::now()) {
            Ok(event) => event,
            Err(error) => {
                tracing::error!(%error, "event not understood");
                return;
            }
        };
        event.name.clone_from(&raw.name);
        if event.outcome != Outcome::Allow && event.reason == Reason::NotAllowed {
            event.granted_for = self.granted_for(raw);
        }
        self.tell(event);
    }

    /// The domain for which a session was given a refused address: it is open there on other ports.
    fn granted_for(&self, raw: &common::event::Event) -> Option<String> {
        let held = self.names.grants.at(raw.session, raw.address).ok()??;
        let set = self.policies.current();
        let count = held.count as usize;
        let rules = held.grants.iter().take(count).map(|grant| grant.range.rule);
        let mut domains = rules.filter_map(|rule| set.names.domain(raw.policy, rule));
        domains.next().map(ToString::to_string)
    }

    /// Hands an event to the log, its session, the record of what was observed, and whoever listens.
    pub(super) fn tell(&self, event: Event) {
        log_event(&event);
        self.sessions.note(&event);
        if self.destinations.is_new(&event)
            && let Some(tool) = &event.tool
        {
            self.metrics.new_destination(tool);
        }
        let observed = event
            .tool
            .as_deref()
            .is_some_and(|tool| self.policies.current().observes(tool));
        if observed {
            self.learned.flow(&event, Timestamp::now());
        }
        if self.dispatcher.is_heard() {
            self.dispatcher.send(event);
        }
    }
}

/// Refusals of a worker are its daily business, so they are logged at `info` at most; a full table
/// is the operator's.
fn log_event(event: &Event) {
    macro_rules! line {
        ($level:ident) => {
            tracing::$level!(
                session.id = event.session,
                session.tool = event.tool,
                verdict.outcome = event.outcome.label(),
                verdict.reason = event.reason.label(),
                verdict.hook = event.hook.label(),
                policy.rule = event.rule,
                dst.ip = %event.address,
                dst.port = event.port,
                dst.protocol = event.protocol,
                dst.name = event.name,
                dns.record = event.record,
                process.pid = event.pid,
                event.suppressed = event.suppressed,
                "verdict"
            )
        };
    }
    match (event.outcome, event.reason) {
        (_, Reason::TableFull | Reason::GrantsFull) => line!(warn),
        (Outcome::Allow, _) => line!(debug),
        (Outcome::Observe | Outcome::Deny, _) => line!(info),
    }
}

/// What is asked of the one who destroys sockets.
#[derive(Debug)]
pub(super) enum Chore {
    /// A look at all of them: a policy has changed.
    Sweep,
    /// The `sock_diag` of a network namespace that can not be entered from here.
    Adopt(u64, OwnedFd),
    /// Nothing of that namespace is ours any more.
    Forget(u64),
}

/// Destroys the sockets that the programs order destroyed, and sweeps when a policy has changed or
/// orders were lost.
pub(super) async fn destroy(mut destroyer: Destroyer, mut chores: mpsc::Receiver<Chore>) {
    loop {
        let sweep = tokio::select! {
            order = destroyer.next() => match order {
                Ok(order) => {
                    carry_out(&mut destroyer, &order);
                    destroyer.needs_sweep().unwrap_or(true)
                }
                Err(error) => {
                    tracing::error!(error = chain(&error), "orders to destroy not read");
                    sleep(ERROR_PAUSE).await;
                    true
                }
            },
            asked = chores.recv() => match asked {
                Some(Chore::Sweep) => true,
                Some(Chore::Adopt(netns, diag)) => {
                    destroyer.adopt(netns, Some(diag));
                    false
                }
                Some(Chore::Forget(netns)) => {
                    destroyer.adopt(netns, None);
                    false
                }
                None => return,
            },
        };
        if sweep {
            self::sweep(&mut destroyer);
        }
    }
}

fn carry_out(destroyer: &mut Destroyer, order: &DestroyOrder) {
    match destroyer.carry_out(order) {
        Ok(done) => tracing::info!(
            session.id = order.session.0,
            dst.ip = %order.remote,
            dst.port = order.remote_port,
            sockets = done.sockets,
            "socket destroyed"
        ),
        Err(error) => tracing::warn!(
            session.id = order.session.0,
            error = chain(&error),
            "socket not destroyed"
        ),
    }
}

fn sweep(destroyer: &mut Destroyer) {
    match destroyer.sweep() {
        Ok(done) => tracing::debug!(sockets = done.sockets, "sockets swept"),
        Err(error) => tracing::warn!(error = chain(&error), "sockets not swept"),
    }
}

/// Logs what the programs say of themselves.
pub(super) async fn lines(mut lines: Lines) {
    loop {
        if let Err(error) = lines.log().await {
            tracing::error!(error = chain(&error), "lines of the programs not read");
            sleep(ERROR_PAUSE).await;
        }
    }
}

/// Looks from time to time whether the hooks stand, and whether what could not be removed at the start
/// can be by now.
pub(super) async fn looks(engine: Arc<Engine>) {
    loop {
        sleep(LOOKS_PAUSE).await;
        drop(engine.attached.look());
        engine.parent.retry_stuck();
    }
}

/// Tells from time to time that log lines were suppressed.
pub(super) async fn suppressed_lines() {
    let mut told = log::suppressed();
    loop {
        sleep(SUPPRESSED_PAUSE).await;
        let now = log::suppressed();
        if now > told {
            let lines = now.saturating_sub(told);
            tracing::warn!(log.lines = lines, "log lines suppressed");
            told = now;
        }
    }
}

/// Keeps the kernel side's list of this host's addresses up to date.
pub(super) async fn local_addresses(mut addresses: LocalAddresses) {
    loop {
        if let Err(error) = addresses.changed().await {
            tracing::warn!(error = chain(&error), "addresses of this host not read");
            sleep(ERROR_PAUSE).await;
        }
    }
}
