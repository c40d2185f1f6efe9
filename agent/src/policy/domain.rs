//! Domain names and wildcards in their one canonical form.

/// `api.example` or `*.cdn.example`: lower-case, IDNA-encoded, no trailing dot.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct DomainPattern(pub(in crate::policy) String);
