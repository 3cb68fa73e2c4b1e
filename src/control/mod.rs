//! The configuration river: collect updates, merge, compile, swap, report.

pub mod merge;
