//! Port ranges.

use super::*;
use crate::flow::{TCP, UDP};

fn range(rule: u64, protocol: u8, low: u16, high: u16) -> PortRange {
    PortRange {
        rule: RuleId(rule),
        low,
        high,
        protocol,
        flags: 0,
        pad: 0,
    }
}

#[test]
fn borders_and_order() {
    let mut set = RuleSet::EMPTY;
    set.ranges[0] = range(1, 6, 443, 443);
    set.ranges[1] = range(2, 6, 400, 500);
    set.ranges[2] = range(3, 17, 0, 65_535);
    set.count = 3;
    let rule = |protocol, port| set.find(protocol, port).map(|found| found.rule.0);
    assert_eq!(rule(TCP, 399), None);
    assert_eq!(rule(TCP, 400), Some(2));
    assert_eq!(rule(TCP, 443), Some(1), "the first that covers");
    assert_eq!(rule(TCP, 500), Some(2));
    assert_eq!(rule(TCP, 501), None);
    assert_eq!(rule(UDP, 0), Some(3));
    assert_eq!(rule(UDP, 65_535), Some(3));
    assert_eq!(rule(1, 443), None);
}

#[test]
fn ranges_beyond_the_count_do_not_exist() {
    let mut set = RuleSet::EMPTY;
    set.ranges = [range(1, 6, 443, 443); PORT_RANGES_MAX];
    assert_eq!(set.find(TCP, 443), None);
    set.count = 1;
    assert!(set.find(TCP, 443).is_some());
    set.ranges = [PortRange::default(); PORT_RANGES_MAX];
    set.ranges[PORT_RANGES_MAX - 1] = range(9, 6, 443, 443);
    set.count = u32::try_from(PORT_RANGES_MAX).unwrap();
    assert_eq!(set.find(TCP, 443).map(|found| found.rule.0), Some(9));
    set.count = u32::MAX;
    assert_eq!(set.find(TCP, 444), None);
}
