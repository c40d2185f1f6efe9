//! Panics of a future that others must not end with.

use std::{
    future::poll_fn,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::pin,
    task::Poll,
};

/// What a future ends with; nothing where it panicked. For calls: what they share is true at each step,
/// whoever panics.
pub(super) async fn caught<T>(future: impl Future<Output = T>) -> Option<T> {
    let mut future = pin!(future);
    poll_fn(|context| {
        let polled = catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(context)));
        polled.map_or(Poll::Ready(None), |polled| polled.map(Some))
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::caught;

    #[tokio::test]
    async fn a_panic_is_told_whenever_it_comes() {
        assert_eq!(caught(async { 7 }).await, Some(7));
        let at_once = async { assert!(std::hint::black_box(false), "at once") };
        assert_eq!(caught(at_once).await, None);
        let later = async {
            tokio::task::yield_now().await;
            assert!(std::hint::black_box(false), "later");
        };
        assert_eq!(caught(later).await, None);
    }
}
