//! The one thread that writes the store: what waits is written in one transaction, so that a thousand
//! claims cost as much disk as one.

use tokio::sync::{mpsc, oneshot};

use super::{
    Claim, Claimed, Error,
    rows::{Found, Rows, Writing},
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

/// Serves until it is stopped.
pub(super) fn run(
    rows: &Rows,
    mut inbox: mpsc::UnboundedReceiver<Order>,
    orders: &mpsc::UnboundedSender<Order>,
) {
    let mut batch = Vec::new();
    while let Some(order) = inbox.blocking_recv() {
        batch.push(order);
        while batch.len() < BATCH_MAX
            && let Ok(order) = inbox.try_recv()
        {
            batch.push(order);
        }
        let stop = batch.iter().any(|order| matches!(order, Order::Stop));
        serve(rows, batch.drain(..), orders);
        if stop {
            return;
        }
    }
}

fn serve(rows: &Rows, batch: impl Iterator<Item = Order>, orders: &mpsc::UnboundedSender<Order>) {
    let mut told = Vec::new();
    let written = write(rows, batch, &mut told);
    if let Err(error) = &written {
        tracing::error!(%error, "idempotency store not written");
    }
    for told in told {
        tell(told, written.is_ok(), orders);
    }
}

fn write(
    rows: &Rows,
    batch: impl Iterator<Item = Order>,
    told: &mut Vec<Told>,
) -> Result<(), Error> {
    // Whoever is in the batch and not served hears that the store is closed: the answer is dropped.
    let mut writing = rows.begin()?;
    let served = batch
        .map(|order| one(&mut writing, order))
        .try_for_each(|one| {
            told.extend(one?);
            Ok(())
        });
    served.and_then(|()| writing.commit())
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

/// Tells one who waits; nobody may wait any more, which only matters where a claim was given.
fn tell(told: Told, written: bool, orders: &mpsc::UnboundedSender<Order>) {
    match told {
        Told::Claim { id, found, answer } => {
            let claim = match found {
                _ if !written => Err(Reason::StoreUnavailable.into()),
                Ok(Found::Nothing) => Ok(Claim::Mine(Claimed::new(id, orders.clone()))),
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
