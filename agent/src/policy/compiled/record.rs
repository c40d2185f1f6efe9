//! DNS record types that rules list.

/// A DNS record type that a rule may list, in the order in which rules are written canonically.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Record {
    /// IPv4 addresses.
    A,
    /// IPv6 addresses.
    Aaaa,
    /// Mail exchangers.
    Mx,
    /// Text.
    Txt,
    /// Services.
    Srv,
    /// Certification authorities.
    Caa,
    /// HTTPS service bindings.
    Https,
    /// Service bindings.
    Svcb,
}

impl Record {
    /// What a rule answers that does not say `records`.
    pub const DEFAULT: &'static [Self] = &[Self::A, Self::Aaaa];

    /// The word of the policy file, which is DNS's own.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::A => "A",
            Self::Aaaa => "AAAA",
            Self::Mx => "MX",
            Self::Txt => "TXT",
            Self::Srv => "SRV",
            Self::Caa => "CAA",
            Self::Https => "HTTPS",
            Self::Svcb => "SVCB",
        }
    }

    /// Every type that a rule may list.
    pub const ALL: &'static [Self] = &[
        Self::A,
        Self::Aaaa,
        Self::Mx,
        Self::Txt,
        Self::Srv,
        Self::Caa,
        Self::Https,
        Self::Svcb,
    ];

    /// The type with this word, if a rule may list it.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL
            .iter()
            .copied()
            .find(|record| record.word() == word)
    }

    /// Whether the record holds an address, for which a grant is given.
    #[must_use]
    pub const fn is_address(self) -> bool {
        matches!(self, Self::A | Self::Aaaa)
    }
}
