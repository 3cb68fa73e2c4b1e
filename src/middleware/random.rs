//! Random bytes nobody can guess.

use std::sync::LazyLock;

use rustls::crypto::{SecureRandom, aws_lc_rs};

/// Fills `bytes`; false if the system has no randomness to give.
pub(super) fn fill(bytes: &mut [u8]) -> bool {
    SOURCE.fill(bytes).is_ok()
}

static SOURCE: LazyLock<&'static dyn SecureRandom> =
    LazyLock::new(|| aws_lc_rs::default_provider().secure_random);
