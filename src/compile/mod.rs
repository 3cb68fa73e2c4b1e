//! Pure: install and routing configuration and the previous snapshot in, a new snapshot and diagnostics out.

pub mod definitions;
