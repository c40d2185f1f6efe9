//! What can go wrong with names: on this host, in the configuration, and upstream.

use std::{io, net::SocketAddr, path::PathBuf};

use hickory_proto::{ProtoError, op::ResponseCode};
use hickory_resolver::net::NetError;

/// The resolver can not be started.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A port that every process may listen on.
    #[error("resolver port {0}: everybody may listen there\nhint: take one below 1024")]
    Port(u16),
    /// No port of loopback is free.
    #[error("resolver: no port below 1024 of 127.0.0.1 and ::1 is free for UDP and TCP")]
    NoPort,
    /// A socket can not be made.
    #[error("resolver socket {address}: {source}")]
    Socket {
        /// Where.
        address: SocketAddr,
        /// What the kernel said.
        source: io::Error,
    },
    /// The sockets that were handed over are not what is needed.
    #[error(
        "resolver sockets: {0}\nhint: UDP and TCP on 127.0.0.1 and [::1], all on one port below 1024"
    )]
    Adopted(String),
    /// The certificates of the trusted authorities can not be read.
    #[error("resolver roots `{path}`: {why}\nhint: install ca-certificates or name a PEM file", path = path.display())]
    Roots {
        /// The file.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// The transport upstream can not be made.
    #[error("resolver upstream: {0}")]
    Upstream(#[from] NetError),
    /// TLS upstream can not be made.
    #[error("resolver upstream: {0}")]
    Tls(#[from] rustls::Error),
}

/// An upstream server's answer is not usable.
#[derive(Debug, thiserror::Error)]
pub enum AnswerError {
    /// It says that it failed.
    #[error("the server says: {0}")]
    Code(ResponseCode),
    /// Aliases that lead back.
    #[error("the aliases lead in a circle")]
    Loop,
    /// A chain of aliases beyond the bound.
    #[error("more than {} aliases", super::answer::ALIASES_MAX)]
    TooManyAliases,
    /// More data than an answer may have.
    #[error("the answer is too large")]
    TooLarge,
    /// Data that does not belong to its type.
    #[error("a record's data does not belong to its type")]
    Data,
    /// Data that can not be written again.
    #[error(transparent)]
    Wire(#[from] ProtoError),
}

/// A question could not be answered upstream.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// No server is configured.
    #[error("no upstream server\nhint: the host's resolv.conf names none")]
    NoServer,
    /// The time is over.
    #[error("no answer in time")]
    TimedOut,
    /// The server is not who it should be.
    #[error("the server's certificate is not believed: {0}")]
    Certificate(rustls::Error),
    /// The transport failed.
    #[error(transparent)]
    Net(#[from] NetError),
    /// The answer is not usable.
    #[error(transparent)]
    Answer(#[from] AnswerError),
    /// The name has no wire form.
    #[error(transparent)]
    Name(#[from] ProtoError),
}
