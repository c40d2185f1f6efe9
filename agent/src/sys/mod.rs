//! The only unsafe code of the agent: system calls that no dependency wraps, or only half.

pub mod bpf;
pub mod mapping;
pub mod membarrier;
pub mod netlink;
pub mod netns;
pub mod readiness;
pub mod sock_diag;
