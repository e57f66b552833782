//! Hyperledger Fabric's gossip protocol, as deterministic state machines without IO.
//!
//! A node is one value, [`Node`]. Whoever owns it feeds it [`Input`]s with their time and does
//! the [`Effect`]s that come out, in order; between inputs it calls [`Node::tick`] when
//! [`Node::deadline`] has come. There are no callbacks, threads, clocks, sockets or files in
//! this crate, and no randomness but a seed: the same inputs give the same effects.
//!
//! Bytes from other peers become [`Message`]s only through [`verify`], which needs nothing of
//! the node's state and may run on many threads. What it lets through is [`Verified`].

pub mod ack;
pub mod channel;
pub mod config;
pub mod delivery;
pub mod disclosure;
pub mod discovery;
pub mod dissemination;
pub mod effect;
pub mod election;
pub mod emitter;
pub mod id;
pub mod identity;
pub mod input;
pub mod message;
pub mod node;
pub mod order;
mod pace;
pub mod ports;
pub mod privdata;
pub mod pull;
pub mod random;
pub mod router;
#[cfg(test)]
mod scene;
pub mod store;
mod summary;
#[cfg(test)]
mod toy;
pub mod transfer;
mod trouble;
pub mod verify;
pub mod view;
pub mod wire;

pub use config::{ClusterConfig, Config, ElectionConfig, Me, PvtDataConfig, StateConfig};
pub use effect::{Effect, Notice, Source, Verdict};
pub use input::{Input, JoinChannel};
pub use message::{Connection, Message, PeerIdentity, Verified, VerifiedBlock};
pub use node::Node;
pub use ports::{Ports, Verifier};
pub use summary::Summary;
pub use view::View;
