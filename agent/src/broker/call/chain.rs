//! The order of the stages. Each takes the value that the one before made; none can be left out.

use std::sync::Arc;

use super::{
    Received, Reply,
    admitted::{Admission, Admitted},
    approved::Approved,
    assessed::Assessed,
    authenticated::Authenticated,
    recorded::Recorded,
    released::Released,
    running::Running,
    settled::Broken,
    trail::Trail,
    validated::Validated,
};
use crate::{
    broker::{Inner, reason::Reason},
    observe::metrics::Stage,
};

/// Carries out one call. Whatever comes of it is recorded before this returns.
pub(in crate::broker) async fn carry_out(inner: &Arc<Inner>, received: Received) -> Reply {
    let mut trail = Trail::of_call(&received);
    match stages(inner, received, &mut trail).await {
        Ok(released) => {
            let done = released.into_done();
            trail.over(
                &inner.calls,
                match (done.replayed, done.is_error) {
                    (true, _) => "replayed",
                    (false, true) => "tool_error",
                    (false, false) => "done",
                },
            );
            Reply::Done(done)
        }
        Err(broken) => {
            // What can not be recorded is refused for another reason than what befell it.
            let reply = broken.settle(inner, &trail).await;
            if let Reply::Refused { refused, .. } = &reply {
                trail.over(&inner.calls, refused.reason.code());
            }
            reply
        }
    }
}

async fn stages(
    inner: &Arc<Inner>,
    received: Received,
    trail: &mut Trail,
) -> Result<Released, Broken> {
    if inner.stopping.is_now() {
        return Err(Broken::from(crate::broker::Refused::from(Reason::Stopping)));
    }
    // One snapshot for the whole call.
    let policy = inner.host.policy(&received.tool);
    let authenticated = Authenticated::check(inner, received, policy.as_deref(), trail).await?;
    trail.passed(&inner.calls, Stage::Authenticate);
    let validated = Validated::check(inner, authenticated, policy, trail)?;
    trail.passed(&inner.calls, Stage::Validate);
    let admitted = match Admitted::admit(inner, validated, trail).await? {
        Admission::New(admitted) => *admitted,
        Admission::Before { durable, reply } => {
            return Released::again(inner, reply, durable, trail).await;
        }
    };
    trail.passed(&inner.calls, Stage::Admit);
    let approved = Approved::decide(Assessed::assess(admitted))?;
    trail.passed(&inner.calls, Stage::Approve);
    let recorded = Recorded::record(inner, approved, trail).await?;
    trail.passed(&inner.calls, Stage::Record);
    let running = Running::start(inner, recorded).await?;
    trail.passed(&inner.calls, Stage::Start);
    let finished = running.finish(inner).await?;
    trail.passed(&inner.calls, Stage::Run);
    let released = Released::release(inner, finished).await?;
    trail.passed(&inner.calls, Stage::Release);
    Ok(released)
}
