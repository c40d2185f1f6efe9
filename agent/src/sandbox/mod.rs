//! The fence of a worker: what it consists of (`plan`), how each layer is put up, and what was.
//!
//! The agent computes a `Plan` per policy; the launcher's processes only carry it out. Nothing here
//! knows of the network: that is the kernel side's.

pub mod child;
pub mod enforced;
mod errand;
pub mod error;
pub mod interpreter;
pub mod landlock;
pub mod output;
pub mod path;
pub mod pins;
pub mod plan;
pub mod procfs;
pub mod program;
pub mod rlimit;
pub mod root;
pub mod seccomp;
pub mod selftest;
pub mod sockets;
pub mod sum;
pub mod syscalls;
pub mod uids;

pub use enforced::{Enforced, Measure, State};
pub use error::PlanError;
pub use plan::Plan;
pub use selftest::Slipped;
