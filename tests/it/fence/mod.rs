//! The fence, from the inside: real sessions of the real binary, and what they can and can not do.
//!
//! Every refusal stands beside a control: the same act outside a fence, or an allowed one inside.

mod ends;
mod escapes;
mod files;
mod paths;
pub(crate) mod probe;
mod process_one;
mod refusals;
mod replaced;
pub(crate) mod room;
mod runs;
mod sight;
