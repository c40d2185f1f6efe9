//! `sys`
