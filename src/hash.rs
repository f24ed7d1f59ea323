//! The hash of names: one for rooms, users, publish ids and conflation keys. Rank 0.

use std::sync::OnceLock;

/// Hashes a name. The seeds are random for each process, so that nobody outside can choose
/// names that collide; they are the same on every thread, so a hash made by the router serves the shards.
pub fn hash(text: &str) -> u64 {
    static SEEDS: OnceLock<ahash::RandomState> = OnceLock::new();
    SEEDS.get_or_init(ahash::RandomState::new).hash_one(text)
}
