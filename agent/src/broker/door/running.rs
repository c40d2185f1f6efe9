//! The calls that run, so that each can be ended: by the caller's word or by its going away.
//!
//! A call that began runs to its recorded end: in the task of the one who waits for it, which saves two
//! ways between threads, and in a task of its own as soon as that one has something else to do. A caller
//! that hangs up cancels it, and never takes the record with it.

use std::{
    collections::HashMap,
    hash::Hash,
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use serde_json::Value;
use tokio::{
    runtime::Handle,
    sync::{mpsc, watch},
    task::JoinHandle,
};

use crate::broker::{
    Broker,
    call::{Received, Reply},
    reason::Reason,
};

/// Progress that a caller has not taken yet; more is dropped by the broker.
const PROGRESS_MAX: usize = 16;

/// The number of a call, and what ends it.
type Ending = (u64, watch::Sender<bool>);

/// Calls by what their caller names them with.
#[derive(Debug)]
pub(super) struct Running<K: Eq + Hash> {
    next: AtomicU64,
    calls: Mutex<HashMap<K, Vec<Ending>>>,
}

impl<K: Eq + Hash> Default for Running<K> {
    fn default() -> Self {
        Self {
            next: AtomicU64::new(0),
            calls: Mutex::default(),
        }
    }
}

impl<K: Eq + Hash + Clone> Running<K> {
    /// Ends the call of this name. Where several have it (two sessions of one process, which both
    /// count from 1), none is ended: a guess could end the wrong one.
    pub(super) fn cancel(&self, key: &K) {
        let calls = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some([(_, cancel)]) = calls.get(key).map(Vec::as_slice) {
            cancel.send_replace(true);
        }
    }

    /// Whether a call of this name runs.
    pub(super) fn holds(&self, key: &K) -> bool {
        let calls = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
        calls.contains_key(key)
    }

    /// Begins a call: `received` is made from the ends that the call gets.
    pub(super) fn begin(
        self: &Arc<Self>,
        key: K,
        broker: &Arc<Broker>,
        received: impl FnOnce(watch::Receiver<bool>, mpsc::Sender<Value>) -> Received,
    ) -> Call<K> {
        let (cancel, cancelled) = watch::channel(false);
        let (sender, progress) = mpsc::channel(PROGRESS_MAX);
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let mut calls = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = calls.entry(key.clone()).or_default();
        entry.push((number, cancel));
        drop(calls);
        Call {
            running: Arc::clone(self),
            key,
            number,
            way: Way::Here(Box::pin(broker.call(received(cancelled, sender)))),
            progress,
        }
    }
}

/// Where a call is carried out.
enum Way {
    /// By who waits for it.
    Here(Pin<Box<dyn Future<Output = Reply> + Send>>),
    /// In a task of its own.
    Away(JoinHandle<Reply>),
    /// It has ended; its reply, until somebody takes it.
    Over(Option<Box<Reply>>),
}

/// One call that runs; dropped, it is cancelled.
#[must_use]
pub(super) struct Call<K: Eq + Hash> {
    running: Arc<Running<K>>,
    key: K,
    number: u64,
    way: Way,
    progress: mpsc::Receiver<Value>,
}

/// What a call says next.
#[derive(Debug)]
pub(super) enum Said {
    /// The worker has come further.
    Progress(Value),
    /// It is over.
    Reply(Reply),
}

impl<K: Eq + Hash> Call<K> {
    /// Waits for what comes next. After the reply there is nothing more to ask for. May be cancelled
    /// and called again without loss.
    pub(super) async fn next(&mut self) -> Said {
        let reply = tokio::select! {
            biased;
            Some(progress) = self.progress.recv() => {
                // Who passes it on may have to wait for the caller: the call does not.
                self.way.leave();
                return Said::Progress(progress);
            }
            reply = self.way.end() => reply,
        };
        // What it said before its end comes before that, also where it did both at one go.
        match self.progress.try_recv() {
            Ok(progress) => {
                self.way = Way::Over(Some(Box::new(reply)));
                Said::Progress(progress)
            }
            Err(_none) => Said::Reply(reply),
        }
    }
}

impl Way {
    async fn end(&mut self) -> Reply {
        let reply = match self {
            Self::Here(call) => Ok(call.await),
            Self::Away(task) => task.await.map_err(|error| error.to_string()),
            Self::Over(reply) => {
                let reply = reply.take().map(|reply| *reply);
                reply.ok_or_else(|| "it has ended before".to_owned())
            }
        };
        *self = Self::Over(None);
        reply.unwrap_or_else(|error| {
            tracing::error!(error, "call of the broker did not end");
            Reply::Refused {
                refused: Reason::Internal.into(),
                places: Vec::new(),
                nonce: None,
                record: None,
            }
        })
    }

    /// From now on it is carried out whoever waits.
    fn leave(&mut self) {
        *self = match std::mem::replace(self, Self::Over(None)) {
            // Without a runtime the agent has ended: its next start records what was left.
            Self::Here(call) => match Handle::try_current() {
                Ok(runtime) => Self::Away(runtime.spawn(call)),
                Err(_none) => Self::Over(None),
            },
            same @ (Self::Away(_) | Self::Over(_)) => same,
        };
    }
}

impl<K: Eq + Hash> Drop for Call<K> {
    fn drop(&mut self) {
        let mut calls = self
            .running
            .calls
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(entry) = calls.get_mut(&self.key) {
            // The sender goes: that cancels the call, if it still runs.
            entry.retain(|(number, _)| *number != self.number);
            if entry.is_empty() {
                calls.remove(&self.key);
            }
        }
        drop(calls);
        self.way.leave();
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn call(way: impl FnOnce(mpsc::Sender<Value>) -> Way) -> Call<u8> {
        let (sender, progress) = mpsc::channel(PROGRESS_MAX);
        Call {
            running: Arc::default(),
            key: 1,
            number: 0,
            way: way(sender),
            progress,
        }
    }

    fn ended() -> Reply {
        Reply::Refused {
            refused: Reason::Cancelled.into(),
            places: Vec::new(),
            nonce: None,
            record: None,
        }
    }

    #[tokio::test]
    async fn all_progress_comes_before_the_reply() {
        let mut call = call(|sender| {
            Way::Here(Box::pin(async move {
                for step in 0..3 {
                    sender.try_send(json!(step)).unwrap();
                }
                ended()
            }))
        });
        for step in 0..3 {
            let said = call.next().await;
            assert!(
                matches!(&said, Said::Progress(said) if *said == step),
                "{said:?}"
            );
        }
        assert!(matches!(call.next().await, Said::Reply(_)));
    }

    #[tokio::test]
    async fn a_call_goes_on_when_nobody_waits() {
        let (tell, mut told) = mpsc::channel(1);
        let (go, gone) = tokio::sync::oneshot::channel::<()>();
        let mut call = call(|_sender| {
            Way::Here(Box::pin(async move {
                gone.await.ok();
                tell.send(()).await.unwrap();
                ended()
            }))
        });
        assert!(soon(call.next()).await.is_none(), "it runs");
        drop(call);
        go.send(()).unwrap();
        assert_eq!(told.recv().await, Some(()));
    }

    async fn soon<T>(future: impl Future<Output = T>) -> Option<T> {
        tokio::time::timeout(std::time::Duration::from_millis(20), future)
            .await
            .ok()
    }
}
