//! What we say about ourselves.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use prost::Message as _;
use tidings_proto::gossip::{
    AliveMessage, Envelope, Member, MembershipRequest, MembershipResponse, PeerTime as WireTime,
    Rhythm, Secret, SecretEnvelope,
    gossip_message::{Content, Tag},
};

use crate::{
    config::Me,
    id::{Moment, PeerTime},
    message::Alive,
    ports::Ports,
    wire,
};

/// Makes our alive messages. Each is later than the one before.
#[derive(Debug)]
pub(super) struct Voice {
    sequence: u64,
    embed_identity_until: Moment,
    /// Never changes, so it is signed once.
    secret: Option<SecretEnvelope>,
    /// The last one that was gossiped, and when.
    gossiped: Option<(Moment, Alive)>,
}

impl Voice {
    pub(super) fn new(publish_cert_period: Duration) -> Self {
        Self {
            sequence: 0,
            embed_identity_until: Moment::ZERO + publish_cert_period,
            secret: None,
            gossiped: None,
        }
    }

    /// A new alive message with the secret for our own organization.
    /// `period` is how long it may take until we speak again.
    pub(super) fn speak(
        &mut self,
        now: Moment,
        period: Duration,
        me: &Me,
        ports: &impl Ports,
    ) -> Alive {
        self.sequence += 1;
        let time = PeerTime {
            incarnation: me.incarnation_ns,
            sequence: self.sequence,
        };
        let identity = if now < self.embed_identity_until {
            me.identity.serialized.clone()
        } else {
            Bytes::new()
        };
        let content = Content::AliveMsg(AliveMessage {
            membership: Some(Member {
                endpoint: me.external_endpoint.clone(),
                metadata: me.metadata.clone(),
                pki_id: Bytes::copy_from_slice(me.identity.pki_id.as_bytes()),
            }),
            timestamp: Some(WireTime {
                inc_num: time.incarnation,
                seq_num: time.sequence,
            }),
            identity,
            rhythm: rhythm(period),
        });
        let envelope = wire::signed(ports, &wire::gossip_message(0, None, Tag::Empty, content));
        let secret = self.secret.get_or_insert_with(|| secret(me, ports));
        Alive {
            peer: me.identity.pki_id,
            endpoint: me.external_endpoint.clone(),
            internal_endpoint: Some(me.endpoint.clone()),
            metadata: me.metadata.clone(),
            time,
            period: Some(period),
            identity: Arc::clone(&me.identity),
            envelope: envelope.with_secret(secret.clone()),
        }
    }

    /// A new one, to be gossiped.
    pub(super) fn gossip(
        &mut self,
        now: Moment,
        period: Duration,
        me: &Me,
        ports: &impl Ports,
    ) -> Alive {
        let alive = self.speak(now, period, me, ports);
        self.gossiped = Some((now, alive.clone()));
        alive
    }

    /// The last one that was gossiped, if that is not older than this, else a new one. Whoever is
    /// told of us after a silence must hear something newer than before.
    pub(super) fn recent(
        &mut self,
        now: Moment,
        oldest: Duration,
        period: Duration,
        me: &Me,
        ports: &impl Ports,
    ) -> Alive {
        match &self.gossiped {
            Some((at, alive)) if now.since(*at) <= oldest => alive.clone(),
            _ => self.speak(now, period, me, ports),
        }
    }
}

fn rhythm(period: Duration) -> Bytes {
    let period_ms = u32::try_from(period.as_millis()).unwrap_or(u32::MAX);
    Rhythm { period_ms }.encode_to_vec().into()
}

fn secret(me: &Me, ports: &impl Ports) -> SecretEnvelope {
    let payload = Secret::of_internal_endpoint(me.endpoint.clone()).encode_to_vec();
    let signature = ports.sign(&payload);
    SecretEnvelope {
        payload: payload.into(),
        signature,
    }
}

pub(super) fn request(nonce: u64, self_information: Envelope, known: Bytes) -> Envelope {
    let content = Content::MemReq(MembershipRequest {
        self_information: Some(self_information),
        known: vec![known],
    });
    wire::unsigned(&wire::gossip_message(nonce, None, Tag::Empty, content))
}

pub(super) fn response(nonce: u64, alive: Vec<Envelope>, dead: Vec<Envelope>) -> Envelope {
    let content = Content::MemRes(MembershipResponse { alive, dead });
    wire::unsigned(&wire::gossip_message(nonce, None, Tag::Empty, content))
}
