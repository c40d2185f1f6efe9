//! The agent's resolver: port 53 of every worker ends here.
//!
//! It answers names that a rule of the asking worker's policy covers and nothing else, so that no
//! name outside the list leaves the host, and gives the kernel a grant for every address before the
//! worker hears of it. Of the kernel side it knows grants alone; who asks and who is told of
//! refusals comes from the daemon.

pub mod answer;
mod asker;
mod cache;
mod certificate;
mod datagrams;
mod error;
mod flight;
pub mod gate;
mod inquiry;
mod lease;
mod outage;
pub mod query;
mod ready;
pub mod reply;
mod resolv_conf;
mod resolver;
mod server;
mod session;
mod settings;
mod sockets;
mod stats;
mod tcp;
#[cfg(test)]
mod tests;
mod upstream;

pub use asker::{Answered, Asker, Askers, QueryEvent, Witness};
pub use error::{AnswerError, AskError, Error};
pub use inquiry::{Inquiry, host_servers, inquire};
pub use lease::{GRACE, GrantRefused, Granter, TTL_MIN};
pub use server::{Retired, Server, serve};
pub use settings::{IsLocal, Limits, RESOLV_CONF, ROOTS, Refusal, Settings, TlsServer, Upstream};
pub use sockets::{PORT_MAX, Sockets};
pub use stats::{Served, Stats};
pub use upstream::PATIENCE;
