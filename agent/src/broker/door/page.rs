//! The body of an HTTP answer: a whole one, or the events of a call that runs (Server-Sent Events).

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
};

use http_body_util::Full;
use hyper::body::{Body, Bytes, Frame, SizeHint};
use serde_json::Value;
use tokio::sync::mpsc;

/// A body.
#[derive(Debug)]
pub(super) enum Page {
    /// All of it.
    Whole(Full<Bytes>),
    /// Events as they come. Dropped when the caller goes away, which whoever sends them sees.
    Events(mpsc::Receiver<Bytes>),
}

impl Page {
    /// No byte.
    pub(super) fn empty() -> Self {
        Self::Whole(Full::default())
    }

    /// A text that never changes.
    pub(super) fn text(text: &'static str) -> Self {
        Self::Whole(Full::from(text))
    }

    /// A JSON text.
    pub(super) fn json(value: &Value) -> Self {
        Self::Whole(Full::from(value.to_string()))
    }
}

/// One event that is a JSON-RPC message. JSON has no line break outside of its strings, and none
/// unescaped in them.
pub(super) fn event(message: &Value) -> Bytes {
    Bytes::from(format!("event: message\ndata: {message}\n\n"))
}

impl Body for Page {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match self.get_mut() {
            Self::Whole(whole) => Pin::new(whole).poll_frame(context),
            Self::Events(events) => events
                .poll_recv(context)
                .map(|event| event.map(|event| Ok(Frame::data(event)))),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(whole) => whole.is_end_stream(),
            Self::Events(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(whole) => whole.size_hint(),
            Self::Events(_) => SizeHint::default(),
        }
    }
}
