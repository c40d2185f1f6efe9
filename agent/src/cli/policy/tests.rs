//! The verbs as a shell would call them.
