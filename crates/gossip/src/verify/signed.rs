//! The checks of messages that their subject signed.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use prost::Message as _;
use tidings_proto::gossip::{
    self, AliveMessage, Chaincode, Envelope, LeadershipMessage, PeerTime as WireTime, Rhythm,
    SecretEnvelope, StateInfo as WireStateInfo, gossip_message::Content,
};

use super::{ALIVE_LEN_MAX, CHAINCODES_MAX, Gate, KEPT_LEN_MAX, Refused, copied, open, pki_id};
use crate::{
    discovery::PERIOD_MAX,
    id::{ChannelId, DIGEST_LEN, PeerTime, PkiId},
    message::{Alive, Extension, IdentityMessage, Leadership, PeerIdentity, StateInfo},
    ports::Verifier,
};

impl<V: Verifier + ?Sized> Gate<'_, V> {
    pub(super) fn alive(
        &self,
        envelope: Envelope,
        alive: AliveMessage,
        rule: &'static str,
    ) -> Result<Alive, Refused> {
        let member = alive
            .membership
            .ok_or_else(|| Refused::new("W-S6", "an alive message without membership"))?;
        let time = time(alive.timestamp)?;
        let peer = pki_id(&member.pki_id, rule)?;
        check_shape(
            &envelope,
            ALIVE_LEN_MAX.saturating_add(alive.identity.len()),
        )?;
        let mut identity = if alive.identity.is_empty() {
            self.known(&peer, rule)?
        } else {
            self.embedded(peer, &alive.identity, rule)?
        };
        self.check_signatures(&identity, &envelope, rule)?;
        if !alive.identity.is_empty() {
            identity = self.remembered(&identity, rule)?;
        }
        let secret = envelope.secret_envelope.as_ref();
        let internal_endpoint = secret
            .and_then(|secret| secret.internal_endpoint())
            .filter(|endpoint| !endpoint.is_empty());
        Ok(Alive {
            peer,
            endpoint: member.endpoint,
            internal_endpoint,
            metadata: copied(&member.metadata),
            time,
            period: period(&alive.rhythm),
            identity,
            envelope: kept(&envelope),
        })
    }

    pub(super) fn state_info(
        &self,
        envelope: Envelope,
        info: WireStateInfo,
    ) -> Result<StateInfo, Refused> {
        const RULE: &str = "S-N2";
        let time = time(info.timestamp)?;
        let properties = info
            .properties
            .ok_or_else(|| Refused::new("S-C14", "a state info without properties"))?;
        let channel_mac = mac(&info.channel_mac)?;
        let peer = pki_id(&info.pki_id, RULE)?;
        check_shape(&envelope, KEPT_LEN_MAX)?;
        let identity = self.known(&peer, RULE)?;
        self.check_signatures(&identity, &envelope, RULE)?;
        Ok(StateInfo {
            peer,
            identity,
            channel_mac,
            time,
            height: properties.ledger_height,
            left_channel: properties.left_channel,
            extension: extension(&properties.extension),
            chaincodes: properties
                .chaincodes
                .into_iter()
                .take(CHAINCODES_MAX)
                .map(kept_chaincode)
                .collect(),
            envelope: kept(&envelope),
        })
    }

    pub(super) fn leadership(
        &self,
        channel: ChannelId,
        envelope: Envelope,
        leadership: LeadershipMessage,
    ) -> Result<Leadership, Refused> {
        const RULE: &str = "S-N3";
        let time = time(leadership.timestamp)?;
        let peer = pki_id(&leadership.pki_id, RULE)?;
        check_shape(&envelope, KEPT_LEN_MAX)?;
        let identity = self.known(&peer, RULE)?;
        self.check_signatures(&identity, &envelope, RULE)?;
        Ok(Leadership {
            channel,
            peer,
            time,
            is_declaration: leadership.is_declaration,
            envelope: kept(&envelope),
        })
    }

    /// An element of an identity pull answer. Its tag is not looked at.
    pub(super) fn identity(&self, envelope: Envelope) -> Result<IdentityMessage, Refused> {
        const RULE: &str = "P-S1";
        let (envelope, message) = open(envelope, RULE)?;
        let Some(Content::PeerIdentity(identity)) = message.content else {
            return Err(Refused::new(RULE, "not an identity"));
        };
        let peer = pki_id(&identity.pki_id, RULE)?;
        check_shape(&envelope, KEPT_LEN_MAX)?;
        let identity = self.embedded(peer, &identity.cert, RULE)?;
        self.check_signatures(&identity, &envelope, RULE)?;
        Ok(IdentityMessage {
            identity,
            envelope: kept(&envelope),
        })
    }

    fn known(&self, peer: &PkiId, rule: &'static str) -> Result<Arc<PeerIdentity>, Refused> {
        self.verifier
            .known(peer)
            .ok_or_else(|| Refused::new(rule, format_args!("the identity of {peer} is unknown")))
    }

    /// The identity that came along, which must be the one that the PKI-ID names.
    fn embedded(
        &self,
        peer: PkiId,
        serialized: &Bytes,
        rule: &'static str,
    ) -> Result<Arc<PeerIdentity>, Refused> {
        if let Some(known) = self.verifier.known(&peer)
            && known.serialized == serialized
        {
            return Ok(known);
        }
        let identity = self
            .verifier
            .validate(&copied(serialized))
            .map_err(|reason| Refused::new(rule, reason))?;
        if identity.pki_id == peer {
            Ok(identity)
        } else {
            Err(Refused::new(rule, "the PKI-ID is not of this identity"))
        }
    }

    /// To be called when everything that the identity came with was checked, not before.
    pub(super) fn remembered(
        &self,
        identity: &Arc<PeerIdentity>,
        rule: &'static str,
    ) -> Result<Arc<PeerIdentity>, Refused> {
        match self.verifier.known(&identity.pki_id) {
            Some(known) if known == *identity => Ok(known),
            _ => self
                .verifier
                .remember(identity)
                .map_err(|reason| Refused::new(rule, reason)),
        }
    }

    fn check_signatures(
        &self,
        signer: &PeerIdentity,
        envelope: &Envelope,
        rule: &'static str,
    ) -> Result<(), Refused> {
        let check = |message, signature, rule| {
            self.verifier
                .verify(signer, message, signature)
                .map_err(|reason| Refused::new(rule, reason))
        };
        check(&envelope.payload, &envelope.signature, rule)?;
        match &envelope.secret_envelope {
            Some(secret) => check(&secret.payload, &secret.signature, "W-S3"),
            None => Ok(()),
        }
    }
}

