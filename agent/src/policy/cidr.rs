//! Blocks of addresses in their one canonical form, and what they cover.

use std::{fmt, net::IpAddr};

use common::flow::Address;

use super::compiled::Prefix;

/// Bits before the IPv4 part of a canonical address.
const V4_OFFSET: u8 = 96;
/// All IPv4 addresses in canonical form.
const ALL_V4: Prefix = Prefix {
    network: Address::from_v4([0, 0, 0, 0]),
    length: V4_OFFSET,
};

/// The text is no block of addresses.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum CidrError {
    /// Neither an address nor an address and a length.
    #[error("`{0}` is no block of addresses")]
    Malformed(String),
    /// The length is no number or too large for the family.
    #[error("`{text}`: a prefix length is 0 to {max}")]
    Length {
        /// The text.
        text: String,
        /// Largest length of the family.
        max: u8,
    },
    /// Bits beyond the length are set.
    #[error("`{text}` has bits set beyond its prefix length")]
    HostBits {
        /// The text.
        text: String,
        /// The block that was probably meant.
        network: Prefix,
    },
    /// An IPv4 block in IPv6's clothes.
    #[error("`{text}` holds IPv4 addresses in IPv6 form")]
    Mapped {
        /// The text.
        text: String,
        /// How to write it, where that is a block.
        plain: Option<Prefix>,
    },
}

impl CidrError {
    /// What to do.
    #[must_use]
    pub fn hint(&self) -> String {
        match self {
            Self::Malformed(text) if text.parse::<IpAddr>().is_err() => {
                "write it like \"185.199.108.0/22\" or \"2a01:4f8::/32\"; names belong under `domain`"
                    .to_owned()
            }
            Self::Malformed(text) => {
                let length = if text.contains(':') { 128 } else { 32 };
                format!("one address is written \"{text}/{length}\"")
            }
            Self::Length { max, .. } => {
                format!("\"/{max}\" is one address of this family")
            }
            Self::HostBits { network, .. } => format!("the block is written \"{network}\""),
            Self::Mapped {
                plain: Some(plain), ..
            } => format!("write it as IPv4: \"{plain}\""),
            Self::Mapped { plain: None, .. } => {
                "write IPv4 and IPv6 blocks in rules of their own".to_owned()
            }
        }
    }
}

impl Prefix {
    /// Reads `192.0.2.0/24` or `2001:db8::/32`.
    pub fn parse(text: &str) -> Result<Self, CidrError> {
        let malformed = || CidrError::Malformed(text.to_owned());
        let (address, length) = text.split_once('/').ok_or_else(malformed)?;
        let ip: IpAddr = address.parse().map_err(|_not_an_address| malformed())?;
        let (offset, max) = match ip {
            IpAddr::V4(_) => (V4_OFFSET, 32),
            IpAddr::V6(_) => (0, 128),
        };
        let digits = !length.is_empty() && length.bytes().all(|b| b.is_ascii_digit());
        let length = length.parse::<u8>().ok().filter(|n| digits && *n <= max);
        let length = length.ok_or_else(|| CidrError::Length {
            text: text.to_owned(),
            max,
        })?;
        let length = length.saturating_add(offset);
        let network = Self::new(Address::from(ip), length);
        if network.network != Address::from(ip) {
            return Err(CidrError::HostBits {
                text: text.to_owned(),
                network,
            });
        }
        if ip.is_ipv6() && network.overlaps(&ALL_V4) {
            return Err(CidrError::Mapped {
                text: text.to_owned(),
                plain: ALL_V4.covers(&network).then_some(network),
            });
        }
        Ok(network)
    }

    /// The block of this length that holds an address. Lengths beyond 128 count as 128.
    #[must_use]
    pub fn new(address: Address, length: u8) -> Self {
        let length = length.min(128);
        let bits = u128::from_be_bytes(address.0) & mask(length);
        Self {
            network: Address(bits.to_be_bytes()),
            length,
        }
    }

    /// One address.
    #[must_use]
    pub fn host(address: Address) -> Self {
        Self::new(address, 128)
    }

    /// Whether the block holds an address.
    #[must_use]
    pub fn contains(&self, address: Address) -> bool {
        (u128::from_be_bytes(address.0) ^ u128::from_be_bytes(self.network.0)) & mask(self.length)
            == 0
    }

    /// Whether the block holds all of another one.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        self.length <= other.length && self.contains(other.network)
    }

    /// Whether the two have an address in common. Blocks nest or are apart.
    #[must_use]
    pub fn overlaps(&self, other: &Self) -> bool {
        self.covers(other) || other.covers(self)
    }
}

impl From<&common::special::Range> for Prefix {
    fn from(range: &common::special::Range) -> Self {
        Self::new(range.network, range.length)
    }
}

const fn mask(length: u8) -> u128 {
    match u128::MAX.checked_shl(128_u32.saturating_sub(length as u32)) {
        Some(mask) => mask,
        None => 0,
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let v4 = self.length >= V4_OFFSET && self.network.v4().is_some();
        let length = if v4 {
            self.length.saturating_sub(V4_OFFSET)
        } else {
            self.length
        };
        write!(f, "{}/{length}", self.network)
    }
}
