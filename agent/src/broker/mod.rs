//! The broker: checks every call to a tool (who, for what, with which arguments, how often), runs it
//! in a fenced worker and records what came of it.
//!
//! It launches nothing itself and knows neither kernel nor sandbox: the daemon hands it the way to
//! start a session. All doors lead into [`Broker::call`]; no other way leads to a worker.

pub mod call;
pub mod door;
pub mod reason;

use call::{Credentials, Listed, Received, Reply};
use reason::{Reason, Refused};

use crate::audit::Caller;

/// Bounds of a message, for every door.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FrameLimits {
    /// Bytes of a request.
    pub bytes_in: usize,
    /// Bytes of a reply.
    pub bytes_out: usize,
    /// Arrays and objects within each other.
    pub depth: usize,
}

impl Default for FrameLimits {
    fn default() -> Self {
        Self {
            bytes_in: 1 << 20,
            bytes_out: 8 << 20,
            depth: 64,
        }
    }
}

/// The one way from every door to every worker.
#[derive(Debug)]
pub struct Broker {
    limits: FrameLimits,
}

impl Broker {
    /// One that refuses every call: nothing behind it runs.
    #[must_use]
    pub fn closed(limits: FrameLimits) -> Self {
        Self { limits }
    }

    /// Carries out one call, or says why not. What came of it is recorded before this returns.
    pub async fn call(&self, received: Received) -> Reply {
        drop(received);
        Reply::Refused {
            refused: Reason::Stopping.into(),
            places: Vec::new(),
            nonce: None,
            record: None,
        }
    }

    /// The verbs that the shown token covers, of one tool or of all.
    pub async fn list(
        &self,
        peer: Caller,
        credentials: Credentials,
        body_digest: [u8; 32],
        tool: Option<&str>,
    ) -> Result<Vec<Listed>, Refused> {
        let _: (Caller, Credentials, [u8; 32], Option<&str>) =
            (peer, credentials, body_digest, tool);
        Err(Reason::Stopping.into())
    }

    /// The nonce that the next proof of a caller must carry (RFC 9449, 8).
    #[must_use]
    pub fn nonce(&self) -> String {
        String::new()
    }

    /// Bounds of a message.
    #[must_use]
    pub fn frame_limits(&self) -> FrameLimits {
        self.limits
    }
}
