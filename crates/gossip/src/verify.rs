//! The gate: what a peer sent becomes a [`Message`] here or not at all.
//!
//! Everything that needs no state of the node is checked: tags, parts that must be there, lengths,
//! identities, signatures, blocks. It needs nothing but a [`Verifier`] and may run on many threads.
//! Cheap checks come first. What depends on membership, time or earlier messages is left to the
//! components.
//!
//! Rules: docs/protocol/wire.md.

use std::fmt::Display;

use bytes::Bytes;
use tidings_proto::{
    envelope::Opened,
    gossip::{
        DataMessage, DataUpdate, Envelope, GossipMessage, MembershipRequest, MembershipResponse,
        Payload, PullMsgType, RemoteStateResponse, StateInfoSnapshot, gossip_message::Content,
    },
    private_sets_are_few,
    tag::{self, Kind},
};

use crate::{
    dissemination::{Verdict, message::Digest},
    id::{ChannelId, PkiId},
    message::{
        Alive, BlockMessage, Connection, IdentityMessage, Message, Pull, TransferredBlock,
        Verified, VerifiedBlock,
    },
    ports::Verifier,
    summary::Summary,
};

mod private;
mod signed;
mod stripe;

pub use self::private::{
    COLLECTION_CONFIG_LEN_MAX, NAME_LEN_MAX, PAYLOADS_MAX, REQUEST_DIGESTS_MAX,
    RESPONSE_ELEMENTS_MAX, TX_ID_LEN_MAX, WRITE_SET_LEN_MAX,
};

/// Members looked at in each list of a membership response. More than any network we know of;
/// each costs up to two signature checks.
pub const MEMBERS_MAX: usize = 8192;

/// State infos looked at in a snapshot, for the same reason.
pub const STATE_INFOS_MAX: usize = 8192;

/// Names of items looked at in a digest or a request; the rest is for the next round.
pub const DIGESTS_MAX: usize = 8192;

/// Identities in one pull answer: as many as can be asked for.
pub const IDENTITIES_MAX: usize = DIGESTS_MAX;

/// Blocks in one answer, pulled or transferred. Peers keep and send about ten; each costs a
/// verification of the whole block, before anybody knows whether it was asked for.
pub const BLOCKS_MAX: usize = 64;

/// Length of a signed message that is going to be kept: alive messages, state infos, identities,
/// leadership. They are a few hundred bytes long, with an identity or many chaincodes some
/// thousands.
pub const KEPT_LEN_MAX: usize = 128 * 1024;

/// Length of an alive message beside the identity in it: two endpoints, two signatures and what
/// little metadata peers carry. Thousands of them go into one membership response.
pub const ALIVE_LEN_MAX: usize = 16 * 1024;

/// Chaincodes looked at in a state info. An empty one takes two bytes on the wire and a hundred in
/// memory; a peer has a few.
pub const CHAINCODES_MAX: usize = 1024;

/// Fabric allows no longer channel names.
const CHANNEL_LEN_MAX: usize = 249;

/// Longest error text of an acknowledgement that is passed on.
const ERROR_LEN_MAX: usize = 1024;

/// The rule about payloads that are no gossip messages.
const UNDECODABLE: &str = "W-S1";

/// Why a message was dropped. The connection stays up.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{rule}: {reason}")]
pub struct Refused {
    /// The rule, as in docs/protocol: `S-C1`.
    pub rule: &'static str,
    /// What was wrong.
    pub reason: String,
}

impl Refused {
    fn new(rule: &'static str, reason: impl Display) -> Self {
        Self {
            rule,
            reason: reason.to_string(),
        }
    }
}

/// Checks one message that came on this connection.
pub fn verify<V: Verifier + ?Sized>(
    connection: &Connection,
    envelope: Envelope,
    verifier: &V,
) -> Result<Verified<Message>, Refused> {
    let opened = envelope
        .open()
        .map_err(|error| Refused::new(UNDECODABLE, error))?;
    verify_opened(connection, opened, verifier)
}

/// The same for one that was decoded already.
pub fn verify_opened<V: Verifier + ?Sized>(
    connection: &Connection,
    opened: Opened,
    verifier: &V,
) -> Result<Verified<Message>, Refused> {
    let gate = Gate {
        connection,
        verifier,
    };
    gate.message(opened).map(Verified::new)
}

