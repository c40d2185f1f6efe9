//! When several names become one wildcard.

/// Distinct names directly below one parent from which on a wildcard says it shorter.
pub(super) const SIBLINGS_MIN: usize = 3;

/// Second-level labels under which registries of countries sell names (`co.uk`, `com.au`).
const REGISTRY_LABELS: &[&str] = &[
    "ac", "asn", "biz", "co", "com", "edu", "firm", "gen", "go", "gob", "gouv", "gov", "gv", "id",
    "in", "ind", "info", "ltd", "me", "mil", "muni", "ne", "net", "nom", "or", "org", "plc", "pro",
    "sch", "web",
];

/// Names below which each label is another customer's: a wildcard there opens everybody's.
const SHARED: &[&str] = &[
    "akamaized.net",
    "amazonaws.com",
    "appspot.com",
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
    "fbsbx.com",
    "firebaseapp.com",
    "firebaseio.com",
    "fly.dev",
    "github.io",
    "githubpreview.dev",
    "githubusercontent.com",
    "gitlab.io",
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
    "surge.sh",
    "trafficmanager.net",
    "trycloudflare.com",
    "vercel.app",
    "web.app",
    "windows.net",
    "workers.dev",
    "wordpress.com",
];

/// What follows the first label of a name, where a wildcard before it would not open what is sold
/// or lent to anybody.
pub(super) fn parent(name: &str) -> Option<&str> {
    let (_, parent) = name.split_once('.')?;
    (!is_public(parent)).then_some(parent)
}

/// Whether anybody gets names directly below it, or it is too near to the root to tell.
fn is_public(parent: &str) -> bool {
    let labels: Vec<&str> = parent.split('.').collect();
    let of_registry = match labels.as_slice() {
        [] | [_] => true,
        [second, top] => top.len() == 2 && REGISTRY_LABELS.contains(second),
        _ => false,
    };
    // Also what lies below: `s3.eu-west-1.amazonaws.com` holds everybody's buckets, too.
    let lent = SHARED.iter().any(|shared| {
        parent
            .strip_suffix(shared)
            .is_some_and(|head| head.is_empty() || head.ends_with('.'))
    });
    of_registry || lent || parent.ends_with(".arpa")
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
            "1.0.in-addr.arpa",
        ] {
            assert_eq!(parent(name), None, "{name}");
        }
        // Their own names are not everybody's.
        assert_eq!(parent("a.notgithub.io"), Some("notgithub.io"));
    }
}
