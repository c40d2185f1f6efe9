//! What a status tells of issuers and of the resolver.

use serde::{Deserialize, Serialize};

/// A token issuer.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct IssuerStatus {
    /// Its identifier.
    pub issuer: String,
    /// Where its keys come from: `own`, `file` or `fetched`.
    pub source: String,
    /// Keys that are believed.
    pub keys: u64,
    /// Seconds since they were read or fetched.
    pub age_seconds: Option<u64>,
    /// Why newer ones could not be had.
    pub error: Option<String>,
}

/// The resolver.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ResolverStatus {
    /// Whether it answers.
    pub answers: bool,
    /// Its port on 127.0.0.1 and `::1`.
    pub port: u16,
    /// Whom it asks.
    pub upstreams: String,
    /// Questions that were asked upstream.
    pub upstream_queries: u64,
    /// Questions that upstream did not answer.
    pub upstream_failures: u64,
    /// Queries that were answered from the cache.
    pub cache_hits: u64,
    /// Queries that wait for upstream.
    pub waiting: u64,
    /// Addresses that names have opened.
    pub grants: u64,
    /// Grants for which there was no room.
    pub grants_refused: u64,
}
