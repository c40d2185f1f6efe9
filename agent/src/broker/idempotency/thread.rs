//! The one thread that writes the store: what waits is written in one transaction, so that a thousand
//! claims cost as much disk as one.

use std::{
    collections::HashSet,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use tokio::sync::{mpsc, oneshot};

use super::{
    Claim, Claimed, Error,
    rows::{Found, Id, Rows, Writing},
};
use crate::{
    broker::reason::{Reason, Refused},
    clock::BootTime,
};

/// Orders of one transaction.
const BATCH_MAX: usize = 1024;

/// What the thread is asked.
#[derive(Debug)]
pub(super) enum Order {
    Claim {
        id: [u8; 32],
        principal: [u8; 32],
        digest: [u8; 32],
        now: BootTime,
        answer: oneshot::Sender<Result<Claim, Refused>>,
    },
    End {
        id: [u8; 32],
        end: End,
        answer: Option<oneshot::Sender<Result<(), Error>>>,
    },
    Stop,
}

/// How a claim ended.
#[derive(Debug)]
pub(super) enum End {
    /// With this answer, as JSON.
    Done(Vec<u8>),
    Forget,
    Unknown,
}

/// What is told when the transaction is on the disk.
enum Told {
    Claim {
        id: [u8; 32],
        found: Result<Found, Refused>,
        answer: oneshot::Sender<Result<Claim, Refused>>,
    },
    End {
        result: Result<(), Error>,
        answer: oneshot::Sender<Result<(), Error>>,
    },
}

/// What the thread works on.
pub(super) struct Work {
    pub(super) rows: Rows,
    /// For those who get a claim.
    pub(super) orders: mpsc::UnboundedSender<Order>,
    /// Claims that were given and not ended: their calls run, whatever happens to the file.
    pub(super) held: HashSet<Id>,
    /// Whether the file can not be written.
    pub(super) failed: Arc<AtomicBool>,
}

impl Work {
    /// Serves until it is stopped.
    pub(super) fn run(mut self, mut inbox: mpsc::UnboundedReceiver<Order>) {
        let mut batch = Vec::new();
        while let Some(order) = inbox.blocking_recv() {
            batch.push(order);
            while batch.len() < BATCH_MAX
                && let Ok(order) = inbox.try_recv()
            {
                batch.push(order);
            }
            let stop = batch.iter().any(|order| matches!(order, Order::Stop));
            self.serve(std::mem::take(&mut batch));
            if stop {
                return;
            }
        }
    }

    fn serve(&mut self, batch: Vec<Order>) {
        for order in &batch {
            // Whether or not its end is written: the call does not run any more.
            if let Order::End { id, .. } = order {
                self.held.remove(id);
            }
        }
        let mut told = Vec::new();
        let written = self.write(batch, &mut told);
        if let Err(error) = &written {
            tracing::error!(%error, "idempotency store not written; it is opened again");
            self.rows.fail();
        }
        self.failed.store(written.is_err(), Ordering::Relaxed);
        for told in told {
            self.tell(told, written.is_ok());
        }
    }

    fn write(&mut self, batch: Vec<Order>, told: &mut Vec<Told>) -> Result<(), Error> {
        // Whoever is in the batch and not served hears that the store is closed: the answer is dropped.
        let Self { rows, held, .. } = self;
        if rows.reopen(|id| held.contains(id))? {
            tracing::info!("idempotency store opened again");
        }
        let mut writing = rows.begin()?;
        for order in batch {
            told.extend(one(&mut writing, order)?);
        }
        writing.commit()
    }

    /// Tells one who waits; nobody may wait any more, which only matters where a claim was given.
    fn tell(&mut self, told: Told, written: bool) {
        match told {
            Told::Claim { id, found, answer } => {
                let claim = match found {
                    _ if !written => Err(Reason::StoreUnavailable.into()),
                    Ok(Found::Nothing) => {
                        self.held.insert(id);
                        Ok(Claim::Mine(Claimed::new(id, self.orders.clone())))
                    }
                    Ok(Found::Reply(reply)) => Ok(Claim::Before(reply)),
                    Err(refused) => Err(refused),
                };
                if let Err(Ok(Claim::Mine(claimed))) = answer.send(claim) {
                    claimed.abandon();
                }
            }
            Told::End { result, answer } => {
                let result = if written { result } else { Err(Error::Closed) };
                drop(answer.send(result));
            }
        }
    }
}

fn one(writing: &mut Writing<'_>, order: Order) -> Result<Option<Told>, Error> {
    match order {
        Order::Claim {
            id,
            principal,
            digest,
            now,
            answer,
        } => {
            if answer.is_closed() {
                return Ok(None);
            }
            let found = writing.claim(&id, &principal, &digest, now)?;
            Ok(Some(Told::Claim { id, found, answer }))
        }
        Order::End { id, end, answer } => {
            let result = writing.end(&id, end)?;
            Ok(answer.map(|answer| Told::End { result, answer }))
        }
        Order::Stop => Ok(None),
    }
}
