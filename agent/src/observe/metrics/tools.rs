//! Which names of tools and verbs become labels: the first ones, up to a bound; every other one is
//! counted under [`OTHER`]. A time series costs memory here and in Prometheus, and is never forgotten
//! while the agent runs, so policies that come and go must not make ever more of them.

use std::{
    collections::BTreeSet,
    sync::{PoisonError, RwLock},
};

/// The label of all that have none of their own.
pub(super) const OTHER: &str = "other";
/// Verbs that have labels of their own, for each tool that may have one.
const VERBS_PER_TOOL: usize = 4;

/// Names that are labels.
#[derive(Debug)]
pub(super) struct Tools {
    tools: Names<String>,
    verbs: Names<(String, String)>,
}

/// A set that takes names until it is full.
#[derive(Debug)]
struct Names<N> {
    known: RwLock<BTreeSet<N>>,
    max: usize,
}

impl Tools {
    /// With labels for so many tools.
    pub(super) fn new(max: usize) -> Self {
        Self {
            tools: Names::new(max),
            verbs: Names::new(max.saturating_mul(VERBS_PER_TOOL)),
        }
    }

    /// The label of a tool.
    pub(super) fn tool<'t>(&self, tool: &'t str) -> &'t str {
        if self.tools.has(&tool.to_owned()) {
            tool
        } else {
            OTHER
        }
    }

    /// The labels of a tool and of one of its verbs.
    pub(super) fn verb<'t>(&self, tool: &'t str, verb: &'t str) -> (&'t str, &'t str) {
        let tool = self.tool(tool);
        if self.verbs.has(&(tool.to_owned(), verb.to_owned())) {
            (tool, verb)
        } else {
            (tool, OTHER)
        }
    }

    /// Whether a tool has a label of its own; takes none.
    pub(super) fn is_known(&self, tool: &str) -> bool {
        let known = self.tools.known.read();
        known.unwrap_or_else(PoisonError::into_inner).contains(tool)
    }
}

impl<N: Ord + Clone> Names<N> {
    fn new(max: usize) -> Self {
        Self {
            known: RwLock::default(),
            max,
        }
    }

    /// Whether the name is one of those that are labels; it becomes one where there is room.
    fn has(&self, name: &N) -> bool {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        if known.contains(name) {
            return true;
        }
        if known.len() >= self.max {
            return false;
        }
        drop(known);
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        // Somebody else may have taken the last place.
        if known.len() < self.max {
            known.insert(name.clone());
        }
        known.contains(name)
    }
}

#[cfg(test)]
mod tests {
    use super::{OTHER, Tools};

    #[test]
    fn the_first_have_labels_and_keep_them() {
        let tools = Tools::new(2);
        assert_eq!(tools.tool("a"), "a");
        assert_eq!(tools.tool("b"), "b");
        assert_eq!(tools.tool("c"), OTHER);
        assert_eq!(tools.tool("a"), "a");
        assert!(tools.is_known("b") && !tools.is_known("c"));
    }

    #[test]
    fn verbs_are_bounded_over_all_tools() {
        let tools = Tools::new(1);
        for verb in ["a", "b", "c", "d"] {
            assert_eq!(tools.verb("tool", verb), ("tool", verb));
        }
        assert_eq!(tools.verb("tool", "e"), ("tool", OTHER));
        assert_eq!(tools.verb("another", "a"), (OTHER, OTHER));
        assert_eq!(tools.verb("tool", "a"), ("tool", "a"));
    }
}
