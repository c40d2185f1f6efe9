//! The control socket: how the command line talks to the agent. One request a connection, frames of
//! one JSON object a line, descriptors beside the frame that needs them.

pub mod attach;
pub mod channel;
pub mod policies;
pub mod protocol;
pub mod server;
pub mod token;
