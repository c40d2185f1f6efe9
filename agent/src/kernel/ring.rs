//! Readers of the programs' rings.

use aya::maps::{MapData, RingBuf};
use common::{event::Event, pod::Pod};
use tokio::io::{Interest, unix::AsyncFd};

use super::error::Error;
use crate::sys::readiness;

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
    pub async fn next(&mut self) -> Result<Event, Error> {
        self.ring.next().await
    }

    /// The next event, if one is there already.
    pub fn try_next(&mut self) -> Option<Event> {
        self.ring.try_next()
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

    pub(in crate::kernel) fn try_next<T: Pod>(&mut self) -> Option<T> {
        // A record too short for its type can only be a bug; it is skipped.
        self.ring.get_mut().next().and_then(|item| T::read(&item))
    }

    pub(in crate::kernel) async fn next<T: Pod>(&mut self) -> Result<T, Error> {
        loop {
            if let Some(record) = self.try_next() {
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
            if let Some(record) = ready.get_inner_mut().next().and_then(|item| T::read(&item)) {
                return Ok(record);
            }
        }
    }
}
