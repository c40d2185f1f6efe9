//! Names that no rule may hold, or only with care: special-use names, names of cloud metadata, and
//! zones under which everybody can have a name.
//!
//! `.test` and `.example` (RFC 6761) are left alone: they are what tests and manuals use, and a
//! resolver that does not serve them says so. So are `.internal` and private zones: what they
//! resolve to is dropped from answers unless a door names the address.

use super::domain::DomainPattern;

/// Why a name is refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Special {
    /// Continues the name: "`a.local` is ...".
    pub(super) why: &'static str,
    /// What to do.
    pub(super) hint: &'static str,
}

/// Zones that are not DNS's, or hold no servers (IANA special-use domain names).
const REFUSED: &[(&str, Special)] = &[
    (
        "localhost",
        Special {
            why: "is this host (RFC 6761)",
            hint: "this host is reached by `[[local.allow]]`: tcp = \"127.0.0.1:5432\"",
        },
    ),
    (
        "local",
        Special {
            why: "is asked by multicast, not by DNS (RFC 6762)",
            hint: "name the address: `[[egress.allow_private]]` with its cidr",
        },
    ),
    (
        "onion",
        Special {
            why: "is never asked of DNS (RFC 7686)",
            hint: "drop the rule; a proxy for it is reached by its address",
        },
    ),
    (
        "alt",
        Special {
            why: "is never asked of DNS (RFC 9476)",
            hint: "drop the rule",
        },
    ),
    (
        "invalid",
        Special {
            why: "never exists (RFC 6761)",
            hint: "drop the rule",
        },
    ),
    (
        "arpa",
        Special {
            why: "is DNS's own: it holds no servers (RFC 3172)",
            hint: "drop the rule; names of addresses are not asked back",
        },
    ),
];

const REGISTRY: Special = Special {
    why: "looks like a registry's zone: everybody can have a name there",
    hint: "name what is meant: \"*.shop.co.uk\" and \"shop.co.uk\", not \"*.co.uk\"",
};

/// Second-level labels under which registries of countries sell names (`co.uk`, `com.br`, `or.jp`).
const REGISTRY_LABELS: &[&str] = &[
    "ac", "co", "com", "edu", "go", "gob", "gov", "gv", "ltd", "me", "mil", "ne", "net", "nom",
    "or", "org", "plc", "sch",
];

/// Names that serve the credentials of a cloud machine.
const METADATA_NAMES: &[&str] = &[
    "instance-data.ec2.internal",
    "metadata.azure.internal",
    "metadata.google.internal",
    "metadata.platformequinix.com",
    "metadata.tencentyun.com",
];

/// Zones under which anybody can rent a name: a short list of the best known, for a caution only.
const SHARED: &[&str] = &[
    "akamaized.net",
    "amazonaws.com",
    "azureedge.net",
    "azurefd.net",
    "azurewebsites.net",
    "b-cdn.net",
    "backblazeb2.com",
    "blogspot.com",
    "cloudapp.net",
    "cloudfront.net",
    "core.windows.net",
    "digitaloceanspaces.com",
    "edgekey.net",
    "edgesuite.net",
    "fastly.net",
    "firebaseapp.com",
    "firebaseio.com",
    "fly.dev",
    "github.io",
    "githubusercontent.com",
    "gitlab.io",
    "googleapis.com",
    "googleusercontent.com",
    "herokuapp.com",
    "hf.space",
    "myshopify.com",
    "netlify.app",
    "ngrok-free.app",
    "ngrok.app",
    "ngrok.io",
    "onrender.com",
    "pages.dev",
    "r2.dev",
    "run.app",
    "sharepoint.com",
    "supabase.co",
    "trafficmanager.net",
    "trycloudflare.com",
    "vercel.app",
    "web.app",
    "wordpress.com",
    "workers.dev",
];

/// Why no rule may hold the name or wildcard.
pub(super) fn refusal(pattern: &DomainPattern) -> Option<Special> {
    let name = pattern.wildcard_base().unwrap_or(pattern.as_str());
    let special = REFUSED
        .iter()
        .find(|(zone, _)| is_at_or_below(name, zone))
        .map(|(_, special)| *special);
    special.or_else(|| {
        pattern
            .wildcard_base()
            .filter(|base| is_registry(base))
            .map(|_| REGISTRY)
    })
}

/// The metadata name that the pattern covers.
pub(super) fn metadata(pattern: &DomainPattern) -> Option<&'static str> {
    METADATA_NAMES
        .iter()
        .copied()
        .find(|name| match pattern.wildcard_base() {
            Some(base) => *name != base && is_at_or_below(name, base),
            None => *name == pattern.as_str(),
        })
}

/// The shared zone whose names the wildcard covers.
pub(super) fn shared(pattern: &DomainPattern) -> Option<&'static str> {
    let base = pattern.wildcard_base()?;
    SHARED
        .iter()
        .copied()
        .find(|zone| is_at_or_below(zone, base) || regional(base, zone))
}

/// Whether a rule may hold the name or wildcard.
#[must_use]
pub fn may_be_named(pattern: &DomainPattern) -> bool {
    refusal(pattern).is_none() && metadata(pattern).is_none()
}

/// Whether names directly below this one may belong to anybody: it is a shared zone or lies in one,
/// or has one label.
#[must_use]
pub fn is_lent(base: &str) -> bool {
    !base.contains('.') || SHARED.iter().any(|zone| is_at_or_below(base, zone))
}

/// Whether the base is at most one label below the zone: clouds sell names below their regions
/// (`*.s3.amazonaws.com`).
fn regional(base: &str, zone: &str) -> bool {
    base.strip_suffix(zone)
        .and_then(|head| head.strip_suffix('.'))
        .is_some_and(|head| !head.contains('.'))
        && matches!(zone, "amazonaws.com" | "core.windows.net")
}

fn is_registry(base: &str) -> bool {
    base.split_once('.').is_some_and(|(label, country)| {
        country.len() == 2
            && country.bytes().all(|b| b.is_ascii_lowercase())
            && REGISTRY_LABELS.contains(&label)
    })
}

fn is_at_or_below(name: &str, zone: &str) -> bool {
    name.strip_suffix(zone)
        .is_some_and(|head| head.is_empty() || head.ends_with('.'))
}
