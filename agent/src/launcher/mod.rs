//! `launcher`
