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

use super::{bell::Bell, desks::Arrival};

/// How long entrance and desks have to answer, all together. What a desk has to do for all connections that
/// there may be takes a fraction of it.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(5);

/// The doors of one socket, as seen from outside. A clone sees the same ones.
#[derive(Clone, Debug, Default)]
pub struct Pulse(Arc<Doors>);

#[derive(Debug, Default)]
struct Doors {
    served: OnceLock<Served>,
    over: OnceLock<()>,
}

#[derive(Debug)]
struct Served {
    entrance: Bell,
    desks: Vec<WeakUnboundedSender<Arrival>>,
}

impl Pulse {
    /// These are the desks, and that is the entrance's bell.
    pub(super) fn begins(&self, desks: Vec<WeakUnboundedSender<Arrival>>, entrance: Bell) {
        // Set once for each socket.
        drop(self.0.served.set(Served { entrance, desks }));
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

    /// Asks the entrance and every desk for an answer; an error says who gave none. Doors that have not
    /// begun to serve are not missed.
    pub async fn answers(&self) -> Result<(), String> {
        self.answers_within(ANSWER_TIME_MAX).await
    }

    async fn answers_within(&self, time: Duration) -> Result<(), String> {
        if self.has_ended() {
            return Err("the socket is not served any more".to_owned());
        }
        let Some(Served { entrance, desks }) = self.0.served.get() else {
            return Ok(());
        };
        // All are asked before the first one is waited for.
        let mut asked = vec![("the entrance".to_owned(), entrance.ring())];
        for (number, desk) in desks.iter().enumerate() {
            asked.push((format!("desk {number}"), ask(desk)));
        }
        let until = Instant::now() + time;
        for (who, answered) in asked {
            let Some(answered) = answered else {
                return Err(format!("{who} has ended"));
            };
            match timeout_at(until, answered).await {
                Ok(Ok(())) => {}
                Ok(Err(_ended)) => return Err(format!("{who} has ended")),
                Err(_elapsed) => return Err(format!("{who} does not answer")),
            }
        }
        Ok(())
    }
}

fn ask(desk: &WeakUnboundedSender<Arrival>) -> Option<oneshot::Receiver<()>> {
    let (answer, answered) = oneshot::channel();
    let desk = desk.upgrade()?;
    desk.send(Arrival::Asked(answer)).ok().map(|()| answered)
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc::{self, UnboundedReceiver};

    use super::*;
    use crate::broker::door::bell::{Listening, bell};

    /// Two desks and an entrance, whose threads are the test.
    struct Scene {
        pulse: Pulse,
        senders: [mpsc::UnboundedSender<Arrival>; 2],
        arriving: [UnboundedReceiver<Arrival>; 2],
        rings: Listening,
    }

    fn doors() -> Scene {
        let (one, one_arriving) = mpsc::unbounded_channel();
        let (other, other_arriving) = mpsc::unbounded_channel();
        let (bell, rings) = bell().expect("a bell");
        let pulse = Pulse::default();
        pulse.begins(vec![one.downgrade(), other.downgrade()], bell);
        Scene {
            pulse,
            senders: [one, other],
            arriving: [one_arriving, other_arriving],
            rings,
        }
    }

    /// An entrance that has nothing else to do.
    async fn stand(rings: Listening) {
        loop {
            rings.answer();
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
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
        let scene = doors();
        let (pulse, [one, other]) = (scene.pulse, scene.arriving);
        tokio::spawn(stand(scene.rings));
        tokio::spawn(attend(one));
        let said = pulse.answers_within(Duration::from_millis(50)).await;
        let said = said.expect_err("one hangs");
        assert_eq!(said, "desk 1 does not answer");
        tokio::spawn(attend(other));
        assert_eq!(pulse.answers().await, Ok(()), "it goes on");
    }

    #[tokio::test]
    async fn an_entrance_that_hangs_is_named() {
        let Scene {
            pulse,
            arriving,
            rings,
            senders: _senders,
        } = doors();
        for desk in arriving {
            tokio::spawn(attend(desk));
        }
        let said = pulse.answers_within(Duration::from_millis(50)).await;
        assert_eq!(said, Err("the entrance does not answer".to_owned()));
        tokio::spawn(stand(rings));
        assert_eq!(pulse.answers().await, Ok(()), "it goes on");
    }

    #[tokio::test]
    async fn a_desk_that_has_ended_is_named() {
        let scene = doors();
        let (pulse, [one, other]) = (scene.pulse, scene.arriving);
        tokio::spawn(stand(scene.rings));
        tokio::spawn(attend(other));
        drop(one);
        let said = pulse.answers().await.expect_err("one has ended");
        assert_eq!(said, "desk 0 has ended");
    }

    #[tokio::test]
    async fn an_entrance_that_has_gone_is_missed() {
        let Scene {
            pulse,
            senders,
            rings,
            ..
        } = doors();
        let standing = tokio::spawn(stand(rings));
        drop(senders);
        let said = pulse.answers().await.expect_err("nobody leads there");
        assert_eq!(said, "desk 0 has ended");
        standing.abort();
        assert!(standing.await.is_err_and(|error| error.is_cancelled()));
        let said = pulse.answers().await.expect_err("nobody listens");
        assert_eq!(said, "the entrance has ended");
        pulse.is_over();
        assert!(pulse.has_ended());
        let said = pulse.answers().await.expect_err("nobody is let in");
        assert_eq!(said, "the socket is not served any more");
    }
}
