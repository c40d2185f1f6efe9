//! Whether those who serve the broker's socket still do: what the watchdog and `status` are told of
//! threads that the runtime knows nothing of.

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use tokio::{
    sync::{mpsc::WeakUnboundedSender, oneshot},
    time::{Instant, timeout_at},
};

use super::desks::Arrival;

/// How long the desks have to answer, all together. What a desk has to do for all connections that there
/// may be takes a fraction of it.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(5);

/// The doors of one socket, as seen from outside. A clone sees the same ones.
#[derive(Clone, Debug, Default)]
pub struct Pulse(Arc<Doors>);

#[derive(Debug, Default)]
struct Doors {
    desks: OnceLock<Vec<WeakUnboundedSender<Arrival>>>,
    over: OnceLock<()>,
}

impl Pulse {
    /// These are the desks.
    pub(super) fn begins(&self, desks: Vec<WeakUnboundedSender<Arrival>>) {
        // Set once for each socket.
        drop(self.0.desks.set(desks));
    }

    /// Nobody is let in any more.
    pub(super) fn is_over(&self) {
        self.0.over.get_or_init(|| ());
    }

    /// Whether nobody is let in any more although nobody asked for that.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.0.over.get().is_some()
    }

    /// Asks every desk for an answer; an error says who gave none. Doors that have not begun to serve
    /// are not missed.
    pub async fn answers(&self) -> Result<(), String> {
        self.answers_within(ANSWER_TIME_MAX).await
    }

    async fn answers_within(&self, time: Duration) -> Result<(), String> {
        if self.has_ended() {
            return Err("the socket is not served any more".to_owned());
        }
        let asked = self.0.desks.get().into_iter().flatten().map(|desk| {
            let (answer, answered) = oneshot::channel();
            let desk = desk.upgrade()?;
            desk.send(Arrival::Asked(answer)).ok().map(|()| answered)
        });
        // All are asked before the first one is waited for.
        let asked: Vec<_> = asked.collect();
        let until = Instant::now() + time;
        for (number, answered) in asked.into_iter().enumerate() {
            let Some(answered) = answered else {
                return Err(format!("desk {number} has ended"));
            };
            match timeout_at(until, answered).await {
                Ok(Ok(())) => {}
                Ok(Err(_ended)) => return Err(format!("desk {number} has ended")),
                Err(_elapsed) => return Err(format!("desk {number} does not answer")),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc::{self, UnboundedReceiver};

    use super::*;

    /// Two desks, whose threads are the test.
    fn doors() -> (
        Pulse,
        [mpsc::UnboundedSender<Arrival>; 2],
        [UnboundedReceiver<Arrival>; 2],
    ) {
        let (one, one_arriving) = mpsc::unbounded_channel();
        let (other, other_arriving) = mpsc::unbounded_channel();
        let pulse = Pulse::default();
        pulse.begins(vec![one.downgrade(), other.downgrade()]);
        (pulse, [one, other], [one_arriving, other_arriving])
    }

    async fn attend(mut arriving: UnboundedReceiver<Arrival>) {
        while let Some(Arrival::Asked(answer)) = arriving.recv().await {
            answer.send(()).ok();
        }
    }

    #[tokio::test]
    async fn doors_that_have_not_begun_are_not_missed() {
        assert_eq!(Pulse::default().answers().await, Ok(()));
    }

    #[tokio::test]
    async fn a_desk_that_hangs_is_named() {
        let (pulse, _senders, [one, other]) = doors();
        tokio::spawn(attend(one));
        let said = pulse.answers_within(Duration::from_millis(50)).await;
        let said = said.expect_err("one hangs");
        assert_eq!(said, "desk 1 does not answer");
        tokio::spawn(attend(other));
        assert_eq!(pulse.answers().await, Ok(()), "it goes on");
    }

    #[tokio::test]
    async fn a_desk_that_has_ended_is_named() {
        let (pulse, _senders, [one, other]) = doors();
        tokio::spawn(attend(other));
        drop(one);
        let said = pulse.answers().await.expect_err("one has ended");
        assert_eq!(said, "desk 0 has ended");
    }

    #[tokio::test]
    async fn an_entrance_that_has_gone_is_missed() {
        let (pulse, senders, _arriving) = doors();
        drop(senders);
        let said = pulse.answers().await.expect_err("nobody leads there");
        assert_eq!(said, "desk 0 has ended");
        pulse.is_over();
        assert!(pulse.has_ended());
        let said = pulse.answers().await.expect_err("nobody is let in");
        assert_eq!(said, "the socket is not served any more");
    }
}
