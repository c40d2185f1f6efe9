//! Domain names and wildcards in their one canonical form.

use std::fmt;

/// Bytes of a name without the trailing dot (RFC 1035, 2.3.4, less the length bytes at both ends).
pub const NAME_BYTES_MAX: usize = 253;
/// Bytes of a label (RFC 1035, 2.3.4).
pub const LABEL_BYTES_MAX: usize = 63;
/// Prefix of a wildcard.
const WILDCARD: &str = "*.";

/// `api.example`: lower-case, IDNA-encoded, no trailing dot.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct DomainName(String);

/// `api.example` or `*.cdn.example`: lower-case, IDNA-encoded, no trailing dot.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct DomainPattern(pub(in crate::policy) String);

/// The text is no name.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum DomainError {
    /// Nothing.
    #[error("a domain name is not empty")]
    Empty,
    /// An IP address.
    #[error("`{0}` is an address, not a name")]
    Address(String),
    /// A scheme, path, port or the like.
    #[error("`{0}` is more than a name")]
    Url(String),
    /// A `*` elsewhere than before the first dot.
    #[error("`{0}`: a wildcard is `*.` and a name")]
    Wildcard(String),
    /// One label only.
    #[error("`{0}` has one label only")]
    SingleLabel(String),
    /// A wildcard over a whole top-level domain.
    #[error("`*.{0}` covers a whole top-level domain")]
    TopLevel(String),
    /// Not valid under IDNA.
    #[error("`{0}` is no domain name")]
    Idna(String),
    /// A label with other characters than letters, digits, `-` and `_`, or with hyphens at its ends.
    #[error(
        "`{name}`: label `{label}` has other characters than letters, digits, inner `-`, and `_`"
    )]
    Label {
        /// The name.
        name: String,
        /// The label.
        label: String,
    },
    /// An empty label.
    #[error("`{0}` has an empty label")]
    EmptyLabel(String),
    /// The name or one of its labels is too long.
    #[error("`{0}`: a name has at most {NAME_BYTES_MAX} bytes and a label {LABEL_BYTES_MAX}")]
    TooLong(String),
}

impl DomainError {
    /// What to do.
    #[must_use]
    pub fn hint(&self) -> String {
        match self {
            Self::Address(text) if text.contains(':') => format!("write cidr = \"{text}/128\""),
            Self::Address(text) => format!("write cidr = \"{text}/32\""),
            Self::Url(_) => "write the name alone; ports belong under `ports`".to_owned(),
            Self::Wildcard(_) => {
                "\"*.cdn.example\" covers every name below cdn.example, at any depth, not cdn.example itself".to_owned()
            }
            Self::SingleLabel(name) if name == "localhost" => {
                "this host is reached by `[[local.allow]]`: tcp = \"127.0.0.1:5432\"".to_owned()
            }
            Self::TopLevel(_) => {
                "everybody can have a name there: name what is meant, like \"*.cdn.example.com\""
                    .to_owned()
            }
            Self::SingleLabel(_) => {
                "write the full name: a search list of the host is not applied".to_owned()
            }
            Self::Empty
            | Self::Idna(_)
            | Self::Label { .. }
            | Self::EmptyLabel(_)
            | Self::TooLong(_) => "write it like \"api.billing.example\"".to_owned(),
        }
    }
}

impl DomainName {
    /// Reads a name and makes it canonical.
    pub fn parse(text: &str) -> Result<Self, DomainError> {
        let name = text.strip_suffix('.').unwrap_or(text);
        if name.is_empty() {
            return Err(DomainError::Empty);
        }
        let inner = name.trim_start_matches('[').trim_end_matches(']');
        if inner.parse::<std::net::IpAddr>().is_ok() {
            return Err(DomainError::Address(inner.to_owned()));
        }
        if name.contains(['/', ':', '@', '?', '#', ' ']) {
            return Err(DomainError::Url(name.to_owned()));
        }
        if name.contains('*') {
            return Err(DomainError::Wildcard(name.to_owned()));
        }
        let ascii =
            idna::domain_to_ascii(name).map_err(|_no_reason| DomainError::Idna(name.to_owned()))?;
        check(&ascii)?;
        Ok(Self(ascii))
    }

