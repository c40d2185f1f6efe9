//! What a policy's rules look like to a decision: for each address or prefix, the port ranges that
//! are open there and the rule that opened each.

use crate::{id::RuleId, limits::PORT_RANGES_MAX};

/// The rule is a door into special-purpose ranges (`egress.allow_private`, `local.allow`).
pub const DOOR: u8 = 1;

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
    /// [`DOOR`] or 0.
    pub flags: u8,
    /// Zero.
    pub pad: u16,
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
    /// [`DOOR`] or 0.
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
