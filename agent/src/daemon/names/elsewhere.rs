//! The resolver in other network namespaces: where processes of attached cgroups live.

use std::os::fd::OwnedFd;

use crate::{
    daemon::{Engine, error::StartError},
    dns::{self, Retired, Server, Sockets},
};

impl Engine {
    /// Answers on sockets of another network namespace, then lets workers there turn to them.
    pub(in crate::daemon) fn answer_in(
        &self,
        netns: u64,
        sockets: Vec<OwnedFd>,
    ) -> Result<(), StartError> {
        let sockets = Sockets::adopt(sockets)?;
        let mut server = self.names.server();
        let Some(server) = server.as_mut() else {
            let lacks = "the resolver does not answer".to_owned();
            return Err(dns::Error::Adopted(lacks).into());
        };
        server.add(netns, sockets)?;
        if let Err(error) = self.kernel.set_resolver_in(netns) {
            drop(server.remove(netns));
            return Err(error.into());
        }
        Ok(())
    }

    /// Sends nobody there any more, then gives its sockets back.
    pub(in crate::daemon) async fn silence_in(&self, netns: u64) {
        if let Err(error) = self.kernel.clear_resolver_in(netns) {
            tracing::error!(%error, "a network namespace keeps its resolver's port");
        }
        let retired = self.retire(netns);
        if let Some(retired) = retired {
            retired.close().await;
        }
    }

    fn retire(&self, netns: u64) -> Option<Retired> {
        let mut server = self.names.server();
        server
            .as_mut()
            .and_then(|server: &mut Server| server.remove(netns))
    }
}
