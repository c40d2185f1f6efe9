//! The agent: policy, kernel, sandbox, audit, observation, and the daemon that wires them.
//!
//! Imports run downwards only (`cargo xtask tidy` proves it): `cli` → `daemon` → `sandbox`,
//! `launcher` → `kernel` → `audit`, `observe` → `policy`, `config`, `clock`, `sys` → `common`.

pub mod audit;
pub mod authorities;
pub mod broker;
pub mod cli;
pub mod clock;
pub mod config;
pub mod daemon;
pub mod dns;
pub mod exit;
pub mod json;
pub mod kernel;
pub mod launcher;
pub mod observe;
pub mod ownership;
pub mod policy;
pub mod sandbox;
pub mod secret;
pub mod shutdown;
pub mod sys;
pub mod timestamp;