/// What bytes are that were put together from chunks: see [`crate::Effect::Judge`].
pub fn judge<V: Verifier + ?Sized>(
    verifier: &V,
    channel: &ChannelId,
    number: u64,
    hash: &Digest,
    bytes: &Bytes,
) -> Verdict {
    if Digest::of(bytes) != *hash {
        return Verdict::Corrupt;
    }
    match verifier.verify_block(channel, number, bytes) {
        Ok(block) => Verdict::Good(block),
        Err(_reason) => Verdict::Refused,
    }
}

/// What the checks of one message share.
struct Gate<'a, V: ?Sized> {
    connection: &'a Connection,
    verifier: &'a V,
}

impl<V: Verifier + ?Sized> Gate<'_, V> {
    fn message(&self, opened: Opened) -> Result<Message, Refused> {
        let (envelope, message) = opened.into_parts();
        match message.kind() {
            // Acknowledgements carry no tag, so they must not meet the tag check (W-G4).
            Some(Kind::Ack) => {}
            // The identity of a connection never changes after its handshake.
            Some(Kind::Conn) => return Err(Refused::new("C-S10", "a second handshake")),
            // In Fabric other components than the main loop take these, and look at no tag.
            Some(kind @ (Kind::PrivateReq | Kind::PrivateRes | Kind::PrivateData)) => {
                private::check_tag(kind, message.tag)?;
            }
            _ => tag::check_tag(&message).map_err(|error| Refused::new("W-S4", error))?,
        }
        self.content(envelope, message)
    }

    fn content(&self, envelope: Envelope, message: GossipMessage) -> Result<Message, Refused> {
        let GossipMessage {
            nonce,
            channel,
            content,
            ..
        } = message;
        let content = content.ok_or_else(|| Refused::new("W-S4", "no content"))?;
        let message = match content {
            Content::AliveMsg(alive) => {
                Message::Alive(Box::new(self.alive(envelope, alive, "D-S3")?))
            }
            Content::MemReq(request) => Message::MembershipRequest {
                nonce,
                known: known(&request.known),
                about: Box::new(self.requester(request)?),
            },
            Content::MemRes(response) => self.membership(nonce, response),
            Content::DataMsg(data) => {
                let channel = channel_id(&channel)?;
                let block = self.block(&channel, data, "S-C6")?;
                Message::Block { channel, block }
            }
            Content::StateInfo(info) => {
                Message::StateInfo(Box::new(self.state_info(envelope, info)?))
            }
            Content::StateSnapshot(snapshot) => self.snapshot(channel_id(&channel)?, snapshot),
            Content::StateInfoPullReq(request) => Message::StateInfoPullRequest {
                channel_mac: signed::mac(&request.channel_mac)?,
                known: Summary::from_wire(&request.known),
            },
            Content::StateRequest(request) => Message::StateRequest {
                channel: channel_id(&channel)?,
                nonce,
                start: request.start_seq_num,
                end: request.end_seq_num,
            },
            Content::StateResponse(response) => {
                self.transfer(channel_id(&channel)?, nonce, response)
            }
            Content::LeadershipMsg(leadership) => {
                let channel = channel_id(&channel)?;
                Message::Leadership(self.leadership(channel, envelope, leadership)?)
            }
            Content::Ack(mut ack) => {
                truncate(&mut ack.error, ERROR_LEN_MAX);
                let error = ack.error;
                Message::Ack { nonce, error }
            }
            Content::Hello(_)
            | Content::DataDig(_)
            | Content::DataReq(_)
            | Content::DataUpdate(_) => self.pull(&channel, content)?,
            Content::PrivateData(data) => Message::PrivateData {
                channel: channel_id(&channel)?,
                nonce,
                pushed: private::pushed(data).map(Box::new),
            },
            Content::PrivateReq(request) => Message::PrivateRequest {
                channel: channel_id(&channel)?,
                nonce,
                digests: private::digests(request),
            },
            Content::PrivateRes(response) => Message::PrivateResponse {
                channel: channel_id(&channel)?,
                nonce,
                elements: private::elements(response)?,
            },
            Content::Stripe(stripe) => {
                let channel = channel_id(&channel)?;
                let message = self.stripe(&channel, stripe)?;
                Message::Stripe { channel, message }
            }
            Content::PeerIdentity(_) | Content::Empty(_) | Content::Conn(_) => {
                let kind = Kind::of(&content);
                return Err(Refused::new("W-S4", format_args!("{kind} by itself")));
            }
        };
        Ok(message)
    }

    /// The requester speaks about itself, on its own connection.
    fn requester(&self, request: MembershipRequest) -> Result<Alive, Refused> {
        const RULE: &str = "D-S2";
        let envelope = request
            .self_information
            .ok_or_else(|| Refused::new("W-S6", "a membership request without self information"))?;
        let (envelope, message) = open(envelope, RULE)?;
        let Some(Content::AliveMsg(alive)) = message.content else {
            return Err(Refused::new(RULE, "self information is no alive message"));
        };
        if let Some(member) = &alive.membership
            && member.pki_id != self.connection.peer().as_bytes()
        {
            return Err(Refused::new("D-S1", "self information is about another"));
        }
        self.alive(envelope, alive, RULE)
    }

    /// Elements are checked one by one. As in Go one that does not even parse ends the response;
    /// one without valid signature, which is normal while identities travel, is left out.
    fn membership(&self, nonce: u64, response: MembershipResponse) -> Message {
        let (alive, parsed) = self.members(response.alive);
        let dead = if parsed {
            self.members(response.dead).0
        } else {
            Vec::new()
        };
        Message::MembershipResponse { nonce, alive, dead }
    }

    fn members(&self, elements: Vec<Envelope>) -> (Vec<Alive>, bool) {
        let mut members = Vec::new();
        for element in elements.into_iter().take(MEMBERS_MAX) {
            let Ok((envelope, message)) = open(element, "D-S6") else {
                return (members, false);
            };
            let Some(Content::AliveMsg(alive)) = message.content else {
                return (members, false);
            };
            members.extend(self.alive(envelope, alive, "D-S6"));
        }
        (members, true)
    }

    /// Bad elements are left out; Go would drop all that follow the first one.
    fn snapshot(&self, channel: ChannelId, snapshot: StateInfoSnapshot) -> Message {
        let elements = snapshot.elements.into_iter().take(STATE_INFOS_MAX);
        let elements = elements.filter_map(|element| {
            let (envelope, message) = open(element, "S-C10").ok()?;
            match message.content {
                Some(Content::StateInfo(info)) => self.state_info(envelope, info).ok(),
                _ => None,
            }
        });
        Message::StateSnapshot {
            channel,
            elements: elements.collect(),
        }
    }

    fn pull(&self, channel: &Bytes, content: Content) -> Result<Message, Refused> {
        // The tag check let two types pass.
        let (blocks, pull) = match content {
            Content::Hello(hello) => (
                is_blocks(hello.msg_type),
                Pull::Hello {
                    nonce: hello.nonce,
                    known: Summary::from_wire(&hello.metadata),
                },
            ),
            Content::DataDig(digest) => (
                is_blocks(digest.msg_type),
                Pull::Digest {
                    nonce: digest.nonce,
                    digests: few(digest.digests),
                },
            ),
            Content::DataReq(request) => (
                is_blocks(request.msg_type),
                Pull::Request {
                    nonce: request.nonce,
                    digests: few(request.digests),
                },
            ),
            Content::DataUpdate(update) if is_blocks(update.msg_type) => {
                return self.blocks(channel_id(channel)?, update);
            }
            Content::DataUpdate(update) => return self.identities(update),
            _ => return Err(Refused::new("P-S6", "not a pull message")),
        };
        if blocks {
            let channel = channel_id(channel)?;
            Ok(Message::BlockPull {
                channel,
                pull: retype(pull),
            })
        } else {
            Ok(Message::IdentityPull(retype(pull)))
        }
    }

    /// One bad element discards the whole update.
    fn identities(&self, update: DataUpdate) -> Result<Message, Refused> {
        if update.data.len() > IDENTITIES_MAX {
            return Err(Refused::new("P-S1", "too many identities"));
        }
        let items: Result<Vec<IdentityMessage>, _> = update
            .data
            .into_iter()
            .map(|element| self.identity(element))
            .collect();
        let mut items = items?;
        for item in &mut items {
            item.identity = self.remembered(&item.identity, "P-S1")?;
        }
        Ok(Message::IdentityPull(Pull::Update {
            nonce: update.nonce,
            items,
        }))
    }

    /// One bad element discards the whole update. All are looked at before the first block is
    /// verified, as that is expensive.
    fn blocks(&self, channel: ChannelId, update: DataUpdate) -> Result<Message, Refused> {
        const RULE: &str = "S-C8";
        if update.data.len() > BLOCKS_MAX {
            return Err(Refused::new(RULE, "too many blocks"));
        }
        let mut parsed = Vec::new();
        for element in update.data {
            let (_, message) = open(element, RULE)?;
            if message.channel != channel.as_bytes() {
                return Err(Refused::new(RULE, "a block of another channel"));
            }
            let Some(Content::DataMsg(data)) = message.content else {
                return Err(Refused::new(RULE, "not a block"));
            };
            parsed.push(data);
        }
        let items: Result<Vec<BlockMessage>, _> = parsed
            .into_iter()
            .map(|data| self.block(&channel, data, RULE))
            .collect();
        Ok(Message::BlockPull {
            channel,
            pull: Pull::Update {
                nonce: update.nonce,
                items: items?,
            },
        })
    }

    fn block(
        &self,
        channel: &ChannelId,
        data: DataMessage,
        rule: &'static str,
    ) -> Result<BlockMessage, Refused> {
        let Payload { seq_num, data, .. } = data
            .payload
            .ok_or_else(|| Refused::new("W-S6", "a data message without payload"))?;
        let block = self
            .checked_block(channel, seq_num, &data)
            .map_err(|reason| Refused::new(rule, reason))?;
        Ok(BlockMessage { block })
    }

    fn checked_block(
        &self,
        channel: &ChannelId,
        number: u64,
        data: &Bytes,
    ) -> Result<VerifiedBlock, String> {
        // Several neighbours push the same.
        if let Some(block) = self.verifier.verified_before(channel, number, data) {
            return Ok(block);
        }
        self.verifier.verify_block(channel, number, &copied(data))
    }

    /// Ends before the first bad block, or the first whose private data would not stay small when
    /// it is decoded.
    fn transfer(&self, channel: ChannelId, nonce: u64, response: RemoteStateResponse) -> Message {
        let payloads = response.payloads.into_iter().take(BLOCKS_MAX);
        let blocks = payloads.map_while(|payload| {
            let Payload { seq_num, data, .. } = &payload;
            let block = self.checked_block(&channel, *seq_num, data).ok()?;
            let sets = payload.private_data.iter().map(|set| &set[..]);
            if !matches!(private_sets_are_few(sets), Ok(true)) {
                return None;
            }
            Some(TransferredBlock {
                block,
                private_data: payload.private_data.iter().map(copied).collect(),
            })
        });
        Message::StateResponse {
            blocks: blocks.collect(),
            channel: channel.clone(),
            nonce,
        }
    }
}

