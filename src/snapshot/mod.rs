//! The immutable plan: everything compiled, swapped whole.
