//! The only place with `unsafe`: what the kernel offers and no safe crate does, or only half.

pub mod attempt;
pub mod bpf;
pub mod bpf_map;
pub mod clone;
pub mod credentials;
pub mod inherited;
pub mod keyring;
pub mod landlock;
pub mod mapping;
pub mod membarrier;
pub mod memfd;
pub mod mount;
pub mod netlink;
pub mod netns;
pub mod process;
pub mod readiness;
pub mod seccomp;
pub mod seqpacket;
pub mod signals;
pub mod sock_diag;
pub mod trial;
