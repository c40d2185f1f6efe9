//! The broker: checks every call to a tool (who, for what, with which arguments, how often), runs it
//! in a fenced worker and records what came of it.
//!
//! It launches nothing itself and knows neither kernel nor sandbox: the daemon hands it the way to
//! start a session. All doors lead into [`call`]; no other way leads to a worker.

pub mod call;
pub mod limit;
pub mod reason;
