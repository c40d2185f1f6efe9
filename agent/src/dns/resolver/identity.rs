//! Who asks: the worker that has the source of a query at this moment, and its session.

use std::sync::Arc;

use common::id::SessionId;

use super::{Resolver, Source, Waiter};
use crate::{
    clock::BootTime,
    dns::{asker::Asker, session::Session},
};

/// The worker that has a source; none, where nobody is answered.
#[derive(Debug)]
pub(in crate::dns) struct Identity(pub(super) Option<(Asker, Arc<Session>)>);

impl Waiter {
    /// Who waits.
    pub(in crate::dns) fn session(&self) -> SessionId {
        self.case.asker.session
    }
}

impl Resolver {
    /// The session behind a connection, for its bound on connections.
    pub(in crate::dns) fn session_of(&self, source: Source) -> Option<Arc<Session>> {
        self.identify(source).0.map(|(_, session)| session)
    }

    /// Whether this session has the source now.
    pub(in crate::dns) fn is_still(&self, source: Source, session: SessionId) -> bool {
        let asker = self.asker(source);
        asker.is_some_and(|asker| asker.session == session)
    }

    /// Who has this source now.
    pub(in crate::dns) fn identify(&self, source: Source) -> Identity {
        Identity(self.asker(source).and_then(|asker| {
            let session = self.sessions.get(asker.session, BootTime::now().0)?;
            Some((asker, session))
        }))
    }

    fn asker(&self, source: Source) -> Option<Asker> {
        let askers = &self.askers;
        match source.netns {
            None => askers.find(source.address, source.protocol),
            Some(netns) => askers.find_in(netns, source.address, source.protocol),
        }
    }
}
