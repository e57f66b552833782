//! What gossip asks of a node's identities: Fabric's MessageCryptoService and SecurityAdvisor.
//!
//! An immutable value over our own MSP and the configuration of every channel we are on; a new
//! channel or configuration makes a new value, which the node puts in the place of the old one.
//! Promises the resolve order of Fabric: identities of our own organization are judged by our
//! own MSP alone, all others by the first channel that finds them valid. Knows no clock: a
//! certificate that has expired is not refused here.
//!
//! Rules: docs/protocol/identity.md.

use std::{borrow::Cow, collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use prost::Message;
use tidings_proto::msp::SerializedIdentity;

use crate::{
    certificate::NotWellFormed,
    channel_config::ChannelConfig,
    crypto::{SignatureRefused, SigningFailed},
    identity::{self, Identity, SigningIdentity},
    msp::{IdentityRefused, Msp},
    policy::{PolicyRefused, SignedDatum},
    verify_block::{self, AttestationFacts, BlockRefused, VerifiedBlockFacts},
};

/// The services, for one state of our MSP and channels.
#[derive(Clone, Debug)]
pub struct CryptoServices {
    local: Arc<Msp>,
    signer: Arc<SigningIdentity>,
    channels: BTreeMap<String, Arc<ChannelConfig>>,
}

/// A valid identity and who vouches for it.
#[derive(Clone, Debug)]
pub struct Resolved {
    /// The identity.
    pub identity: Arc<Identity>,
    /// Who vouches for it.
    pub voucher: Voucher,
}

/// Who vouches for an identity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Voucher {
    /// Our own MSP: it is of our organization.
    OwnOrganization,
    /// An MSP of this channel.
    Channel(String),
}

