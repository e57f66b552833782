//! A pull between two engines: hello, digest, request, update, each written and read again.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use tidings_gossip::{
    Config, Connection, PeerIdentity,
    effect::Destination,
    id::{ChannelId, ConnectionId, Moment, OrgId, PkiId},
    pull::{Effect, Puller, Topic},
    random::generator,
};
use tidings_proto::{
    Message,
    gossip::{
        DataMessage, Envelope, GossipMessage, Payload, PeerIdentity as IdentityMessage,
        gossip_message::{Content, Tag},
    },
};

use super::us;
use crate::{
    chain::CHANNEL,
    cost::cpu,
    keys::MSP_ID,
    report::{Figure, Table},
};

/// Bytes of a small item, beside what is around its content.
const SMALL_LEN: usize = 200;

/// Blocks that a peer keeps for others, and their size.
const BLOCKS: u32 = 10;
const BLOCK_LEN: usize = 32_440;

/// Rounds by which everything must have come: a request names no more than some thousands.
const ROUNDS_MAX: u32 = 100;

/// What pulling so many small items costs, and ten blocks.
pub(super) fn table(items: u32, each: Duration) -> Result<Table> {
    let mut table = Table::default();
    let small = measure(Topic::Identities, items, SMALL_LEN, each)?;
    table.put("small_items", us(small.cpu_us));
    table.put("small_item", us(small.cpu_us / f64::from(items)));
    table.put("small_items_bytes", Figure::new(small.bytes, "B"));
    table.put("small_items_rounds", Figure::new(small.rounds, "rounds"));
    let topic = Topic::Blocks(ChannelId::from(CHANNEL));
    let blocks = measure(topic, BLOCKS, BLOCK_LEN, each)?;
    table.put("ten_blocks", us(blocks.cpu_us));
    table.put("ten_blocks_bytes", Figure::new(blocks.bytes, "B"));
    Ok(table)
}

struct Found {
    cpu_us: f64,
    bytes: f64,
    rounds: f64,
}

fn measure(topic: Topic, items: u32, len: usize, each: Duration) -> Result<Found> {
    let held: Vec<(Bytes, Envelope)> = (0..items).map(|number| item(&topic, number, len)).collect();
    let (began, mut spent, mut times) = (Instant::now(), Duration::ZERO, 0_u32);
    let (mut bytes, mut rounds) = (0, 0);
    while times == 0 || began.elapsed() < each {
        let mut ends = Ends::new(&topic);
        for (name, item) in &held {
            ends.owner.add(name.clone(), item.clone());
        }
        let before = cpu();
        while ends.held < items {
            ensure!(ends.rounds < ROUNDS_MAX, "pulling does not come to its end");
            ends.round()?;
        }
        spent += cpu().saturating_sub(before);
        (bytes, rounds) = (ends.bytes, ends.rounds);
        times += 1;
    }
    Ok(Found {
        cpu_us: spent.as_secs_f64() * 1e6 / f64::from(times),
        bytes: bytes as f64,
        rounds: f64::from(rounds),
    })
}

/// An item with its name.
fn item(topic: &Topic, number: u32, len: usize) -> (Bytes, Envelope) {
    let content = match topic {
        Topic::Identities => {
            let mut pki_id = vec![7; 32];
            pki_id[..4].copy_from_slice(&number.to_be_bytes());
            Content::PeerIdentity(IdentityMessage {
                pki_id: pki_id.into(),
                cert: vec![7; len].into(),
                metadata: Bytes::new(),
            })
        }
        Topic::Blocks(_) => Content::DataMsg(DataMessage {
            payload: Some(Payload {
                seq_num: number.into(),
                data: vec![7; len].into(),
                private_data: Vec::new(),
            }),
        }),
    };
    let message = GossipMessage {
        channel: CHANNEL.into(),
        tag: Tag::ChanAndOrg.into(),
        content: Some(content),
        ..GossipMessage::default()
    };
    let name = name(&message).unwrap_or_default();
    (name, Envelope::unsigned(&message))
}

