//! How an instance is set up: its name and paths, and the agent's own configuration file.

mod audit;
mod broker;
mod dns;
mod file;
mod instance;
mod log_level;
mod place;

pub use audit::{Audit, KEEPERS_MAX, Keeper};
pub use broker::{
    Broker, Calls, Endpoint, Fetching, ISSUERS_MAX, Issuer, KeyPlace, KeySource, LoopbackHttp,
    Origin, TOKEN_LIFETIME_DEFAULT, TOKEN_LIFETIME_MAX, URL_BYTES_MAX,
};
pub use dns::{Dns, PORTS_FREE_FROM, Refusal, UPSTREAMS_MAX, Upstreams};
pub use file::{Config, Error, KernelLog, LogFormat, Metrics};
pub use instance::{DEFAULT_INSTANCE, INSTANCE_NAME_BYTES_MAX, Instance, InstanceNameError};
pub use log_level::log_level;

#[cfg(test)]
mod tests;
