//! One file per middleware: configuration to behaviour.
