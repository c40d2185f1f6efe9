//! Integration tests: the product as a black box, in a lab, seen from the receiving side.

#[cfg(test)]
mod ahead;
#[cfg(test)]
mod attach;
#[cfg(test)]
mod broker;
#[cfg(test)]
mod bypass;
#[cfg(test)]
mod calling;
#[cfg(test)]
mod cli;
#[cfg(test)]
mod control;
#[cfg(test)]
mod counts;
#[cfg(test)]
mod decide;
#[cfg(test)]
mod enforced;
#[cfg(test)]
mod fence;
#[cfg(test)]
mod full;
#[cfg(test)]
mod hooks;
#[cfg(test)]
mod inherited;
#[cfg(test)]
mod kill;
#[cfg(test)]
mod limits;
mod local;
#[cfg(test)]
mod local_ways;
mod many;
#[cfg(test)]
mod metrics;
#[cfg(test)]
mod misdeeds;
#[cfg(test)]
mod names;
#[cfg(test)]
mod output;
#[cfg(test)]
mod packets;
#[cfg(test)]
mod parallel;
#[cfg(test)]
mod pins;
#[cfg(test)]
mod policies;
#[cfg(test)]
mod probe;
#[cfg(test)]
mod profiles;
#[cfg(test)]
mod prometheus;
#[cfg(test)]
mod reload;
#[cfg(test)]
mod rows;
#[cfg(test)]
mod selftest;
#[cfg(test)]
mod service;
#[cfg(test)]
mod storm;
#[cfg(test)]
mod suite;
#[cfg(test)]
mod swap;
mod tokens;
