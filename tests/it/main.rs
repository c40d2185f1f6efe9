//! Integration tests: the product as a black box, in a lab, seen from the receiving side.

#[cfg(test)]
mod control;
#[cfg(test)]
mod hooks;
#[cfg(test)]
mod rows;
