//! Signatures, alive messages, identities and blocks, as the gate has them checked.

use std::{sync::Arc, time::Duration};

use anyhow::{Context, Result, anyhow, ensure};
use bytes::Bytes;
use tidings_gossip::{Connection, PeerIdentity, Verifier, id::ConnectionId, verify};
use tidings_msp::{channel_config::ChannelConfig, services::CryptoServices};
use tidings_node::{crypto::Crypto, msp_folder};
use tidings_proto::{
    Message,
    gossip::{
        AliveMessage, Envelope, GossipMessage, Member, PeerTime, Secret, SecretEnvelope,
        gossip_message::{Content, Tag},
    },
};

use super::{for_each, us};
use crate::{
    chain::{CHANNEL, Chain},
    cost::repeat,
    floor::Floor,
    keys::{MSP_ID, Organization},
    report::Table,
};

/// The endpoint that a secret is about.
const ENDPOINT: &str = "127.0.0.1:65535";

/// A peer without a network: it hears itself.
pub(super) struct Bench {
    org: Organization,
    services: CryptoServices,
    crypto: Crypto,
    me: Arc<PeerIdentity>,
    /// Messages and identities to make.
    samples: u16,
}

impl Bench {
    pub(super) fn new(samples: u16) -> Result<Self> {
        let (org, home) = (Organization::new()?, tempfile::tempdir()?);
        let seat = org.seat(home.path(), "peer0")?;
        let local = msp_folder::load(&seat.msp_dir, MSP_ID)?;
        let chain = Chain::new(&org, 0, 0)?;
        let genesis = chain.blocks.first().context("a chain has a first block")?;
        let config = Arc::new(ChannelConfig::from_config_block(genesis)?);
        let services = CryptoServices::new(local.msp, Arc::new(local.signer)).with_channel(config);
        let crypto = Crypto::new(services.clone());
        let me = crypto
            .remember(&crypto.own_identity())
            .map_err(anyhow::Error::msg)?;
        Ok(Self {
            org,
            services,
            crypto,
            me,
            samples,
        })
    }

    pub(super) fn signatures(&self, each: Duration, floor: &Floor) -> Result<Table> {
        let message = [7; 300];
        let signature = self.services.sign(&message)?;
        let identity = self
            .services
            .validate_identity(&self.me.serialized)?
            .identity;
        let sign = repeat(each, || {
            std::hint::black_box(self.services.sign(&message)?);
            Ok(())
        })?;
        let verify = repeat(each, || Ok(identity.verify(&message, &signature)?))?;
        let verify_as = repeat(each, || {
            let serialized = &self.me.serialized;
            Ok(self.services.verify(serialized, &signature, &message)?)
        })?;
        let mut table = Table::default();
        table.put("sign", us(sign * 1e6).over(floor.p256_sign_us));
        table.put("verify", us(verify * 1e6).over(floor.p256_verify_us));
        table.put(
            "verify_as_identity",
            us(verify_as * 1e6).over(floor.p256_verify_us),
        );
        Ok(table)
    }

    /// An alive message with its secret, both signed, as it is on the wire.
    fn alive_frame(&self, number: u64, with_identity: bool) -> Result<Bytes> {
        let secret = Secret::of_internal_endpoint(ENDPOINT).encode_to_vec();
        let signature = self.services.sign(&secret)?;
        let secret = SecretEnvelope {
            payload: secret.into(),
            signature: signature.into(),
        };
        self.alive_frame_with(number, with_identity, secret)
    }

    fn alive_frame_with(
        &self,
        number: u64,
        with_identity: bool,
        secret: SecretEnvelope,
    ) -> Result<Bytes> {
        let identity = if with_identity {
            self.me.serialized.clone()
        } else {
            Bytes::new()
        };
        let message = GossipMessage {
            tag: Tag::Empty.into(),
            content: Some(Content::AliveMsg(AliveMessage {
                membership: Some(Member {
                    endpoint: String::new(),
                    metadata: Bytes::new(),
                    pki_id: Bytes::copy_from_slice(self.me.pki_id.as_bytes()),
                }),
                timestamp: Some(PeerTime {
                    inc_num: 1_700_000_000_000_000_000,
                    seq_num: number,
                }),
                identity,
                ..AliveMessage::default()
            })),
            ..GossipMessage::default()
        };
        let payload = Bytes::from(message.encode_to_vec());
        let signature = self.services.sign(&payload)?;
        let envelope = Envelope::signed(payload, signature.into()).with_secret(secret);
        Ok(envelope.encode_to_vec().into())
    }