fn name(item: &GossipMessage) -> Option<Bytes> {
    match item.content.as_ref()? {
        Content::PeerIdentity(identity) => Some(identity.pki_id.clone()),
        Content::DataMsg(data) => {
            let number = data.payload.as_ref()?.seq_num;
            Some(number.to_string().into())
        }
        _ => None,
    }
}

/// Who asks and who has.
struct Ends {
    asker: Puller,
    owner: Puller,
    /// What the owner knows the asker by, and the reverse.
    from_asker: Connection,
    to_owner: Destination,
    now: Moment,
    held: u32,
    rounds: u32,
    bytes: usize,
}

impl Ends {
    fn new(topic: &Topic) -> Self {
        let config = Config::default();
        let puller = |name: &str| {
            let rng = generator(&[7; 32], name);
            Puller::new(topic.clone(), &config, Moment::ZERO, rng)
        };
        let identity = PeerIdentity {
            pki_id: PkiId::new([1; 32]),
            org: OrgId::from(MSP_ID),
            serialized: Bytes::new(),
            expires_at: i64::MAX,
        };
        Self {
            asker: puller("asker"),
            owner: puller("owner"),
            from_asker: Connection {
                id: ConnectionId(1),
                identity: Arc::new(identity),
                handshake: Envelope::default(),
            },
            to_owner: Destination {
                peer: PkiId::new([2; 32]),
                endpoint: String::new(),
            },
            now: Moment::ZERO,
            held: 0,
            rounds: 0,
            bytes: 0,
        }
    }

    /// One round, each message of which is on the wire in between.
    fn round(&mut self) -> Result<()> {
        self.rounds += 1;
        self.now = self.now + Config::default().pull_interval;
        let (now, owner) = (self.now, self.to_owner.peer);
        let mut out = Vec::new();
        self.asker
            .tick(now, std::slice::from_ref(&self.to_owner), &mut out);
        let Content::Hello(hello) = self.carried(&mut out)? else {
            bail!("a round begins with a hello");
        };
        let (from, all) = (&self.from_asker, |_: &[u8]| true);
        self.owner
            .hello(now, from, hello.nonce, None, all, &mut out);
        let Content::DataDig(digest) = self.carried(&mut out)? else {
            bail!("a hello is answered by a digest");
        };
        self.asker
            .digest(now, owner, digest.nonce, digest.digests, all, &mut out);
        let Content::DataReq(request) = self.carried(&mut out)? else {
            bail!("a digest is answered by a request");
        };
        let from = &self.from_asker;
        self.owner
            .request(now, from, request.nonce, &request.digests, all, &mut out);
        let Content::DataUpdate(update) = self.carried(&mut out)? else {
            bail!("a request is answered by an update");
        };
        let opened = update.data.into_iter().map(Envelope::open);
        let opened = opened.collect::<Result<Vec<_>, _>>()?;
        let id = |item: &tidings_proto::envelope::Opened| name(item.message()).unwrap_or_default();
        for item in self.asker.update(now, owner, update.nonce, opened, id) {
            let (name, (envelope, _)) = (id(&item), item.into_parts());
            self.asker.add(name, envelope);
            self.held += 1;
        }
        Ok(())
    }

    /// What the one message says at its other end.
    fn carried(&mut self, out: &mut Vec<Effect>) -> Result<Content> {
        let effect = out.pop().context("nobody said anything")?;
        ensure!(out.is_empty(), "one message at a time");
        let (Effect::Send { envelope, .. } | Effect::Reply { envelope, .. }) = effect;
        let frame = Bytes::from(envelope.encode_to_vec());
        self.bytes += frame.len();
        let (_, message) = Envelope::decode(frame)?.open()?.into_parts();
        message.content.context("a message has content")
    }
}
