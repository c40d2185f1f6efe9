//! What is kept has bounds, and what is beyond them is said.

use common::{flow::TCP, verdict::Reason};

use super::{
    super::{Learned, SESSIONS_PER_TOOL_MAX, THINGS_PER_SESSION_MAX},
    TOOL, ask, at, compiled, dial, event, ip, proposed,
};

#[test]
fn ports_without_end_are_not_opened() {
    let learned = Learned::default();
    ask(&learned, "api.example", "A", &["198.51.100.7"], 1);
    for port in (1_000..1_100).step_by(2) {
        dial(&learned, "198.51.100.7", port, 2);
    }
    let proposal = proposed(&learned);
    assert!(
        proposal.toml.contains("42 are left out"),
        "{}",
        proposal.toml
    );
    compiled(&proposal);
}

#[test]
fn the_record_is_bounded_and_says_what_is_missing() {
    let learned = Learned::default();
    for number in 0..=u16::MAX {
        let [high, low] = number.to_be_bytes();
        dial(&learned, &format!("198.18.{high}.{low}"), 443, 1);
    }
    let mut late = event(Reason::NotAllowed, TCP, "8.8.8.8", 443);
    late.suppressed = 5;
    learned.flow(&late, at(2));
    learned.suppressed(TOOL, 7, 3);
    let proposal = proposed(&learned);
    let beyond = u64::from(u16::MAX) + 2 - THINGS_PER_SESSION_MAX as u64;
    assert_eq!(proposal.missing, beyond + 5 + 3);
    assert!(
        proposal
            .toml
            .contains(&format!("# Missing: {} events", proposal.missing))
    );
}

#[test]
fn sessions_and_times_are_told_apart() {
    let learned = Learned::default();
    let sessions = SESSIONS_PER_TOOL_MAX as u64 + 4;
    for session in 1..=sessions {
        let mut event = event(Reason::NotAllowed, TCP, "8.8.8.8", 443);
        event.session = Some(session);
        event.address = ip(&format!("8.8.8.{session}"));
        learned.flow(&event, at(session));
    }
    let flows = |session, since| {
        let record = learned.record(TOOL, session, since);
        record.map(|record| (record.flows.len() as u64, record.sessions))
    };
    assert_eq!(flows(None, None), Some((sessions, sessions)));
    assert_eq!(flows(Some(sessions), None), Some((1, 1)));
    assert_eq!(flows(Some(1), None), None, "united with the earlier ones");
    assert_eq!(flows(None, Some(at(sessions))), Some((1, sessions)));
    assert!(learned.record("other", None, None).is_none());
}
