//! A filter's meaning as a tree of choices by ranges: what `program` turns into instructions.

use std::collections::BTreeMap;

use crate::sandbox::syscalls::{Rule, Verdict};

/// A word of `struct seccomp_data`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Field {
    /// The call's number.
    Number,
    /// The architecture whose call it is.
    Architecture,
    /// The lower half of an argument.
    Argument(u8),
}

/// A decision, in canonical form: neighbouring ranges differ, and there are at least two.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Tree {
    /// The end.
    Answer(Verdict),
    /// By a word.
    By {
        /// Which.
        field: Field,
        /// The bits of it that count.
        mask: u32,
        /// First values of the ranges, the first of which is 0, and what each leads to.
        ranges: Vec<(u32, Tree)>,
    },
}

impl Tree {
    /// A choice from the first values of ranges; what begins at 0 must be among them.
    pub(super) fn by(field: Field, mask: u32, starts: BTreeMap<u32, Self>) -> Self {
        let mut ranges: Vec<(u32, Self)> = Vec::with_capacity(starts.len());
        for (start, tree) in starts {
            if ranges.last().is_none_or(|(_, last)| *last != tree) {
                ranges.push((start, tree));
            }
        }
        if ranges.len() == 1
            && let Some((_, only)) = ranges.pop()
        {
            return only;
        }
        Self::By {
            field,
            mask,
            ranges,
        }
    }
}

impl From<&Rule> for Tree {
    fn from(rule: &Rule) -> Self {
        match rule {
            Rule::Always(verdict) => Self::Answer(*verdict),
            Rule::By {
                argument,
                mask,
                cases,
                otherwise,
            } => {
                let otherwise = Self::from(&**otherwise);
                let mut starts = BTreeMap::from([(0, otherwise.clone())]);
                for (value, rule) in cases {
                    starts.insert(*value, Self::from(rule));
                    if let Some(next) = value.checked_add(1) {
                        starts.entry(next).or_insert_with(|| otherwise.clone());
                    }
                }
                Self::by(Field::Argument(*argument), *mask, starts)
            }
        }
    }
}
