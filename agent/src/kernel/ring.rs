//! Readers of the programs' rings.
//!
//! The programs do not wake the reader for every event: after one that does, those of allowed flows
//! come in silence for [`EVENT_PAUSE_MS`]. So the reader looks again by itself once that time has
//! passed since the last record it found; a reader that finds nothing then sleeps until it is woken.

use std::{ops::Deref, time::Duration};

use aya::maps::{MapData, RingBuf};
use common::{
    event::{Event, NamedEvent},
    limits::EVENT_PAUSE_MS,
    pod::Pod,
};
use tokio::{
    io::{Interest, unix::AsyncFd},
    time::timeout,
};

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

/// When the reader looks again. Longer than the silence: the last silent record is in by then.
const LOOK_AGAIN: Duration = Duration::from_millis(EVENT_PAUSE_MS as u64 + 10);

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
    /// Nothing can have come in silence since the ring was found empty.
    settled: bool,
}

impl Reader {
    pub(in crate::kernel) fn open(map: MapData, name: &'static str) -> Result<Self, Error> {
        let failed = |message: String| Error::Ring { name, message };
        let ring = RingBuf::try_from(aya::maps::Map::RingBuf(map))
            .map_err(|error| failed(error.to_string()))?;
        let ring = readiness::watch(ring, Interest::READABLE)
            .map_err(|error| failed(error.to_string()))?;
        Ok(Self {
            ring,
            name,
            // An earlier reader may have been woken for what comes in silence now.
            settled: false,
        })
    }

    fn try_next_as<T>(&mut self, read: fn(&[u8]) -> Option<T>) -> Option<T> {
        // A record too short for its type can only be a bug; it is skipped.
        let record = self.ring.get_mut().next().and_then(|item| read(&item));
        if record.is_some() {
            self.settled = false;
        }
        record
    }

    pub(in crate::kernel) async fn next<T: Pod>(&mut self) -> Result<T, Error> {
        self.next_as(T::read).await
    }

    async fn next_as<T>(&mut self, read: fn(&[u8]) -> Option<T>) -> Result<T, Error> {
        loop {
            if let Some(record) = self.try_next_as(read) {
                return Ok(record);
            }
            if self.settled {
                self.woken().await?;
            } else if let Ok(woken) = timeout(LOOK_AGAIN, self.woken()).await {
                woken?;
            } else if let Some(record) = self.try_next_as(read) {
                return Ok(record);
            } else {
                self.settled = true;
            }
        }
    }

    /// Waits for a wake-up. The kernel gives one for each record that asks for it: the readiness is
    /// cleared first, and then the caller looks.
    async fn woken(&mut self) -> Result<(), Error> {
        let ready = self.ring.readable_mut().await;
        let mut ready = ready.map_err(|error| Error::Ring {
            name: self.name,
            message: error.to_string(),
        })?;
        ready.clear_ready();
        Ok(())
    }
}
