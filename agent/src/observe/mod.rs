//! What is seen from outside: events, log lines, metrics and the page that Prometheus reads.
//!
//! It knows the contract with the kernel side and the compiled policies, and nothing of how events
//! are fetched or sessions are run: the daemon brings both.

pub mod destinations;
pub mod dispatch;
pub mod event;
pub mod http;
mod journald;
pub mod learned;
mod line_limit;
pub mod log;
pub mod metrics;
pub mod name;
pub mod refused;
