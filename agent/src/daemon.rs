//! `daemon`
