//! What the protocol asks of the world: signatures, identities and policies.
//!
//! Two implementations exist: the node plugs MSPs and certificates in, the simulator a toy.
//! Every answer must depend on nothing but the arguments and on what the caller was told before,
//! or a simulation cannot be replayed.

use std::{collections::BTreeSet, sync::Arc};

use bytes::Bytes;
use tidings_proto::protos::CollectionConfigPackage;

use crate::{
    id::{ChannelId, OrgId, PkiId},
    message::{PeerIdentity, StateInfo, VerifiedBlock},
};

/// What the checks in front of the core need. Called from many threads at once.
pub trait Verifier: Send + Sync {
    /// The identity known under this PKI-ID: learned at a handshake or by [`Self::remember`], and
    /// not forgotten since.
    fn known(&self, peer: &PkiId) -> Option<Arc<PeerIdentity>>;

    /// Validates an identity that came with a message: well formed, vouched for by the local MSP
    /// or one of a joined channel, not revoked. Its end is not looked at: that takes a clock, so
    /// [`crate::identity`] refuses it, and one expired identity does not spoil a whole answer.
    /// Remembers nothing: anybody can show the certificate of another.
    fn validate(&self, serialized: &Bytes) -> Result<Arc<PeerIdentity>, String>;

    /// Makes an identity known whose owner signed what it came with. Gives back the one that is
    /// known from now on, or why this one is no longer valid. Whatever the core does not learn of
    /// it says to forget.
    fn remember(&self, identity: &Arc<PeerIdentity>) -> Result<Arc<PeerIdentity>, String>;

    /// Checks a signature of this identity over exactly these bytes, and that the identity may
    /// speak to us (of another organization: Readers of a joined channel).
    fn verify(&self, signer: &PeerIdentity, message: &[u8], signature: &[u8])
    -> Result<(), String>;

    /// The same block, if exactly these bytes passed [`Self::verify_block`] lately under what is
    /// the configuration now. It does not share the memory of `block`.
    fn verified_before(
        &self,
        _channel: &ChannelId,
        _number: u64,
        _block: &Bytes,
    ) -> Option<VerifiedBlock> {
        None
    }

    /// Checks a block against the current configuration of the channel. The memory of `block` may
    /// be kept, so it had better not be a small part of something large.
    fn verify_block(
        &self,
        channel: &ChannelId,
        number: u64,
        block: &Bytes,
    ) -> Result<VerifiedBlock, String>;
}

/// What the core itself asks, from its one task.
pub trait Ports {
    /// Signs with the key of this node.
    fn sign(&self, message: &[u8]) -> Bytes;

    /// Whether this identity, whose signature was checked, satisfies
    /// `/Channel/Application/Readers` of a joined channel.
    fn is_reader(&self, channel: &ChannelId, identity: &PeerIdentity) -> bool;

    /// The organizations that are members of this collection by the configuration that came with
    /// private data, or why that is none, or not one that this collection can have.
    fn member_orgs(
        &self,
        channel: &ChannelId,
        collection: CollectionName<'_>,
        configs: &CollectionConfigPackage,
    ) -> Result<BTreeSet<OrgId>, String>;

    /// Whether a peer may have the data of a collection: its policy, evaluated over the state info
    /// of the peer, its signature and its identity. The gate has checked that signature.
    fn is_entitled(
        &self,
        channel: &ChannelId,
        collection: CollectionName<'_>,
        terms: Terms<'_>,
        info: &StateInfo,
    ) -> bool;
}

/// A collection of a chaincode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct CollectionName<'a> {
    /// The chaincode.
    pub namespace: &'a str,
    /// The collection.
    pub collection: &'a str,
}

/// By which of its definitions a collection is judged.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Terms<'a> {
    /// The last one that was committed; nobody is entitled if there is none.
    Latest,
    /// The one in here, under which the data came about.
    Given(&'a CollectionConfigPackage),
}
