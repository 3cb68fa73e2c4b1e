//! Drain trigger and named tasks.