/// What was signed, byte for byte, in memory of its own.
fn kept(envelope: &Envelope) -> Envelope {
    let secret = envelope.secret_envelope.as_ref();
    Envelope {
        payload: copied(&envelope.payload),
        signature: copied(&envelope.signature),
        secret_envelope: secret.map(|secret| SecretEnvelope {
            payload: copied(&secret.payload),
            signature: copied(&secret.signature),
        }),
    }
}

/// What is no extension says nothing: to Fabric it is an unknown field, and refused by nobody.
fn extension(bytes: &Bytes) -> Extension {
    gossip::Extension::decode(bytes.clone())
        .map(|it| Extension {
            stripe: it.stripe,
            slow: it.slow,
            relay: it.relay,
            supplied: it.supplied,
        })
        .unwrap_or_default()
}

fn kept_chaincode(chaincode: Chaincode) -> Chaincode {
    Chaincode {
        metadata: copied(&chaincode.metadata),
        ..chaincode
    }
}

/// SHA-256 of a PKI-ID and a channel name.
pub(super) fn mac(bytes: &Bytes) -> Result<[u8; DIGEST_LEN], Refused> {
    <[u8; DIGEST_LEN]>::try_from(bytes.as_ref())
        .ok()
        .ok_or_else(|| Refused::new("S-C1", "a channel MAC that is not 32 bytes long"))
}

fn time(time: Option<WireTime>) -> Result<PeerTime, Refused> {
    let time = time.ok_or_else(|| Refused::new("W-S6", "no timestamp"))?;
    Ok(PeerTime {
        incarnation: time.inc_num,
        sequence: time.seq_num,
    })
}

/// What is no rhythm says nothing: to Fabric it is an unknown field, and refused by nobody.
fn period(rhythm: &Bytes) -> Option<Duration> {
    let rhythm = (!rhythm.is_empty()).then(|| Rhythm::decode(rhythm.clone()).ok())??;
    let period = Duration::from_millis(rhythm.period_ms.into());
    Some(period.min(PERIOD_MAX))
}

/// What must hold before a signature is worth checking.
fn check_shape(envelope: &Envelope, len_max: usize) -> Result<(), Refused> {
    if envelope.payload.is_empty() || envelope.signature.is_empty() {
        return Err(Refused::new("W-S2", "not signed"));
    }
    let secret_len = match &envelope.secret_envelope {
        Some(secret) if secret.payload.is_empty() || secret.signature.is_empty() => {
            return Err(Refused::new("W-S3", "a secret that is empty or not signed"));
        }
        Some(secret) => secret.payload.len() + secret.signature.len(),
        None => 0,
    };
    if envelope.payload.len() + envelope.signature.len() + secret_len > len_max.min(KEPT_LEN_MAX) {
        return Err(Refused::new("M-S3", "too long to be kept"));
    }
    Ok(())
}
