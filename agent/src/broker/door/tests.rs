//! The doors, seen from outside.
