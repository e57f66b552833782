//! MSPs and certificates behind the questions that the protocol asks.
//!
//! Holds the current [`CryptoServices`] (replaced as a whole when a channel's configuration
//! changes), the identities that may verify something without being shown again, and what was
//! verified lately, so that a message that comes from five neighbours is checked once. None of it
//! is protocol state: emptied at any moment, only time is lost.

mod memory;

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
    time::{SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use prost::Message;
use tidings_gossip::{
    JoinChannel, PeerIdentity, Ports, VerifiedBlock, Verifier,
    delivery::{Agreement, VerifiedHeader},
    id::{ChannelId, OrgId, PkiId},
    message::StateInfo,
    ports::{CollectionName, Terms},
};
use tidings_msp::{
    channel_config::{ChannelConfig, ConsensusType, OrdererEndpoints, UpdateRefused},
    crypto::{sha256, sha256_parts},
    services::CryptoServices,
};
use tidings_proto::{
    block::BlockView,
    gossip::{
        ConnEstablish, Envelope, GossipMessage,
        gossip_message::{Content, Tag},
    },
    protos::CollectionConfigPackage,
};

use crate::{
    comm::{Authenticator, Refused},
    commit::{ChannelView, members},
    private::Judge,
};
pub(crate) use memory::Recent;
use memory::{Known, RecentBlocks};

/// Identities that verify something: twice what the core keeps, so that what it keeps is here.
const KNOWN_MAX: usize = 16_384;

/// Verified signatures remembered: an alive message of every member, several times over.
const SIGNATURES_MAX: usize = 16_384;

/// Our own handshakes remembered: with each of two certificates, probing or not, before and after
/// these are replaced.
const GREETINGS_MAX: usize = 8;

/// Verified blocks remembered: several times what the peers of a channel push on.
const BLOCKS_MAX: usize = 64;

/// Bytes of these. What is on its way to the ledger is in memory anyway.
const BLOCKS_BYTES_MAX: usize = 8 << 20;

/// Everything the node knows of who may say what.
#[derive(Debug)]
pub struct Crypto {
    services: RwLock<Arc<CryptoServices>>,
    known: RwLock<Known>,
    signatures: Mutex<Recent<[u8; 32], ()>>,
    greetings: Mutex<Recent<[u8; 32], Envelope>>,
    blocks: Mutex<RecentBlocks>,
}

impl Crypto {
    /// Starts with what the services know.
    pub fn new(services: CryptoServices) -> Self {
        Self {
            services: RwLock::new(Arc::new(services)),
            known: RwLock::new(Known::new(KNOWN_MAX)),
            signatures: Mutex::new(Recent::new(SIGNATURES_MAX)),
            greetings: Mutex::new(Recent::new(GREETINGS_MAX)),
            blocks: Mutex::new(RecentBlocks::new(BLOCKS_MAX, BLOCKS_BYTES_MAX)),
        }
    }

    /// The services of now.
    pub fn services(&self) -> Arc<CryptoServices> {
        Arc::clone(&read(&self.services))
    }

    /// Puts a channel's configuration in force.
    pub(crate) fn install(&self, config: Arc<ChannelConfig>) {
        {
            let mut services = write(&self.services);
            *services = Arc::new(services.with_channel(config));
        }
        // What was good under the old rules must be looked at again.
        lock(&self.signatures).clear();
        lock(&self.blocks).clear();
    }

    /// The configuration of a channel that is in force.
    pub(crate) fn config(&self, channel: &ChannelId) -> Option<Arc<ChannelConfig>> {
        read(&self.services).channel(channel.as_str()).cloned()
    }

    /// Takes a channel's configuration out of force, unless another is in its place by now.
    pub(crate) fn uninstall(&self, config: &Arc<ChannelConfig>) -> bool {
        let channel = config.channel_id();
        {
            let mut services = write(&self.services);
            if !services
                .channel(channel)
                .is_some_and(|current| Arc::ptr_eq(current, config))
            {
                return false;
            }
            *services = Arc::new(services.without_channel(channel));
        }
        // What was good under its rules must be looked at again.
        lock(&self.signatures).clear();
        lock(&self.blocks).clear();
        true
    }

    /// What the configuration would be after this block, which passed [`Verifier::verify_block`];
    /// none if the block stands but its transaction is invalid, so that nothing changes.
    pub(crate) fn next_config(
        &self,
        channel: &ChannelId,
        block: &Bytes,
    ) -> Result<Option<Arc<ChannelConfig>>, String> {
        let services = self.services();
        let current = services
            .channel(channel.as_str())
            .ok_or("the channel was left")?;
        Ok(next_config(current, block)?.map(Arc::new))
    }

    /// Sequence of the configuration in force.
    pub(crate) fn config_sequence(&self, channel: &ChannelId) -> Option<u64> {
        read(&self.services)
            .channel(channel.as_str())
            .map(|config| config.sequence())
    }

    /// The configuration in force as gossip and delivery need it.
    pub(crate) fn channel_view(&self, channel: &ChannelId) -> Option<ChannelView> {
        let services = self.services();
        let config = services.channel(channel.as_str())?;
        let members = members(config.application_organizations().values().map(|org| {
            let anchors = org
                .anchors
                .iter()
                .map(|peer| format!("{}:{}", peer.host, peer.port));
            (org.msp_id.as_str(), anchors.collect())
        }));
        let orderers = config
            .orderer_endpoints()
            .into_iter()
            .flat_map(|each| each.addresses)
            .collect();
        Some(ChannelView {
            join: JoinChannel {
                sequence: config.sequence(),
                members,
            },
            agreement: match config.consensus() {
                ConsensusType::Bft => Agreement::Byzantine,
                _ => Agreement::CrashFault,
            },
            orderers,
        })
    }

    /// Whether a block without its transactions is good, and whether it changes the configuration:
    /// such a block must be whole.
    pub(crate) fn verify_header(
        &self,
        channel: &ChannelId,
        block: &Bytes,
    ) -> Result<(VerifiedHeader, bool), String> {
        let view = BlockView::parse(block.clone()).map_err(|error| error.to_string())?;
        if view.is_config_block() {
            let number = view.number().ok_or("it has no header")?;
            let block = self.verify_block(channel, number, block)?;
            let header = VerifiedHeader {
                number,
                hash: block.hash,
                previous_hash: block.previous_hash,
            };
            return Ok((header, true));
        }
        let facts = self
            .services()
            .verify_block_attestation(channel.as_str(), block)
            .map_err(|error| error.to_string())?;
        let header = VerifiedHeader {
            number: facts.number,
            hash: facts.header_hash,
            // Not a slice, which would hold the whole message.
            previous_hash: Bytes::copy_from_slice(&facts.previous_hash),
        };
        Ok((header, false))
    }

    /// Where the orderers of a channel are, and by which roots they are trusted.
    pub(crate) fn orderers(&self, channel: &ChannelId) -> Vec<OrdererEndpoints> {
        let services = self.services();
        services
            .channel(channel.as_str())
            .map(|config| config.orderer_endpoints())
            .unwrap_or_default()
    }

    /// TLS roots of all organizations with peers, over all channels.
    pub(crate) fn peer_tls_roots(&self) -> Vec<Bytes> {
        let services = self.services();
        let mut roots: Vec<Bytes> = services
            .channels()
            .values()
            .flat_map(|config| config.application_tls_roots())
            .collect();
        roots.sort();
        roots.dedup();
        roots
    }

    /// Forgets an identity: it verifies nothing until it is shown again.
    pub(crate) fn forget(&self, peer: &PkiId) {
        write(&self.known).remove(peer);
    }

    /// Looks at every known identity again and forgets those that are no longer good.
    pub(crate) fn revalidate(&self) -> Vec<PkiId> {
        let services = self.services();
        let known: Vec<Arc<PeerIdentity>> = read(&self.known).all().cloned().collect();
        let mut gone: Vec<PkiId> = known
            .into_iter()
            .filter(|identity| services.validate_identity(&identity.serialized).is_err())
            .map(|identity| identity.pki_id)
            .collect();
        gone.sort();
        for peer in &gone {
            self.forget(peer);
        }
        gone
    }

    fn sign(&self, message: &[u8]) -> Bytes {
        match self.services().sign(message) {
            Ok(signature) => signature.into(),
            Err(error) => {
                // Unsigned, every peer refuses it: the same as not sending it.
                tracing::error!(target: "msp", "cannot sign: {error}");
                Bytes::new()
            }
        }
    }

    /// Finds out whether an identity is vouched for, without remembering it. Its time may be over.
    fn judge(
        &self,
        services: &CryptoServices,
        serialized: &Bytes,
    ) -> Result<Arc<PeerIdentity>, String> {
        let pki_id = services
            .pki_id_of(serialized)
            .ok_or("not a serialized identity")?;
        let pki_id = PkiId::new(pki_id);
        // A new configuration makes us forget those that are no longer valid, so what is known
        // needs no second look.
        if let Some(known) = self.known(&pki_id)
            && known.serialized == *serialized
        {
            return Ok(known);
        }
        let resolved = services
            .validate_identity(serialized)
            .map_err(|error| error.to_string())?;
        Ok(Arc::new(PeerIdentity {
            pki_id,
            org: OrgId::new(Arc::clone(resolved.identity.msp_id())),
            serialized: serialized.clone(),
            expires_at: resolved.identity.expires_at(),
        }))
    }

    /// Lets an identity that is good under these services verify things without being shown
    /// again. Nothing if others are in force by now: those that are known were looked at under
    /// them already, and this one would slip in behind.
    fn keep(
        &self,
        services: &Arc<CryptoServices>,
        identity: Arc<PeerIdentity>,
    ) -> Option<Arc<PeerIdentity>> {
        let mut known = write(&self.known);
        let still = Arc::ptr_eq(services, &read(&self.services));
        still.then(|| known.insert(identity))
    }

    /// Our own identity as the protocol sees it.
    pub fn own_identity(&self) -> Arc<PeerIdentity> {
        let services = self.services();
        let signer = services.signer();
        Arc::new(PeerIdentity {
            pki_id: PkiId::new(*signer.pki_id()),
            org: OrgId::new(Arc::clone(signer.msp_id())),
            serialized: signer.serialized().clone(),
            expires_at: signer.not_after(),
        })
    }
}

impl Authenticator for Crypto {
    fn own_handshake(&self, certificate_sha256: Option<[u8; 32]>, probe: bool) -> Envelope {
        let services = self.services();
        let signer = services.signer();
        let hash = certificate_sha256.map(|hash| Bytes::copy_from_slice(&hash));
        let message = GossipMessage {
            tag: Tag::Empty.into(),
            content: Some(Content::Conn(ConnEstablish {
                pki_id: Bytes::copy_from_slice(signer.pki_id()),
                identity: signer.serialized().clone(),
                tls_cert_hash: hash.unwrap_or_default(),
                probe,
            })),
            ..GossipMessage::default()
        };
        let payload = Bytes::from(message.encode_to_vec());
        // It says the same to everybody, so one signature will do, and those who have checked it
        // need not check another.
        let digest = sha256(&payload);
        if let Some(signed) = lock(&self.greetings).find(&digest) {
            return signed.clone();
        }
        let signature = self.sign(&payload);
        let signed = Envelope::signed(payload, signature);
        if !signed.signature.is_empty() {
            lock(&self.greetings).insert(digest, signed.clone());
        }
        signed
    }

    fn authenticate(
        &self,
        handshake: &Envelope,
        claim: &ConnEstablish,
    ) -> Result<Arc<PeerIdentity>, Refused> {
        let identity = self
            .judge(&self.services(), &claim.identity)
            .map_err(Refused::Identity)?;
        if identity.expires_at <= unix_seconds() {
            return Err(Refused::Identity(expired(&identity)));
        }
        if identity.pki_id.as_bytes() != &claim.pki_id[..] {
            return Err(Refused::PkiId);
        }
        self.verify(&identity, &handshake.payload, &handshake.signature)
            .map_err(Refused::Signature)?;
        if let Some(secret) = &handshake.secret_envelope {
            self.verify(&identity, &secret.payload, &secret.signature)
                .map_err(Refused::Signature)?;
        }
        self.remember(&identity).map_err(Refused::Identity)
    }

    fn org(&self, peer: &PkiId) -> Option<OrgId> {
        self.known(peer).map(|identity| identity.org.clone())
    }
}

impl Verifier for Crypto {
    fn known(&self, peer: &PkiId) -> Option<Arc<PeerIdentity>> {
        read(&self.known).find(peer).cloned()
    }

    fn validate(&self, serialized: &Bytes) -> Result<Arc<PeerIdentity>, String> {
        self.judge(&self.services(), serialized)
    }

    fn remember(&self, identity: &Arc<PeerIdentity>) -> Result<Arc<PeerIdentity>, String> {
        loop {
            let services = self.services();
            let identity = self.judge(&services, &identity.serialized)?;
            if let Some(known) = self.keep(&services, identity) {
                return Ok(known);
            }
        }
    }

    fn verify(
        &self,
        signer: &PeerIdentity,
        message: &[u8],
        signature: &[u8],
    ) -> Result<(), String> {
        let digest = sha256_parts(&[signer.pki_id.as_bytes(), &sha256(message), signature]);
        if lock(&self.signatures).find(&digest).is_some() {
            return Ok(());
        }
        let services = self.services();
        services
            .verify(&signer.serialized, signature, message)
            .map_err(|error| error.to_string())?;
        let mut verified = lock(&self.signatures);
        // New services come before the memory is cleared, so nothing of the old ones stays.
        if Arc::ptr_eq(&services, &read(&self.services)) {
            verified.insert(digest, ());
        }
        Ok(())
    }

    fn verified_before(
        &self,
        channel: &ChannelId,
        number: u64,
        block: &Bytes,
    ) -> Option<VerifiedBlock> {
        let sequence = self.config_sequence(channel)?;
        let seen = lock(&self.blocks).find(channel, number).cloned()?;
        // Comparing costs a fraction of hashing.
        (seen.config_sequence == sequence && seen.bytes == *block).then_some(seen)
    }

    fn verify_block(
        &self,
        channel: &ChannelId,
        number: u64,
        block: &Bytes,
    ) -> Result<VerifiedBlock, String> {
        if let Some(seen) = self.verified_before(channel, number, block) {
            return Ok(seen);
        }
        let services = self.services();
        let config = services
            .channel(channel.as_str())
            .ok_or("we are not on the channel")?;
        let found = services
            .verify_block(channel.as_str(), number, block)
            .map_err(|error| error.to_string())?;
        let verified = VerifiedBlock {
            number,
            hash: found.header_hash,
            previous_hash: Bytes::copy_from_slice(&found.previous_hash),
            is_config: found.is_config,
            config_sequence: config.sequence(),
            bytes: block.clone(),
        };
        lock(&self.blocks).insert(channel, verified.clone());
        Ok(verified)
    }
}

/// What the core asks, answered from [`Crypto`] and from what is known of collections.
#[derive(Clone, Debug)]
pub(crate) struct CorePorts {
    pub(crate) crypto: Arc<Crypto>,
    pub(crate) judge: Judge,
}

impl Ports for CorePorts {
    fn sign(&self, message: &[u8]) -> Bytes {
        self.crypto.sign(message)
    }

    fn is_reader(&self, channel: &ChannelId, identity: &PeerIdentity) -> bool {
        self.crypto
            .services()
            .check_reader(channel.as_str(), &identity.serialized)
            .is_ok()
    }

    fn member_orgs(
        &self,
        channel: &ChannelId,
        collection: CollectionName<'_>,
        configs: &CollectionConfigPackage,
    ) -> Result<BTreeSet<OrgId>, String> {
        self.judge.member_orgs(channel, collection, configs)
    }

    fn is_entitled(
        &self,
        channel: &ChannelId,
        collection: CollectionName<'_>,
        terms: Terms<'_>,
        info: &StateInfo,
    ) -> bool {
        self.judge.is_entitled(channel, collection, terms, info)
    }
}

/// What a configuration becomes by a block of its channel; none if the block stands but its
/// transaction is invalid, so that nothing changes.
pub(crate) fn next_config(
    current: &ChannelConfig,
    block: &Bytes,
) -> Result<Option<ChannelConfig>, String> {
    match current.apply(block) {
        Ok(config) => Ok(Some(config)),
        Err(UpdateRefused::Envelope(reason)) => {
            tracing::warn!(
                target: "peer.channelconfig", channel = current.channel_id(),
                "the configuration stays as it was: {reason}"
            );
            Ok(None)
        }
        Err(refused) => Err(refused.to_string()),
    }
}

/// Bytes that nobody can guess.
pub(crate) fn random<const LEN: usize>() -> [u8; LEN] {
    let mut bytes = [0; LEN];
    aws_lc_rs::rand::fill(&mut bytes).expect("the system has randomness");
    bytes
}

/// The wall clock, in whole seconds since the Unix epoch.
pub(crate) fn unix_seconds() -> i64 {
    let elapsed = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(elapsed.as_secs()).unwrap_or(i64::MAX)
}

fn expired(identity: &PeerIdentity) -> String {
    format!(
        "the certificate of {} of {} ended at {} (seconds since 1970)",
        identity.pki_id, identity.org, identity.expires_at
    )
}

// A thread that panicked while it held one of these left nothing half done: each is replaced or
// inserted into in one step. So a poisoned lock is as good as any.
fn read<T>(lock: &RwLock<T>) -> RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

fn write<T>(lock: &RwLock<T>) -> RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}

fn lock<T>(lock: &Mutex<T>) -> MutexGuard<'_, T> {
    lock.lock().unwrap_or_else(PoisonError::into_inner)
}