    /// Reads a name that a query asks for: letters are folded and one trailing dot dropped, nothing
    /// is converted. Names with other bytes than letters, digits, inner `-`, and `_`, and names of
    /// one label, are refused as in a policy: no rule can cover them.
    pub fn from_query(text: &str) -> Result<Self, DomainError> {
        let name = text.strip_suffix('.').unwrap_or(text);
        // Before anything is copied: the text is a stranger's, and errors quote it.
        if name.len() > NAME_BYTES_MAX {
            return Err(DomainError::TooLong(abridged(name)));
        }
        if name.is_empty() {
            return Err(DomainError::Empty);
        }
        let name = name.to_ascii_lowercase();
        check(&name)?;
        Ok(Self(name))
    }

    /// The same from the labels of a DNS message, the root's empty one left out. A dot inside a
    /// label is no separator and is refused.
    pub fn from_labels<'a>(
        labels: impl IntoIterator<Item = &'a [u8]>,
    ) -> Result<Self, DomainError> {
        let mut name = String::with_capacity(NAME_BYTES_MAX);
        for label in labels {
            if name.len().saturating_add(label.len()) > NAME_BYTES_MAX {
                return Err(DomainError::TooLong(name));
            }
            if !name.is_empty() {
                name.push('.');
            }
            let plain = std::str::from_utf8(label)
                .ok()
                .filter(|label| label.is_ascii() && !label.contains('.'));
            let Some(plain) = plain else {
                let label = label.escape_ascii().to_string();
                return Err(DomainError::Label { name, label });
            };
            if plain.is_empty() {
                return Err(DomainError::EmptyLabel(name));
            }
            name.push_str(plain);
        }
        Self::from_query(&name)
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// As much of a stranger's text as an error quotes.
fn abridged(text: &str) -> String {
    text.chars().take(LABEL_BYTES_MAX).chain(['…']).collect()
}

fn check(name: &str) -> Result<(), DomainError> {
    if name.len() > NAME_BYTES_MAX {
        return Err(DomainError::TooLong(name.to_owned()));
    }
    for label in name.split('.') {
        if label.is_empty() {
            return Err(DomainError::EmptyLabel(name.to_owned()));
        }
        if label.len() > LABEL_BYTES_MAX {
            return Err(DomainError::TooLong(name.to_owned()));
        }
        let characters = label
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_');
        if !characters || label.starts_with('-') || label.ends_with('-') {
            return Err(DomainError::Label {
                name: name.to_owned(),
                label: label.to_owned(),
            });
        }
    }
    // Resolvers read a name whose last label is a number, decimal or hexadecimal, as an address
    // (inet_aton(3)); no top-level domain begins with a digit.
    let last = name.rsplit('.').next().unwrap_or_default();
    if last.starts_with(|c: char| c.is_ascii_digit()) {
        return Err(DomainError::Address(name.to_owned()));
    }
    if name.contains('.') {
        Ok(())
    } else {
        Err(DomainError::SingleLabel(name.to_owned()))
    }
}

impl DomainPattern {
    /// Reads a name or a wildcard and makes it canonical.
    pub fn parse(text: &str) -> Result<Self, DomainError> {
        match text.strip_prefix(WILDCARD) {
            Some(base) => match DomainName::parse(base) {
                Ok(name) => Ok(Self(format!("{WILDCARD}{name}"))),
                Err(DomainError::SingleLabel(label)) => Err(DomainError::TopLevel(label)),
                Err(error) => Err(error),
            },
            None => Ok(Self(DomainName::parse(text)?.0)),
        }
    }

    /// The pattern.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// `cdn.example` of `*.cdn.example`; `None` for a name.
    #[must_use]
    pub fn wildcard_base(&self) -> Option<&str> {
        self.0.strip_prefix(WILDCARD)
    }

    /// Whether a name is covered: a wildcard covers every depth, not the apex.
    #[must_use]
    pub fn matches(&self, name: &DomainName) -> bool {
        match self.wildcard_base() {
            Some(base) => name
                .0
                .strip_suffix(base)
                .is_some_and(|head| head.len() > 1 && head.ends_with('.')),
            None => self.0 == name.0,
        }
    }
}

impl From<DomainName> for DomainPattern {
    fn from(name: DomainName) -> Self {
        Self(name.0)
    }
}

impl fmt::Display for DomainName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for DomainPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
