//! Passwords that were right a moment ago, and those being checked now.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use sha2::{Digest, Sha256};
use tokio::sync::{OnceCell, Semaphore};

use super::hash::Hash;
use crate::middleware::random;

/// Remembers right passwords by a keyed digest: neither the passwords nor anything to find them with.
pub(super) struct Verified {
    /// `None` if the system had no randomness: then nothing is remembered.
    key: Option<[u8; 32]>,
    shards: [Mutex<Shard>; SHARDS],
}

/// Digest of a user, a password and a hash.
pub(super) type Proof = [u8; 32];

#[derive(Default)]
struct Shard {
    right_until: HashMap<Proof, Instant>,
    checks: HashMap<Proof, Check>,
}

/// The outcome of a check, shared by all who ask for the same at once.
type Check = Arc<OnceCell<bool>>;

impl Verified {
    pub(super) fn proof(&self, user: &str, password: &[u8], hash: &Hash) -> Proof {
        let mut digest = Sha256::new();
        digest.update(self.key.unwrap_or_default());
        for part in [user.as_bytes(), password, hash.identity()] {
            digest.update((part.len() as u64).to_le_bytes());
            digest.update(part);
        }
        digest.finalize().into()
    }

    /// Whether this was found right lately.
    pub(super) fn contains(&self, proof: &Proof) -> bool {
        let shard = self.shard(proof);
        shard
            .right_until
            .get(proof)
            .is_some_and(|until| Instant::now() < *until)
    }

    /// Computes the hash, or waits for whoever is computing it.
    pub(super) async fn check(
        self: Arc<Self>,
        proof: Proof,
        hash: Arc<Hash>,
        password: Vec<u8>,
    ) -> bool {
        let running = Running::join(&self, proof);
        let right = *running.check.get_or_init(|| compute(hash, password)).await;
        if right {
            self.remember(proof);
        }
        right
    }

    fn remember(&self, proof: Proof) {
        if self.key.is_none() {
            return;
        }
        let now = Instant::now();
        let mut shard = self.shard(&proof);
        if shard.right_until.len() >= PER_SHARD {
            shard.right_until.retain(|_, until| now < *until);
        }
        if shard.right_until.len() >= PER_SHARD
            && let Some(any) = shard.right_until.keys().next().copied()
        {
            shard.right_until.remove(&any);
        }
        shard.right_until.insert(proof, now + LIFETIME);
    }

    fn shard(&self, proof: &Proof) -> MutexGuard<'_, Shard> {
        self.shards[usize::from(proof[0]) % SHARDS]
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for Verified {
    fn default() -> Self {
        let mut key = [0; 32];
        Self {
            key: random::fill(&mut key).then_some(key),
            shards: Default::default(),
        }
    }
}

impl fmt::Debug for Verified {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Verified")
    }
}

/// One's part in a check; the last to leave takes it off the list, also when its client went away.
struct Running<'a> {
    verified: &'a Verified,
    proof: Proof,
    check: Check,
}

impl<'a> Running<'a> {
    fn join(verified: &'a Verified, proof: Proof) -> Self {
        let check = Arc::clone(verified.shard(&proof).checks.entry(proof).or_default());
        Self {
            verified,
            proof,
            check,
        }
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        let mut shard = self.verified.shard(&self.proof);
        // The list's and ours.
        if Arc::strong_count(&self.check) <= 2 {
            shard.checks.remove(&self.proof);
        }
    }
}

async fn compute(hash: Arc<Hash>, password: Vec<u8>) -> bool {
    // Only an error if the semaphore were closed, which it never is.
    let Ok(_permit) = AT_ONCE.acquire().await else {
        return false;
    };
    tokio::task::spawn_blocking(move || hash.verify(&password))
        .await
        .unwrap_or(false)
}

/// Wrong passwords cost a hash each: half of the cores may be kept busy with them, the other half carries traffic.
static AT_ONCE: LazyLock<Semaphore> = LazyLock::new(|| {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    Semaphore::new((cores / 2).max(1))
});

const SHARDS: usize = 16;
/// 4,096 in all.
const PER_SHARD: usize = 256;
const LIFETIME: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    fn proof(n: usize) -> Proof {
        let mut proof = [0; 32];
        proof[..8].copy_from_slice(&n.to_le_bytes());
        proof
    }

    #[tokio::test]
    async fn right_passwords_are_remembered_wrong_ones_are_not() {
        let verified = Arc::new(Verified::default());
        let hash = Arc::new(Hash::read("$apr1$H6uskkkW$IgXLP6ewTrSuBkTrqE8wj/"));
        for (password, right) in [("test", true), ("wrong", false)] {
            let proof = verified.proof("u", password.as_bytes(), &hash);
            assert!(!verified.contains(&proof));
            let check = Arc::clone(&verified).check(proof, Arc::clone(&hash), password.into());
            assert_eq!(check.await, right);
            assert_eq!(verified.contains(&proof), right, "{password}");
        }
        assert!(
            verified
                .shards
                .iter()
                .all(|it| it.lock().unwrap().checks.is_empty())
        );
    }

    #[tokio::test]
    async fn a_check_given_up_leaves_nothing() {
        let verified = Arc::new(Verified::default());
        let hash = Arc::new(Hash::Unknown);
        drop(Arc::clone(&verified).check(proof(1), Arc::clone(&hash), Vec::new()));
        let mut started = Box::pin(Arc::clone(&verified).check(proof(1), hash, Vec::new()));
        assert!(futures_util::poll!(&mut started).is_pending());
        drop(started);
        assert!(verified.shard(&proof(1)).checks.is_empty());
    }

    #[test]
    fn the_memory_is_bounded() {
        let verified = Verified::default();
        for n in 0..20_000 {
            verified.remember(proof(n));
        }
        let known = verified
            .shards
            .iter()
            .map(|it| it.lock().unwrap().right_until.len());
        assert_eq!(known.sum::<usize>(), SHARDS * PER_SHARD);
    }

    #[test]
    fn proofs_differ_in_every_part() {
        let verified = Verified::default();
        let (sha, other) = (Hash::Sha1([1; 20]), Hash::Sha1([2; 20]));
        let proof = verified.proof("user", b"pass", &sha);
        assert_eq!(proof, verified.proof("user", b"pass", &sha));
        assert_ne!(proof, verified.proof("userp", b"ass", &sha));
        assert_ne!(proof, verified.proof("user", b"pass", &other));
        assert_ne!(proof, Verified::default().proof("user", b"pass", &sha));
    }
}
