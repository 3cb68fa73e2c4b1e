//! The configuration river: collect updates, merge, compile, swap, report.
