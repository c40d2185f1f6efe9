//! Names that share an address: which of them a flow was for.

use common::{flow::TCP, verdict::Reason};
use expect_test::expect;

use super::{
    super::{Learned, Query},
    TOOL, ask, at, check, dial, event, ip, used,
};

const SHARED: &str = "198.51.100.7";

#[test]
fn the_order_of_asking_tells_where_it_can() {
    let learned = Learned::default();
    ask(&learned, "first.example", "A", &[SHARED], 1);
    dial(&learned, SHARED, 443, 2);
    // Asked for when the flow was over.
    ask(&learned, "second.example", "A", &[SHARED], 3);
    check(
        &learned,
        &expect![[r#"
            # tcp 443: 1 flow, 1970-01-01T00:00:02.000000Z
            # asked (A): 1 query, 1970-01-01T00:00:01.000000Z
            [[egress.allow]]
            domain = "first.example"
            ports = [443]

            # Not opened by the lines above:
            # * `second.example` (A): 1 query, 1970-01-01T00:00:03.000000Z, and no flow led to it: a rule needs a port
        "#]],
    );
}

#[test]
fn what_can_not_be_told_is_said() {
    let learned = Learned::default();
    for name in ["one.example", "two.example"] {
        ask(&learned, name, "A", &[SHARED], 1);
    }
    dial(&learned, SHARED, 443, 2);
    check(
        &learned,
        &expect![[r#"
            # tcp 443: 1 flow, 1970-01-01T00:00:02.000000Z
            # asked (A): 1 query, 1970-01-01T00:00:01.000000Z
            # shared address: these flows may have been for two.example as well, or instead
            [[egress.allow]]
            domain = "one.example"
            ports = [443]

            # tcp 443: 1 flow, 1970-01-01T00:00:02.000000Z
            # asked (A): 1 query, 1970-01-01T00:00:01.000000Z
            # shared address: these flows may have been for one.example as well, or instead
            [[egress.allow]]
            domain = "two.example"
            ports = [443]
        "#]],
    );
}

#[test]
fn a_name_that_the_handshake_showed_is_the_one() {
    let learned = Learned::default();
    for name in ["one.example", "two.example"] {
        ask(&learned, name, "A", &[SHARED], 1);
    }
    let mut flow = event(Reason::TlsName, TCP, SHARED, 443);
    flow.name = Some("two.example".to_owned());
    learned.flow(&flow, at(2));
    check(
        &learned,
        &expect![[r#"
            # tcp 443: 1 flow, 1970-01-01T00:00:02.000000Z
            # asked (A): 1 query, 1970-01-01T00:00:01.000000Z
            [[egress.allow]]
            domain = "two.example"
            ports = [443]

            # Not opened by the lines above:
            # * `one.example` (A): 1 query, 1970-01-01T00:00:01.000000Z, and no flow led to it: a rule needs a port
        "#]],
    );
}

#[test]
fn a_handshake_is_owed_to_names_that_have_a_rule() {
    let learned = Learned::default();
    ask(&learned, "lacking.example", "A", &[SHARED], 1);
    let covered = Query {
        name: "covered.example",
        record: "A",
        lacking: false,
        addresses: &[ip(SHARED)],
    };
    learned.query(TOOL, 7, covered, at(1));
    learned.flow(&event(Reason::TlsNoName, TCP, SHARED, 443), at(2));
    check(
        &learned,
        &expect![[r#"
            # tcp 443: 1 flow, 1970-01-01T00:00:02.000000Z
            # asked (A): 1 query, 1970-01-01T00:00:01.000000Z
            [[egress.allow]]
            domain = "covered.example"
            ports = [443]
            tls = "off"

            # Not opened by the lines above:
            # * `lacking.example` (A): 1 query, 1970-01-01T00:00:01.000000Z, and no flow led to it: a rule needs a port
        "#]],
    );
}

#[test]
fn siblings_of_one_wildcard_need_no_word() {
    let learned = Learned::default();
    for name in ["a.cdn.example", "b.cdn.example", "c.cdn.example"] {
        ask(&learned, name, "A", &[SHARED], 1);
    }
    used(&learned, "other.example", SHARED, 443);
    check(
        &learned,
        &expect![[r#"
            # tcp 443: 3 flows, 1970-01-01T00:00:02.000000Z to 1970-01-01T00:00:02.000000Z
            # asked (A): 3 queries, 1970-01-01T00:00:01.000000Z to 1970-01-01T00:00:01.000000Z
            # below it: a.cdn.example, b.cdn.example, c.cdn.example
            # shared address: these flows may have been for other.example as well, or instead
            [[egress.allow]]
            domain = "*.cdn.example"
            ports = [443]

            # tcp 443: 1 flow, 1970-01-01T00:00:02.000000Z
            # asked (A): 1 query, 1970-01-01T00:00:01.000000Z
            # shared address: these flows may have been for a.cdn.example, b.cdn.example, c.cdn.example as well, or instead
            [[egress.allow]]
            domain = "other.example"
            ports = [443]
        "#]],
    );
}
