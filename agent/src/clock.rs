//! `clock`
