//! Who turns to the resolver: the programs write down the source of every packet that goes to it,
//! before it is delivered.

use std::{net::SocketAddr, num::NonZeroU32, sync::Arc, time::Duration};

use common::{
    flow::Address,
    id::SessionId,
    layout::{Client, ClientKey},
};

use super::{Inner, error::Error};
use crate::{clock::BootTime, sys::bpf_map::Write};

/// Nanoseconds of a second.
const NS: u64 = 1_000_000_000;
/// How long after its last packet a source is known. Each packet of a connection renews it, so what
/// the resolver has just received is always younger. Answers come only to who is known: longer than
/// the resolver takes for any.
pub const CLIENT_LIFE: Duration = Duration::from_secs(5);

/// How many datagrams of a session come to the resolver: the rest is dropped before it leaves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Pace {
    /// In a second, in the long run.
    pub per_second: NonZeroU32,
    /// At once, after a pause.
    pub burst: NonZeroU32,
}

impl Pace {
    /// So many in a second, in the long run, and at once, after a pause; at least one.
    #[must_use]
    pub fn new(per_second: u32, burst: u32) -> Self {
        let positive = |number| NonZeroU32::new(number).unwrap_or(NonZeroU32::MIN);
        Self {
            per_second: positive(per_second),
            burst: positive(burst),
        }
    }

    /// What one takes of a session's time, nanoseconds.
    pub(in crate::kernel) fn each_ns(self) -> u64 {
        (NS / u64::from(self.per_second.get())).max(1)
    }

    /// How far a session may be ahead of the clock before one more, nanoseconds.
    pub(in crate::kernel) fn ahead_ns(self) -> u64 {
        let others = u64::from(self.burst.get() - 1);
        others.saturating_mul(self.each_ns())
    }
}

/// The clients of the resolver. A clone is the same.
#[derive(Clone, Debug)]
pub struct Clients {
    inner: Arc<Inner>,
}

impl Clients {
    pub(in crate::kernel) fn new(inner: &Arc<Inner>) -> Self {
        Self {
            inner: Arc::clone(inner),
        }
    }

    /// The session that has sent from this source within [`CLIENT_LIFE`], in the agent's network
    /// namespace; `protocol` is TCP or UDP. `None`: no session has, and no answer is due.
    pub fn find(&self, source: SocketAddr, protocol: u16) -> Result<Option<SessionId>, Error> {
        self.find_in(self.inner.netns, source, protocol)
    }

    /// The same in the network namespace with this cookie.
    pub fn find_in(
        &self,
        netns: u64,
        source: SocketAddr,
        protocol: u16,
    ) -> Result<Option<SessionId>, Error> {
        let key = ClientKey {
            netns,
            address: Address::from(source.ip()),
            port: source.port(),
            protocol,
            pad: 0,
        };
        let client = self.inner.maps.clients.read(&key)?;
        let now = BootTime::now();
        Ok(client
            .filter(|client| is_young(client, now))
            .map(|client| client.session))
    }

    /// Takes out who has sent nothing for [`CLIENT_LIFE`]; says how many.
    pub fn sweep(&self) -> Result<usize, Error> {
        let now = BootTime::now();
        self.inner.drop_clients(|client| !is_young(client, now))
    }
}

fn is_young(client: &Client, now: BootTime) -> bool {
    BootTime(client.seen_ns) + CLIENT_LIFE > now
}

impl Inner {
    /// Takes out the clients that are `over`; says how many.
    pub(in crate::kernel) fn drop_clients(
        &self,
        over: impl Fn(&Client) -> bool,
    ) -> Result<usize, Error> {
        let clients = &self.maps.clients;
        let mut dropped = 0;
        for key in clients.keys()? {
            if !clients.read(&key)?.is_some_and(|client| over(&client)) {
                continue;
            }
            match clients.take(&key)? {
                // It has sent again since it was read.
                Some(client) if !over(&client) => match clients.write(&key, &client, Write::New) {
                    Err(error) if !error.is_existing() => return Err(error),
                    _ => {}
                },
                Some(_over) => dropped += 1,
                None => {}
            }
        }
        Ok(dropped)
    }
}
