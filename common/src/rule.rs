//! What a policy's rules look like to a decision: for each address or prefix, the port ranges that
//! are open there and the rule that opened each.

use crate::{
    id::RuleId,
    limits::{GRANTS_PER_ADDRESS_MAX, PORT_RANGES_MAX},
};

/// The rule is a door into special-purpose ranges (`egress.allow_private`, `local.allow`).
pub const DOOR: u8 = 1;
/// The rule is a domain rule that demands a TLS handshake for a name ([`crate::name`]).
pub const TLS: u8 = 2;
/// The rule is a domain rule that lets a handshake hide its name (encrypted client hello).
pub const ECH: u8 = 4;
/// The rule opens loopback among the session's own processes: the other end has to be one of them.
pub const OWN: u8 = 8;

/// Ports that one rule opens for one protocol.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(C)]
pub struct PortRange {
    /// The rule that opened it.
    pub rule: RuleId,
    /// First port, host order.
    pub low: u16,
    /// Last port, host order.
    pub high: u16,
    /// IP protocol number: TCP or UDP.
    pub protocol: u8,
    /// [`DOOR`], [`TLS`], [`ECH`], [`OWN`] or 0.
    pub flags: u8,
    /// Zero.
    pub pad: u16,
}

/// One rule's claim on an address that DNS returned for a name of the rule.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(C)]
pub struct Grant {
    /// What the rule opens. A rule with several port ranges makes several grants.
    pub range: PortRange,
    /// End, nanoseconds of `CLOCK_BOOTTIME`.
    pub expires_ns: u64,
}

/// All grants of one session for one address. A grant counts while it has not expired and its rule
/// is part of the generation in force.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(C)]
pub struct GrantSet {
    /// Grants in use.
    pub count: u32,
    /// Zero.
    pub pad: u32,
    /// The grants; those beyond `count` are zero.
    pub grants: [Grant; GRANTS_PER_ADDRESS_MAX],
}

/// All that is open at one address or prefix, covering prefixes united.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(C)]
pub struct RuleSet {
    /// Ranges in use.
    pub count: u32,
    /// Zero.
    pub pad: u32,
    /// The ranges; those beyond `count` are zero.
    pub ranges: [PortRange; PORT_RANGES_MAX],
}

/// A rule that covers a protocol and a port.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Match {
    /// Which rule.
    pub rule: RuleId,
    /// [`DOOR`], [`TLS`], [`ECH`], [`OWN`] or 0.
    pub flags: u8,
}

impl RuleSet {
    /// A set that opens nothing.
    pub const EMPTY: Self = Self {
        count: 0,
        pad: 0,
        ranges: [PortRange {
            rule: RuleId(0),
            low: 0,
            high: 0,
            protocol: 0,
            flags: 0,
            pad: 0,
        }; PORT_RANGES_MAX],
    };

    /// The first range that covers this protocol and port.
    #[inline(always)]
    #[must_use]
    pub fn find(&self, protocol: u16, port: u16) -> Option<Match> {
        let mut left = self.count;
        for range in &self.ranges {
            if left == 0 {
                return None;
            }
            left -= 1;
            if u16::from(range.protocol) == protocol && range.low <= port && port <= range.high {
                return Some(Match {
                    rule: range.rule,
                    flags: range.flags,
                });
            }
        }
        None
    }
}

impl Default for RuleSet {
    fn default() -> Self {
        Self::EMPTY
    }
}

#[cfg(test)]
mod tests;
