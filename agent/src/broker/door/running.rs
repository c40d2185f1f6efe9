//! The calls that run, so that each can be ended: by the caller's word or by its going away.
//!
//! A call that began runs to its recorded end in a task of its own: a caller that hangs up cancels it,
//! and never takes the record with it.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use serde_json::Value;
use tokio::{
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
        let received = received(cancelled, sender);
        let broker = Arc::clone(broker);
        let task = tokio::spawn(async move { broker.call(received).await });
        Call {
            running: Arc::clone(self),
            key,
            number,
            task,
            progress,
        }
    }
}

/// One call that runs; dropped, it is cancelled.
#[must_use]
#[derive(Debug)]
pub(super) struct Call<K: Eq + Hash> {
    running: Arc<Running<K>>,
    key: K,
    number: u64,
    task: JoinHandle<Reply>,
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
        tokio::select! {
            biased;
            Some(progress) = self.progress.recv() => Said::Progress(progress),
            reply = &mut self.task => Said::Reply(reply.unwrap_or_else(|error| {
                tracing::error!(%error, "call of the broker did not end");
                Reply::Refused {
                    refused: Reason::Internal.into(),
                    places: Vec::new(),
                    nonce: None,
                    record: None,
                }
            })),
        }
    }
}

impl<K: Eq + Hash> Drop for Call<K> {
    fn drop(&mut self) {
        let mut calls = self
            .running
            .calls
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let Some(entry) = calls.get_mut(&self.key) else {
            return;
        };
        // The sender goes: that cancels the call, if it still runs.
        entry.retain(|(number, _)| *number != self.number);
        if entry.is_empty() {
            calls.remove(&self.key);
        }
    }
}