    fn receive(&self, from: &Connection, frame: Bytes) -> Result<()> {
        let envelope = Envelope::decode(frame)?;
        std::hint::black_box(verify::verify(from, envelope, &self.crypto)?);
        Ok(())
    }

    pub(super) fn alive(&self, floor: &Floor) -> Result<Table> {
        let from = Connection {
            id: ConnectionId(1),
            identity: Arc::clone(&self.me),
            handshake: Envelope::default(),
        };
        let numbers = || (1..=u64::from(self.samples)).collect::<Vec<_>>();
        let create = for_each(numbers(), |number| {
            std::hint::black_box(self.alive_frame(number, false)?);
            Ok(())
        })?;
        let frames = |with_identity| {
            let frames = numbers().into_iter();
            let frames = frames.map(|number| self.alive_frame(number, with_identity));
            frames.collect::<Result<Vec<_>>>()
        };
        let plain = frames(false)?;
        let again = plain.clone();
        let receive = for_each(plain, |frame| self.receive(&from, frame))?;
        let receive_again = for_each(again, |frame| self.receive(&from, frame))?;
        let with_identity = for_each(frames(true)?, |frame| self.receive(&from, frame))?;
        // A peer signs its secret once, so only the first one is checked.
        let secret = Secret::of_internal_endpoint(ENDPOINT).encode_to_vec();
        let secret = SecretEnvelope {
            signature: self.services.sign(&secret)?.into(),
            payload: secret.into(),
        };
        let same_secret = numbers().into_iter();
        let same_secret =
            same_secret.map(|number| self.alive_frame_with(number, false, secret.clone()));
        let same_secret = same_secret.collect::<Result<Vec<_>>>()?;
        let same_secret = for_each(same_secret, |frame| self.receive(&from, frame))?;
        let (sign, verify) = (floor.p256_sign_us, floor.p256_verify_us);
        let mut table = Table::default();
        table.put("create", us(create).over(2.0 * sign));
        table.put("receive", us(receive).over(2.0 * verify));
        table.put(
            "receive_with_identity",
            us(with_identity).over(2.0 * verify),
        );
        table.put("receive_with_known_secret", us(same_secret).over(verify));
        table.put("receive_again", us(receive_again));
        Ok(table)
    }

    pub(super) fn identities(&self, each: Duration, floor: &Floor) -> Result<Table> {
        let serialized = &self.me.serialized;
        let learn = |serialized: &Bytes| {
            let identity = self
                .crypto
                .validate(serialized)
                .map_err(anyhow::Error::msg)?;
            let known = self.crypto.remember(&identity);
            known.map(drop).map_err(anyhow::Error::msg)
        };
        let known = repeat(each, || learn(serialized))?;
        let strangers = (0..self.samples).map(|number| self.org.identity(&format!("new{number}")));
        let strangers = strangers.collect::<Result<Vec<_>>>()?;
        let new = for_each(strangers, |serialized| learn(&serialized))?;
        let find = repeat(each, || {
            let found = self.crypto.known(&self.me.pki_id);
            std::hint::black_box(found).map(drop).context("it is known")
        })?;
        let pki_id = repeat(each, || {
            let pki_id = self.services.pki_id_of(serialized);
            std::hint::black_box(pki_id).map(drop).context("it is one")
        })?;
        let mut table = Table::default();
        table.put("put_known", us(known * 1e6));
        table.put("put_new", us(new).over(floor.p256_verify_us));
        table.put("get", us(find * 1e6));
        table.put("pki_id", us(pki_id * 1e6));
        Ok(table)
    }

    /// Checking a block of so many bytes.
    pub(super) fn block(&self, size: usize, each: Duration, floor: &Floor) -> Result<Table> {
        let chain = Chain::new(&self.org, 1, size)?;
        let block = chain.blocks.last().context("there is a block")?;
        let services = &self.services;
        let check = repeat(each, || {
            let facts = services.verify_block(CHANNEL, 1, block);
            ensure!(facts.map_err(|refused| anyhow!("{refused}"))?.number == 1);
            Ok(())
        })?;
        let floor_us = floor.node_block_ms(block.len() as f64, 0.0) * 1e3;
        let mut table = Table::default();
        table.put("verify", us(check * 1e6).over(floor_us));
        Ok(table)
    }
}
