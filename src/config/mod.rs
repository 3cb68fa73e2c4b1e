//! Plain configuration data and its parsing; imports nothing of ours.
//!
//! Two kinds: [`Install`] is fixed at start, [`Routing`] is what providers produce and may change at any time. Every value keeps the
//! [`Place`] where it was written, and everything found wrong is a [`Diagnostic`].

mod check;
pub mod constraints;
mod decode;
pub mod definitions;
mod diagnostic;
pub mod dns;
mod env;
mod file;
mod flags;
pub mod install;
pub mod labels;
mod load;
mod removed;
mod resolvers;
pub mod routing;
mod shape;
pub mod template;
pub mod tree;
pub mod units;

pub use self::diagnostic::{About, Diagnostic, Labelled, Place, Places, Severity};
pub use self::file::{parse_routing_file, parse_routing_text, render_routing_file};
pub use self::install::Install;
pub use self::load::{Loaded, Root, Sources, load_install, read_install};
pub use self::routing::{DecodedRouting, Kind, Routing, decode_routing};
pub use self::shape::{Opaque, Placed};
pub use self::tree::{Format, MAX_FILE_BYTES, read_text};
