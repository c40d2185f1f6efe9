//! The only place with `unsafe`: what the kernel offers and no safe crate does.

pub mod credentials;
pub mod keyring;
pub mod landlock;
pub mod mount;
pub mod process;
pub mod readiness;
pub mod seccomp;
pub mod seqpacket;
pub mod signals;
