//! Plain configuration data and its parsing; imports nothing of ours.
//!
//! Two kinds: [`Install`] is fixed at start, [`Routing`] is what providers produce and may change at any time. Every value keeps the
//! [`Place`] where it was written, and everything found wrong is a [`Diagnostic`].

mod decode;
mod diagnostic;
pub mod install;
pub mod routing;
mod shape;
mod tree;
pub mod units;

pub use self::diagnostic::{Diagnostic, Place, Places, Severity};
pub use self::install::Install;
pub use self::routing::Routing;
pub use self::shape::{Opaque, Placed};
