//! What is on the wire.
//!
//! The protobuf messages of Hyperledger Fabric that a gossip node meets, written as our own
//! `.proto` files and generated ahead of time, so that no user needs a protobuf compiler.
//! Beside them live the few rules that belong to bytes alone: envelopes that keep what was
//! received ([`envelope`]), which tag belongs to which content ([`tag`]), the canonical form of a
//! transaction ([`canonical`]), and blocks looked at without copying them ([`block`]).
//!
//! This crate knows no sockets, no signatures and no state.

pub mod block;
pub mod canonical;
mod elements;
pub mod envelope;
pub mod tag;
mod wire;

macro_rules! packages {
    ($($(#[$doc:meta])* $name:ident),+ $(,)?) => {
        $(
            $(#[$doc])*
            #[allow(
                missing_docs,
                clippy::all,
                clippy::use_self,
                clippy::or_fun_call,
                unreachable_pub,
                unused_qualifications,
                rustdoc::all,
                reason = "generated"
            )]
            pub mod $name {
                include!(concat!("generated/", stringify!($name), ".rs"));
            }
        )+
    };
}

packages! {
    /// Blocks, envelopes, policies and channel configuration.
    common,
    /// Who is in a channel, and how it is configured, for clients.
    discovery,
    /// Messages and service of the gossip protocol.
    gossip,
    /// Key-value read-write sets.
    kvrwset,
    /// Chaincode definitions as the `_lifecycle` namespace stores them.
    lifecycle,
    /// Identities and MSP definitions.
    msp,
    /// The ordering service.
    orderer,
    /// Transactions, collections, events: the package that Fabric names `protos`.
    protos,
    /// Read-write sets.
    rwset,
    /// Private write sets before their block.
    transientstore,
}

pub use elements::{ELEMENTS_MAX, collection_elements, private_sets_are_few};
pub use prost::Message;
pub use wire::Malformed;
