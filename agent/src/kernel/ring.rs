//! Readers of the programs' rings.

use std::ops::Deref;

use aya::maps::{MapData, RingBuf};
use common::{
    event::{Event, NamedEvent},
    pod::Pod,
};
use tokio::io::{Interest, unix::AsyncFd};

use super::error::Error;
use crate::sys::readiness;

/// An event, and the name that a refused TLS handshake was for.
#[derive(Clone, Debug)]
pub struct Told {
    /// The decision.
    pub event: Event,
    /// The name as it was sent, in lower case; of what is no printing ASCII, the escaped form.
    pub name: Option<String>,
}

impl Told {
    /// Reads a record of the ring: the longer kind has a name. `None` where it is too short for
    /// either.
    #[must_use]
    pub fn read(bytes: &[u8]) -> Option<Self> {
        if let Some(NamedEvent {
            event,
            length,
            name,
            ..
        }) = NamedEvent::read(bytes)
        {
            let length = usize::try_from(length).unwrap_or(usize::MAX);
            let name: Vec<u8> = name.get(..length)?.iter().rev().copied().collect();
            let name = (!name.is_empty()).then(|| name.escape_ascii().to_string());
            return Some(Self { event, name });
        }
        let event = Event::read(bytes)?;
        Some(Self { event, name: None })
    }
}

impl Deref for Told {
    type Target = Event;

    fn deref(&self) -> &Event {
        &self.event
    }
}

/// The events, in the order in which the programs sent them.
pub struct Events {
    ring: Reader,
}

impl Events {
    pub(in crate::kernel) fn open(map: MapData) -> Result<Self, Error> {
        Ok(Self {
            ring: Reader::open(map, "EVENTS")?,
        })
    }

    /// Waits for the next event. Safe to drop: no event is lost by it.
    pub async fn next(&mut self) -> Result<Told, Error> {
        self.ring.next_as(Told::read).await
    }

    /// The next event, if one is there already.
    pub fn try_next(&mut self) -> Option<Told> {
        self.ring.try_next_as(Told::read)
    }
}

impl std::fmt::Debug for Events {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Events").finish_non_exhaustive()
    }
}

/// A reader of one ring.
pub(in crate::kernel) struct Reader {
    ring: AsyncFd<RingBuf<MapData>>,
    name: &'static str,
}

impl Reader {
    pub(in crate::kernel) fn open(map: MapData, name: &'static str) -> Result<Self, Error> {
        let failed = |message: String| Error::Ring { name, message };
        let ring = RingBuf::try_from(aya::maps::Map::RingBuf(map))
            .map_err(|error| failed(error.to_string()))?;
        let ring = readiness::watch(ring, Interest::READABLE)
            .map_err(|error| failed(error.to_string()))?;
        Ok(Self { ring, name })
    }

    fn try_next_as<T>(&mut self, read: fn(&[u8]) -> Option<T>) -> Option<T> {
        // A record too short for its type can only be a bug; it is skipped.
        self.ring.get_mut().next().and_then(|item| read(&item))
    }

    pub(in crate::kernel) async fn next<T: Pod>(&mut self) -> Result<T, Error> {
        self.next_as(T::read).await
    }

    async fn next_as<T>(&mut self, read: fn(&[u8]) -> Option<T>) -> Result<T, Error> {
        loop {
            if let Some(record) = self.try_next_as(read) {
                return Ok(record);
            }
            let mut ready = self
                .ring
                .readable_mut()
                .await
                .map_err(|error| Error::Ring {
                    name: self.name,
                    message: error.to_string(),
                })?;
            // The kernel wakes a reader that was up to date: clear first, then look again.
            ready.clear_ready();
            if let Some(record) = ready.get_inner_mut().next().and_then(|item| read(&item)) {
                return Ok(record);
            }
        }
    }
}
