//! What a rule names by address: public blocks, doors into special-purpose blocks, this host.
//!
//! The special-purpose ranges themselves are the kernel's, in `common::special`.

use std::net::IpAddr;

use common::{
    flow::Address,
    special::{self, METADATA},
};

use super::{
    super::{
        compiled::{Prefix, Target},
        error::Code,
        raw::Located,
    },
    Context,
};

impl Context<'_> {
    fn prefix(&mut self, cidr: &Located<String>) -> Option<Prefix> {
        match Prefix::parse(&cidr.value) {
            Ok(prefix) => Some(prefix),
            Err(error) => {
                self.findings
                    .hinted(Code::BadAddress, cidr.span, error.to_string(), error.hint());
                None
            }
        }
    }

    pub(super) fn public(&mut self, cidr: &Located<String>) -> Option<Target> {
        let prefix = self.prefix(cidr)?;
        let reachable =
            special::reachable_ranges().any(|range| Prefix::from(range).covers(&prefix));
        let refused =
            special::refused_ranges().find(|range| Prefix::from(*range).overlaps(&prefix));
        let Some(refused) = refused.filter(|_| !reachable) else {
            return Some(Target::Prefix(prefix));
        };
        let block = Prefix::from(refused);
        if block.covers(&prefix) {
            let message = format!("`{prefix}` lies in {block}: {}", refused.name);
            let hint = if local_block(&prefix) {
                "this host is reached by `[[local.allow]]`: tcp = \"127.0.0.1:5432\"".to_owned()
            } else {
                format!(
                    "if it is meant, use the door for it:\n[[egress.allow_private]]\ncidr = \"{prefix}\"\nprotocol, ports and reason"
                )
            };
            self.findings
                .hinted(Code::SpecialAddress, cidr.span, message, hint);
        } else {
            let message = format!("`{prefix}` holds {block}: {}", refused.name);
            let hint = "name smaller public blocks; special-purpose addresses are opened by `[[egress.allow_private]]` only";
            self.findings
                .hinted(Code::SpecialAddress, cidr.span, message, hint);
        }
        None
    }

    pub(super) fn private(&mut self, cidr: &Located<String>) -> Option<Target> {
        let prefix = self.prefix(cidr)?;
        if local_block(&prefix) {
            let message = format!("`{prefix}` is this host");
            let hint = "this host is reached by `[[local.allow]]`: tcp = \"127.0.0.1:5432\"";
            self.findings
                .hinted(Code::SpecialAddress, cidr.span, message, hint);
            return None;
        }
        if !special::refused_ranges().any(|range| Prefix::from(range).covers(&prefix)) {
            let message = format!("`{prefix}` lies in no single special-purpose block");
            let hint = "public blocks belong under `[[egress.allow]]`";
            self.findings
                .hinted(Code::SpecialAddress, cidr.span, message, hint);
            return None;
        }
        let metadata = METADATA.iter().find(|address| prefix.contains(**address));
        if let Some(metadata) = metadata.filter(|_| prefix.length < 128) {
            let message = format!("`{prefix}` holds the cloud metadata address {metadata}");
            let hint = format!(
                "metadata hands out credentials: name smaller blocks beside it, or \"{}\" itself",
                Prefix::host(*metadata)
            );
            self.findings
                .hinted(Code::SpecialAddress, cidr.span, message, hint);
            return None;
        }
        Some(Target::Prefix(prefix))
    }
}

/// Whether the block touches loopback or the unspecified address, which no `egress` rule opens.
fn local_block(prefix: &Prefix) -> bool {
    let loopback4 = Prefix::new(Address::from_v4([127, 0, 0, 0]), 104);
    let unspecified4 = Prefix::host(Address::from_v4([0, 0, 0, 0]));
    let [unspecified6, loopback6] =
        [0_u128, 1].map(|bits| Prefix::host(Address::from(IpAddr::from(bits.to_be_bytes()))));
    [loopback4, unspecified4, unspecified6, loopback6]
        .iter()
        .any(|block| block.overlaps(prefix))
}
