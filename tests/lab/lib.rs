//! The lab: two network namespaces joined by a veth pair, real servers in one of them, a recorder
//! that counts every packet which arrives there, and the means to run the agent, tools and probes
//! in the other.
//!
//! `host` is where workers run. `world` owns every other address there is: its routing table says
//! that all of IPv4 and IPv6 is local to it. Neither has a way out, and neither has a name on the
//! file system: a lab that is killed leaves nothing behind.

pub mod agent;
pub mod bare;
pub mod binary;
pub mod cgroup;
mod datagram;
pub mod dns;
pub mod leftovers;
pub mod metrics;
pub mod net;
pub mod netns;
pub mod patience;
pub mod prober;
pub mod recorder;
pub mod server;
pub mod sys;
pub mod tls;

pub use net::Lab;
