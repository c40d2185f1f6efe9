//! The only place with `unsafe`: what the kernel offers and no safe crate does, or only half.

pub mod attempt;
#[cfg(test)]
#[path = "process_one/attempts.rs"]
mod attempts;
pub mod bpf;
pub mod bpf_map;
pub mod clone;
pub mod credentials;
#[path = "process_one/errand.rs"]
pub(crate) mod errand;
pub mod heap;
pub mod inherited;
pub mod keyring;
pub mod landlock;
pub mod mapping;
pub mod membarrier;
pub mod memfd;
pub mod mount;
pub mod netlink;
pub mod netns;
pub mod pipe;
pub mod private_socket;
pub mod process;
pub mod readiness;
pub mod seccomp;
pub mod seqpacket;
pub mod signals;
pub mod sock_diag;
#[cfg(test)]
pub(crate) mod trial;
pub mod wire;
pub mod xattr;
