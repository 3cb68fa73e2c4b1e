//! Where certificates and memories are kept, and where the edges that share them agree who orders: a trait, and files.

mod files;
mod lease;
mod presence;

use std::{fmt, io};

pub(super) use files::Files;

/// Keeps documents that several edges share. Calls may block.
pub(super) trait Store: fmt::Debug + Send + Sync + 'static {
    /// The document; none if it was never written.
    fn read(&self, document: Document) -> io::Result<Option<Vec<u8>>>;

    /// The document as it was before the last write; none if there is nothing to be had.
    fn read_previous(&self, document: Document) -> Option<Vec<u8>>;

    /// What changes whenever the document does; none if it cannot be told.
    fn stamp(&self, document: Document) -> Option<Stamp>;

    /// Replaces the document so that a crash at any moment leaves the old or the new one. With a fencing number only as long as the
    /// lease has it.
    fn write(&self, document: Document, text: &[u8], fence: Option<u64>) -> io::Result<()>;

    /// Puts a document that cannot be read out of the way, and says where it is now.
    fn set_aside(&self, document: Document, stamp: i64) -> io::Result<String>;

    /// Where a document is, for the log.
    fn name(&self, document: Document) -> String;

    /// Asks for the lease, or to keep it. It is lost by not asking for a while.
    fn claim(&self) -> io::Result<Claim>;

    /// Tells the edge that orders that this one is there, and up to which version it gives the answers to challenges.
    fn attend(&self, seen: &str);

    /// The versions of the answers that the other edges give.
    fn others(&self) -> Vec<String>;
}

/// What is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Document {
    /// Accounts and certificates, in Traefik's form.
    Certificates,
    /// Attempts, open orders, what was used up of the authorities' limits.
    Memory,
    /// What every edge answers challenges with.
    Answers,
}

/// A version of a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    file: u64,
    length: u64,
    modified: (i64, i64),
}

/// Who orders.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Claim {
    /// This edge, with this fencing number.
    Ours(u64),
    /// The edge of this name.
    Theirs(String),
}
