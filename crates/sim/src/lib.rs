//! Many gossip nodes under one seed.
//!
//! A [`World`] runs the real [`tidings_gossip::Node`] of every peer, and the real checks in front
//! of it over encoded envelopes, against a simulated network, ledger and ordering service. Time
//! is virtual and jumps from event to event; every random choice descends from the seed of the
//! world, so a run that fails can be run again exactly. What is toy here is only what the core
//! leaves to its surroundings: signatures, policies, streams and disks.
//!
//! A world checks two kinds of claim. What a scenario waits for is said by the scenario
//! ([`World::run_until`]); what must never happen is watched on every envelope and commit
//! ([`watch`]) and ends the run at once.
//!
//! This crate knows no real time, sockets, files or certificates.

pub mod collection;
pub mod seed;
pub mod stats;
pub mod study;
pub mod toy;
pub mod watch;
pub mod world;

pub use seed::seeds;
pub use stats::Stats;
pub use world::World;

use std::time::Duration;

/// So many seconds.
pub const fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// So many milliseconds.
pub const fn millis(n: u64) -> Duration {
    Duration::from_millis(n)
}
