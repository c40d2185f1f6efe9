//! The control: what the forgeries use is there and public, so they fail for the reason they should.

use agent::{
    audit::{CallReceipt, Receipt},
    broker::{
        Broker,
        call::{
            Admitted, Approved, Assessed, Authenticated, Finished, Received, Recorded, Released, Reply,
            Running, Validated,
        },
        idempotency::Claimed,
        proof::{Checked, Proofs, Spent},
        reason::Refused,
    },
};

fn sequence(receipt: &Receipt) -> u64 {
    receipt.sequence()
}

fn number(receipt: &CallReceipt) -> u64 {
    receipt.sequence()
}

fn keep(claimed: Claimed) -> Claimed {
    claimed
}

/// The one way for a call, and the stages that only it makes.
async fn call(broker: &Broker, received: Received) -> Reply {
    broker.call(received).await
}

fn stages(
    _: &Authenticated,
    _: &Validated,
    _: &Admitted,
    _: &Assessed,
    _: &Approved,
    _: &Recorded,
    _: &Running,
    _: &Finished,
    _: &Released,
) {
}

fn spend(proofs: &Proofs, checked: Checked) -> Result<Spent, Refused> {
    proofs.spend(checked)
}

fn main() {
    let _ = (sequence, number, keep, spend, call, stages);
}