/// The first three messages of a pull carry no items yet.
enum NoItems {}

fn retype<I>(pull: Pull<NoItems>) -> Pull<I> {
    match pull {
        Pull::Hello { nonce, known } => Pull::Hello { nonce, known },
        Pull::Digest { nonce, digests } => Pull::Digest { nonce, digests },
        Pull::Request { nonce, digests } => Pull::Request { nonce, digests },
        Pull::Update { nonce, .. } => Pull::Update {
            nonce,
            items: Vec::new(),
        },
    }
}

/// What a requester knows. Go has the field and neither fills nor reads it.
fn known(known: &[Bytes]) -> Option<Summary> {
    match known {
        [summary] => Summary::from_wire(summary),
        _ => None,
    }
}

fn is_blocks(msg_type: i32) -> bool {
    msg_type == PullMsgType::BlockMsg as i32
}

fn few(mut digests: Vec<Bytes>) -> Vec<Bytes> {
    digests.truncate(DIGESTS_MAX);
    digests
}

/// For what is kept. Parts of a received message share the memory of the whole frame, which may be
/// thousands of times as long and would stay for as long as its smallest part.
fn copied(bytes: &Bytes) -> Bytes {
    Bytes::copy_from_slice(bytes)
}

/// Opens an envelope within a message.
fn open(envelope: Envelope, rule: &'static str) -> Result<(Envelope, GossipMessage), Refused> {
    let opened = envelope.open().map_err(|error| Refused::new(rule, error))?;
    Ok(opened.into_parts())
}

/// A field of type bytes that cannot name a channel names one that we are not in.
fn channel_id(name: &Bytes) -> Result<ChannelId, Refused> {
    match str::from_utf8(name) {
        Ok(name) if !name.is_empty() && name.len() <= CHANNEL_LEN_MAX => Ok(ChannelId::from(name)),
        _ => Err(Refused::new("S-N6", "no such channel")),
    }
}

fn pki_id(bytes: &Bytes, rule: &'static str) -> Result<PkiId, Refused> {
    PkiId::from_wire(bytes).ok_or_else(|| Refused::new(rule, "a PKI-ID that is not 32 bytes long"))
}

/// Cuts at a character boundary.
fn truncate(text: &mut String, len_max: usize) {
    let end = (0..=len_max.min(text.len()))
        .rev()
        .find(|end| text.is_char_boundary(*end))
        .unwrap_or(0);
    text.truncate(end);
}

#[cfg(test)]
mod tests;
