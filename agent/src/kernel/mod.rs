//! `kernel`
