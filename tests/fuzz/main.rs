//! Fuzz smoke: every parser that meets foreign bytes, fed with mutated good input, a bounded number
//! of times. Nothing may panic, take long, or come out different after a round trip.
//!
//! The seed is printed; `STOCKADE_FUZZ_SEED=N` repeats a run, `STOCKADE_LONG=1` makes it long.

mod audit;
mod config;
mod control;
mod dns;
mod event;
mod frame;
mod hello;
mod json;
mod launcher;
mod mutator;
mod policy;
mod schema;
mod token;
mod worker;
