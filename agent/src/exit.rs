//! `exit`
