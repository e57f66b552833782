//! Channels as a whole: configuration, updates, blocks and services, on material of our own and
//! on what real peers recorded.

#![expect(
    clippy::unwrap_used,
    reason = "a test without its material cannot go on"
)]

#[path = "../material/mod.rs"]
mod material;

mod blocks;
mod config;
mod golden;
mod policies;
mod properties;
mod quorum;
mod services;
mod update;
