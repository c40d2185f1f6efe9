//! Records of the kernel's rings. The kernel is trusted, but a ring may be of another version's pins.

use common::{
    event::{DestroyOrder, Event, Hook},
    pod::Pod,
    verdict::{Outcome, Reason},
};

use crate::mutator::fuzz;

#[test]
fn events_of_any_bytes_are_read_whole_or_not_at_all() {
    let event = Event {
        port: 443,
        outcome: 1,
        reason: 1,
        hook: 2,
        ..Event::default()
    };
    fuzz(
        "event",
        &[event.bytes(), &[0xff; size_of::<Event>()]],
        |bytes| {
            let read = Event::read(bytes);
            assert_eq!(read.is_some(), bytes.len() >= size_of::<Event>());
            let Some(event) = read else { return };
            assert_eq!(Some(event.bytes()), bytes.get(..size_of::<Event>()));
            if let Some(hook) = Hook::from_number(event.hook) {
                assert_eq!(hook as u8, event.hook);
            }
            if let Some(outcome) = Outcome::from_number(event.outcome) {
                assert_eq!(outcome as u8, event.outcome);
            }
            if let Some(reason) = Reason::from_number(event.reason) {
                assert_eq!(reason as u8, event.reason);
            }
        },
    );
}

#[test]
fn orders_of_any_bytes_are_read_whole_or_not_at_all() {
    let order = DestroyOrder {
        cookie: 7,
        remote_port: 443,
        ..DestroyOrder::default()
    };
    fuzz("destroy order", &[order.bytes()], |bytes| {
        let read = DestroyOrder::read(bytes);
        assert_eq!(read.is_some(), bytes.len() >= size_of::<DestroyOrder>());
        if let Some(order) = read {
            assert_eq!(Some(order.bytes()), bytes.get(..size_of::<DestroyOrder>()));
        }
    });
}
