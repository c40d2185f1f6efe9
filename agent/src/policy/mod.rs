//! `policy`
pub mod compiled;
pub mod domain;
