//! The places that wait for sessions, as the page has them.

use prometheus::proto::MetricFamily;

use super::{PLACES, PLACES_GONE, PLACES_MADE, PLACES_MAX, PLACES_MISSED, tools::Tools};

/// The places that wait for sessions, and what became of those that did.
#[derive(Clone, Debug, Default)]
pub struct PlaceNumbers {
    /// How many wait, per tool.
    pub waiting: Vec<(String, u64)>,
    /// How many may wait.
    pub max: u64,
    /// How many were made.
    pub made: u64,
    /// How many could not be made.
    pub failed: u64,
    /// Launches that found none.
    pub missed: u64,
    /// How many wait no more, by why.
    pub gone: Vec<(&'static str, u64)>,
}

pub(super) fn families(
    places: &PlaceNumbers,
    tools: &Tools,
) -> Result<Vec<MetricFamily>, prometheus::Error> {
    let PlaceNumbers {
        waiting,
        max,
        made,
        failed,
        missed,
        gone,
    } = places;
    let families = [
        PLACES.gauge(waiting.iter().map(|(tool, n)| (vec![tools.tool(tool)], *n)))?,
        PLACES_MAX.gauge([(Vec::new(), *max)])?,
        PLACES_MADE.counter([(vec!["success"], *made), (vec!["failure"], *failed)])?,
        PLACES_GONE.counter(gone.iter().map(|(why, n)| (vec![*why], *n)))?,
        PLACES_MISSED.counter([(Vec::new(), *missed)])?,
    ];
    Ok(families.into_iter().flatten().collect())
}
