//! System calls as they are, with any numbers and any bytes: the only unsafe code of the tests. A
//! probe that could only make well-formed calls would prove little.

pub mod ring;
pub mod socket;

/// The bytes of a `sockaddr`.
#[derive(Clone, Debug)]
pub struct RawAddress(pub Vec<u8>);
