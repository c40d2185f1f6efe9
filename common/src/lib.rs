//! The contract between the kernel programs and the agent.
//!
//! Everything that both sides must read alike is here and only here: ids, flows, rules, verdicts,
//! the decision itself, and the byte layout of every map and event. This crate allocates nothing,
//! does no I/O, depends on `core` alone and knows neither aya nor the host's libraries.
#![no_std]
#![expect(
    clippy::inline_always,
    reason = "the kernel programs have 512 bytes of stack and no calls through pointers"
)]

#[cfg(test)]
extern crate std;

pub mod abi;
pub mod decide;
pub mod event;
pub mod flow;
pub mod hello;
pub mod id;
pub mod layout;
pub mod limits;
pub mod name;
pub mod pod;
pub mod rule;
pub mod special;
pub mod unix;
pub mod verdict;
