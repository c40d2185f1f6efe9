//! Which calls were made before: a call with an idempotency key runs once, whatever is retried, raced
//! or killed. (principal, key) is claimed on the disk before anything runs; a claim that an agent
//! did not live to end is `unknown` for ever and never runs again by itself.
//!
//! It knows neither tools nor tokens: who asks is a text, what is asked is a digest. Nor does it know the
//! wall clock: a key is forgotten by the kernel's clock since boot, which nobody sets.

mod error;
mod opening;
mod rows;
mod thread;
mod time;

use std::{
    collections::HashSet,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
};

use aws_lc_rs::digest::{Context, SHA256};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::{Semaphore, mpsc, oneshot};

use super::reason::{Reason, Refused};
use crate::clock::{Boot, BootTime};

pub use error::Error;
pub use rows::{BOUNDS, Bounds, KEPT};
use thread::{End, Order};

/// Longest key, bytes; visible ASCII only.
pub const KEY_BYTES_MAX: usize = 255;
/// Claims that wait for the disk at once.
const WAITING_MAX: usize = 4096;

/// The calls of the last day in which the host ran.
#[derive(Debug)]
pub struct Store {
    orders: mpsc::UnboundedSender<Order>,
    waiting: Semaphore,
    failed: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// What a claim came to.
#[must_use]
#[derive(Debug)]
pub enum Claim {
    /// Nobody made this call before: it is the claimant's to make.
    Mine(Claimed),
    /// It was made; this was the answer.
    Before(StoredReply),
}

/// The right, and the duty, to make a call and tell what came of it. Dropped, the call's outcome is
/// unknown.
#[must_use]
#[derive(Debug)]
pub struct Claimed {
    id: [u8; 32],
    orders: Option<mpsc::UnboundedSender<Order>>,
}

/// The answer to a call, as it is given again.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoredReply {
    /// MCP content blocks.
    pub content: Vec<Value>,
    /// The structured result.
    pub structured: Option<Value>,
    /// Whether the tool says that it failed.
    pub is_error: bool,
}

impl Store {
    /// Opens or makes the store (0600). What an earlier agent had claimed and not ended is unknown
    /// from now on.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let boot = Boot::current().map_err(Error::Boot)?;
        Self::open_bounded(path, BOUNDS, boot)
    }

    fn open_bounded(path: &Path, bounds: Bounds, boot: Boot) -> Result<Self, Error> {
        Self::of(opening::of(path)?, bounds, boot)
    }

    fn of(opening: opening::Opening, bounds: Bounds, boot: Boot) -> Result<Self, Error> {
        let rows = rows::Rows::open(opening, bounds, boot)?;
        let (orders, inbox) = mpsc::unbounded_channel();
        let builder = std::thread::Builder::new().name("idempotency".to_owned());
        let failed = Arc::new(AtomicBool::new(false));
        let work = thread::Work {
            rows,
            orders: orders.clone(),
            held: HashSet::new(),
            failed: Arc::clone(&failed),
        };
        let thread = builder.spawn(move || work.run(inbox));
        let thread = thread.map_err(Error::Thread)?;
        Ok(Self {
            orders,
            waiting: Semaphore::new(WAITING_MAX),
            failed,
            thread: Some(thread),
        })
    }

    /// Whether the last write failed. The next one opens the file again.
    #[must_use]
    pub fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Relaxed)
    }

    /// Claims a call. Of any number of claims of one (principal, key) exactly one gets it; the others
    /// get the answer, once there is one, or learn that it runs, that nobody knows what became of it,
    /// or that the key was used for another call. Returns when the claim is on the disk.
    pub async fn claim(
        &self,
        principal: &str,
        key: &str,
        call_digest: [u8; 32],
        now: BootTime,
    ) -> Result<Claim, Refused> {
        let shaped = (1..=KEY_BYTES_MAX).contains(&key.len())
            && key.bytes().all(|byte| byte.is_ascii_graphic());
        if !shaped {
            return Err(Reason::IdempotencyMalformed.into());
        }
        let Ok(_place) = self.waiting.try_acquire() else {
            return Err(Reason::IdempotencyFull.into());
        };
        let (answer, answered) = oneshot::channel();
        let order = Order::Claim {
            id: digest(&[principal.as_bytes(), key.as_bytes()]),
            principal: digest(&[principal.as_bytes()]),
            digest: call_digest,
            now,
            answer,
        };
        let unavailable = || Refused::from(Reason::StoreUnavailable);
        self.orders.send(order).map_err(|_order| unavailable())?;
        answered.await.map_err(|_closed| unavailable())?
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        // Where the thread is gone there is nothing to stop.
        drop(self.orders.send(Order::Stop));
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the idempotency store's thread panicked");
        }
    }
}

impl Claimed {
    fn new(id: [u8; 32], orders: mpsc::UnboundedSender<Order>) -> Self {
        Self {
            id,
            orders: Some(orders),
        }
    }

    /// The call was made and this is its answer, for whoever makes it again. Where the store has no
    /// room for it, the call is kept as one whose outcome is unknown.
    pub async fn done(self, reply: StoredReply) -> Result<(), Error> {
        let reply = serde_json::to_vec(&reply).map_err(Error::Reply)?;
        self.end(End::Done(reply)).await
    }

    /// Nothing ran: the key is free again.
    pub async fn forget(self) -> Result<(), Error> {
        self.end(End::Forget).await
    }

    /// Nobody knows what became of the call.
    pub async fn unknown(self) -> Result<(), Error> {
        self.end(End::Unknown).await
    }

    async fn end(mut self, end: End) -> Result<(), Error> {
        let orders = self.orders.take().ok_or(Error::Closed)?;
        let (answer, answered) = oneshot::channel();
        let order = Order::End {
            id: self.id,
            end,
            answer: Some(answer),
        };
        orders.send(order).map_err(|_order| Error::Closed)?;
        answered.await.map_err(|_closed| Error::Closed)?
    }

    /// Nobody waits for this claim any more, and nothing ran.
    fn abandon(mut self) {
        self.tell(End::Forget);
    }

    fn tell(&mut self, end: End) {
        if let Some(orders) = self.orders.take() {
            let order = Order::End {
                id: self.id,
                end,
                answer: None,
            };
            // Where the store is closed its next opening says the same.
            drop(orders.send(order));
        }
    }
}

impl Drop for Claimed {
    fn drop(&mut self) {
        self.tell(End::Unknown);
    }
}

/// SHA-256 of texts, each with its length, so that no two lists look alike.
fn digest(texts: &[&[u8]]) -> [u8; 32] {
    let mut context = Context::new(&SHA256);
    for text in texts {
        context.update(&(text.len() as u64).to_be_bytes());
        context.update(text);
    }
    let mut digest = [0; 32];
    digest.copy_from_slice(context.finish().as_ref());
    digest
}

#[cfg(test)]
mod tests;
