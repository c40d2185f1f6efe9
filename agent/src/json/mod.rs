//! Strict JSON: what a parser must refuse before anything is signed, hashed or compared, and the one
//! canonical form (RFC 8785). Pure: no I/O, no knowledge of what the values mean.
