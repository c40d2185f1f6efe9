//! How events come to a reader that waits: also those that the programs do not wake it for.

use std::time::Duration;

use common::{
    decide::Mode,
    flow::TCP,
    verdict::{Outcome, Reason},
};
use tokio::time::timeout;

use super::{
    lab::{Fence, Lab, runtime},
    policies::{NO_LIMITS, open, policy},
};

/// Far beyond the pause, so that a busy machine fails nobody.
const WAIT: Duration = Duration::from_secs(5);
/// One after the other, quicker than the pause: most of them come in silence.
const CONNECTS: usize = 30;

#[test]
fn silent_events_come_too_and_refusals_with_them() {
    let lab = Lab::new();
    let rules = [open("93.184.216.34/32", TCP, 443, 1)];
    let mut fence = Fence::new(&policy(Mode::Enforce, NO_LIMITS, &rules));
    let _server = lab.tcp("93.184.216.34:443");
    let (session, mut worker) = fence.worker();
    runtime().block_on(async {
        let mut events = fence.kernel.events().unwrap();
        for _ in 0..CONNECTS {
            assert_eq!(worker.ask("tcp 93.184.216.34:443"), "ok");
            let event = timeout(WAIT, events.next()).await.unwrap().unwrap();
            assert_eq!(
                (event.session, event.outcome),
                (session, Outcome::Allow as u8)
            );
        }
        assert_eq!(worker.ask("tcp 93.184.216.35:443"), "EPERM");
        let event = timeout(WAIT, events.next()).await.unwrap().unwrap();
        assert_eq!(event.reason, Reason::NotAllowed as u8);
    });
}
