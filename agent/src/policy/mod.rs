//! A tool's policy: from TOML to what the kernel and the sandbox read.
//!
//! Nothing here does I/O but `store`. `compile` is the one way from text to a [`compiled`] policy;
//! `model` and `explain` answer with the code that the kernel runs.

pub mod bundle;
pub mod caution;
mod choice;
pub mod cidr;
pub mod compile;
pub mod compiled;
pub mod diff;
pub mod digest;
pub mod domain;
mod editor;
pub mod error;
mod example;
pub mod explain;
pub mod lock;
pub mod merge;
pub mod model;
pub mod names;
mod overlap;
mod parse;
pub mod port;
pub mod profile;
pub mod quantity;
mod raw;
mod reader;
mod render;
pub mod schema;
mod special_name;
pub mod store;
pub mod syscall_names;
mod table;
pub mod unit;
mod verb;

pub use compile::{compile, compile_with};
pub use editor::schema;
pub use error::PolicyError;
pub use special_name::{is_lent, may_be_named};

#[cfg(test)]
mod tests;
