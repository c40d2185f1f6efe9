//! Names: what a tool reaches by them, and every way around them that is known.

mod agree;
mod answers;
mod channel;
mod clients;
mod failures;
mod flood;
mod full;
mod grants;
pub(crate) mod scene;
mod shared;
mod suggest;
mod tls;
mod upstream;