/// Why an identity is not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ResolveRefused {
    /// No bytes.
    #[error("the identity is empty")]
    Empty,
    /// Not a `SerializedIdentity`.
    #[error("the identity does not decode: {0}")]
    Undecodable(#[from] prost::DecodeError),
    /// The certificate is encoded in a way that nobody honest uses.
    #[error("the identity is not well formed: {0}")]
    NotWellFormed(#[from] NotWellFormed),
    /// Of our organization, but our MSP does not find it valid.
    #[error("our own MSP refuses the identity: {0}")]
    OwnOrganization(IdentityRefused),
    /// Neither our MSP nor a channel's finds it valid.
    #[error("no MSP of ours or of any channel accepts the identity of {msp_id}")]
    Unknown {
        /// The MSP that it claims.
        msp_id: String,
    },
}

/// Why a message is not taken as somebody's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MessageRefused {
    /// The sender is not anybody known.
    #[error("{0}")]
    Identity(#[from] ResolveRefused),
    /// The signature is not the sender's.
    #[error("{0}")]
    Signature(#[from] SignatureRefused),
    /// We are not on that channel.
    #[error("channel {0} is not known here")]
    UnknownChannel(String),
    /// The sender may not read the channel.
    #[error("the signer is not a reader of channel {channel}: {reason}")]
    NotAReader {
        /// The channel.
        channel: String,
        /// Why.
        reason: PolicyRefused,
    },
}

impl CryptoServices {
    /// Services of a node that is on no channel yet.
    pub fn new(local: Arc<Msp>, signer: Arc<SigningIdentity>) -> Self {
        Self {
            local,
            signer,
            channels: BTreeMap::new(),
        }
    }

    /// These services with a channel added, or its configuration replaced.
    #[must_use]
    pub fn with_channel(&self, config: Arc<ChannelConfig>) -> Self {
        let mut next = self.clone();
        next.channels.insert(config.channel_id().to_owned(), config);
        next
    }

    /// These services without a channel.
    #[must_use]
    pub fn without_channel(&self, channel: &str) -> Self {
        let mut next = self.clone();
        next.channels.remove(channel);
        next
    }

    /// These services with our MSP read anew; everybody of our organization is then judged by
    /// it.
    #[must_use]
    pub fn with_local(&self, local: Arc<Msp>) -> Self {
        Self {
            local,
            ..self.clone()
        }
    }

    /// Our MSP.
    pub fn local(&self) -> &Arc<Msp> {
        &self.local
    }

    /// Our identity and key.
    pub fn signer(&self) -> &Arc<SigningIdentity> {
        &self.signer
    }

    /// Every channel we are on.
    pub fn channels(&self) -> &BTreeMap<String, Arc<ChannelConfig>> {
        &self.channels
    }

    /// The configuration of a channel.
    pub fn channel(&self, channel: &str) -> Option<&Arc<ChannelConfig>> {
        self.channels.get(channel)
    }

    /// The PKI-ID of a serialized identity. No validation.
    pub fn pki_id_of(&self, identity: &[u8]) -> Option<[u8; 32]> {
        identity::pki_id(identity)
    }

    /// The MSP id of whoever deserializes the identity: our MSP, else the first channel. No
    /// validation.
    pub fn org_by_peer_identity(&self, identity: &[u8]) -> Option<Arc<str>> {
        let found = self.local.deserialize(identity).ok().or_else(|| {
            self.channels
                .values()
                .find_map(|config| config.msps().deserialize(identity).ok())
        })?;
        Some(Arc::clone(found.msp_id()))
    }

    /// Finds who vouches for an identity.
    pub fn validate_identity(&self, identity: &[u8]) -> Result<Resolved, ResolveRefused> {
        if identity.is_empty() {
            return Err(ResolveRefused::Empty);
        }
        let serialized = SerializedIdentity::decode(identity)?;
        if let Ok(found) = self.local.deserialize(identity) {
            found.check_well_formed()?;
            if found.msp_id() == self.local.id() {
                self.local
                    .validate(&found)
                    .map_err(ResolveRefused::OwnOrganization)?;
                return Ok(Resolved {
                    identity: found,
                    voucher: Voucher::OwnOrganization,
                });
            }
        }
        for (channel, config) in &self.channels {
            let Ok(found) = config.msps().deserialize(identity) else {
                continue;
            };
            found.check_well_formed()?;
            if config.msps().validate(&found).is_ok() {
                let voucher = Voucher::Channel(channel.clone());
                return Ok(Resolved {
                    identity: found,
                    voucher,
                });
            }
        }
        Err(ResolveRefused::Unknown {
            msp_id: serialized.mspid,
        })
    }

    /// When the identity's certificate ends, in seconds since 1970.
    pub fn expiration(&self, identity: &[u8]) -> Result<i64, ResolveRefused> {
        Ok(self.validate_identity(identity)?.identity.expires_at())
    }

    /// Signs with our key.
    pub fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SigningFailed> {
        self.signer.sign(message)
    }

    /// Whether the message is that identity's: for our organization the signature decides, for
    /// all others the Readers of the channel that vouches for it.
    pub fn verify(
        &self,
        identity: &[u8],
        signature: &[u8],
        message: &[u8],
    ) -> Result<(), MessageRefused> {
        let resolved = self.validate_identity(identity)?;
        match &resolved.voucher {
            Voucher::OwnOrganization => Ok(resolved.identity.verify(message, signature)?),
            Voucher::Channel(channel) => {
                self.verify_by_channel(channel, identity, signature, message)
            }
        }
    }

    /// Whether the message is that identity's and it may read the channel.
    pub fn verify_by_channel(
        &self,
        channel: &str,
        identity: &[u8],
        signature: &[u8],
        message: &[u8],
    ) -> Result<(), MessageRefused> {
        if identity.is_empty() {
            return Err(ResolveRefused::Empty.into());
        }
        let datum = SignedDatum {
            message: Cow::Borrowed(message),
            identity: Cow::Borrowed(identity),
            signature: Cow::Borrowed(signature),
        };
        self.known(channel)?
            .readers()
            .evaluate(&[datum])
            .map_err(|reason| MessageRefused::NotAReader {
                channel: channel.to_owned(),
                reason,
            })
    }

    /// Whether an identity may read the channel, once it has proved elsewhere that it is who it
    /// says: no signature is verified.
    pub fn check_reader(&self, channel: &str, identity: &[u8]) -> Result<(), MessageRefused> {
        let config = self.known(channel)?;
        if identity.is_empty() {
            return Err(ResolveRefused::Empty.into());
        }
        // Whom the channel does not know satisfies no policy, as with a signature.
        let signers: Vec<_> = config.msps().deserialize(identity).into_iter().collect();
        config
            .readers()
            .evaluate_identities(&signers)
            .map_err(|reason| MessageRefused::NotAReader {
                channel: channel.to_owned(),
                reason,
            })
    }

    /// Judges a block under the channel's configuration.
    pub fn verify_block(
        &self,
        channel: &str,
        claimed: u64,
        block: &Bytes,
    ) -> Result<VerifiedBlockFacts, BlockRefused> {
        let config = self.channels.get(channel);
        let config = config.ok_or_else(|| BlockRefused::UnknownChannel(channel.to_owned()))?;
        verify_block::verify_block(config, channel, claimed, block)
    }

    /// Judges header and signatures of a block whose transactions were left out.
    pub fn verify_block_attestation(
        &self,
        channel: &str,
        block: &Bytes,
    ) -> Result<AttestationFacts, BlockRefused> {
        let config = self.channels.get(channel);
        let config = config.ok_or_else(|| BlockRefused::UnknownChannel(channel.to_owned()))?;
        verify_block::verify_attestation(config, block)
    }

    fn known(&self, channel: &str) -> Result<&ChannelConfig, MessageRefused> {
        let config = self.channels.get(channel);
        config
            .map(Arc::as_ref)
            .ok_or_else(|| MessageRefused::UnknownChannel(channel.to_owned()))
    }
}
