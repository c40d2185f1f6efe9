//! The hooks and this module's interface on the kernel that runs the tests. They need root, cgroup
//! v2 and `ip`; a test that lacks one of them fails and says which.
//!
//! Each test has an instance, a parent cgroup and two network namespaces of its own: `host`, where
//! agent and workers are, and `world`, where the servers are. Workers are copies of the test binary
//! that enter the session's cgroup before they make a socket.

mod lab;
mod policies;
mod worker;

mod asking;
mod cgroups;
mod events;
mod full;
mod grants;
mod lifecycle;
mod lines;
mod others;
mod own;
mod packets;
mod resolver;
mod sockets;
mod swaps;
mod takeover;
mod tls;
mod unix;
mod verifier;
