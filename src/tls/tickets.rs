//! Keys of session tickets: one set for every worker, entry point and configuration, so that sessions survive a reload.
//!
//! A resumed session skips client authentication, so tickets are only shared among options that demand the same of a client.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use rustls::crypto::aws_lc_rs::Ticketer;
use rustls::server::ProducesTickets;

/// Ticket keys by what the sessions they encrypt were verified against.
#[derive(Clone, Default)]
pub(super) struct Tickets {
    by_policy: HashMap<[u8; 32], Keys>,
}

impl Tickets {
    /// Keys for `policy`: those of `previous` if it had any, so that its sessions can be resumed.
    pub(super) fn keys(
        &mut self,
        policy: [u8; 32],
        previous: Option<&Self>,
    ) -> Result<Keys, rustls::Error> {
        let known = self.by_policy.get(&policy);
        if let Some(keys) = known.or_else(|| previous?.by_policy.get(&policy)) {
            let keys = Arc::clone(keys);
            self.by_policy.insert(policy, Arc::clone(&keys));
            return Ok(keys);
        }
        let keys = Ticketer::new()?;
        self.by_policy.insert(policy, Arc::clone(&keys));
        Ok(keys)
    }
}

type Keys = Arc<dyn ProducesTickets>;

impl fmt::Debug for Tickets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tickets({} policies)", self.by_policy.len())
    }
}
