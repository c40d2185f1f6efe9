//! When several names become one wildcard.

use crate::policy::{domain::DomainPattern, is_lent, may_be_named};

/// Distinct names directly below one parent from which on a wildcard says it shorter.
pub(super) const SIBLINGS_MIN: usize = 3;

/// What follows the first label of a name, where a wildcard before it would not open what is sold
/// or lent to anybody.
pub(super) fn parent(name: &str) -> Option<&str> {
    let (_, parent) = name.split_once('.')?;
    let wildcard = DomainPattern::parse(&format!("*.{parent}")).ok()?;
    (may_be_named(&wildcard) && !is_lent(parent)).then_some(parent)
}

#[cfg(test)]
mod tests {
    use super::parent;

    #[test]
    fn wildcards_stay_below_what_one_owner_holds() {
        assert_eq!(parent("a.cdn.example.com"), Some("cdn.example.com"));
        assert_eq!(parent("a.example.com"), Some("example.com"));
        assert_eq!(parent("a.example.co.uk"), Some("example.co.uk"));
        for name in [
            "example.com",
            "example.co.uk",
            "shop.com.au",
            "example",
            "someone.github.io",
            "bucket.s3.eu-west-1.amazonaws.com",
            "bucket.s3.amazonaws.com",
            "d111111abcdef8.cloudfront.net",
            "4.3.2.1.in-addr.arpa",
            "x.google.internal",
        ] {
            assert_eq!(parent(name), None, "{name}");
        }
        // Their own names are not everybody's.
        assert_eq!(parent("a.notgithub.io"), Some("notgithub.io"));
    }
}
