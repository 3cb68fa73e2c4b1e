//! Certificates, options, SNI selection.
