//! One channel as gossip sees it: who is in it, what they say, and which blocks go round.
//!
//! Promises: nothing of a peer whose organization is not in the channel is kept or passed on;
//! what we say about ourselves is published when it changed and no more often than the settings
//! allow; every block that is news is handed on once. Knows nothing of ledgers, of the order of
//! blocks, or of how messages find their way.
//!
//! Rules: docs/protocol/channel.md.

mod blocks;
mod intake;
mod own;
mod roster;

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use rand::{RngExt, rngs::ChaCha8Rng};
use sha2::{Digest, Sha256};
use tidings_proto::gossip::{
    Chaincode, Envelope, StateInfoPullRequest,
    gossip_message::{Content, Tag},
};

use self::{blocks::Blocks, own::Own, roster::Roster};
use crate::{
    config::{Config, Me},
    discovery::Member,
    effect::{Destination, Notice, Source},
    id::{ChannelId, ConnectionId, DIGEST_LEN, Moment, OrgId, PkiId},
    input::JoinChannel,
    message::{Connection, Leadership, Message, StateInfo, VerifiedBlock},
    pace::{self, Pace},
    ports::Ports,
    pull, random,
    router::{Outgoing, Subject},
    store::Latest,
    summary::Summary,
    view::View,
    wire,
};

pub use self::roster::STATE_INFOS_MAX;

/// How soon to look again for somebody to talk to when nobody is alive. A starting node is heard
/// of one second after it met its first peer instead of one interval.
pub const LONELY_RETRY: Duration = Duration::from_secs(1);

/// Speakers whose latest leadership message is remembered. They are peers of the own
/// organization; beyond it a new speaker is not heard.
pub const LEADERS_MAX: usize = 1000;

/// What happens to a channel.
#[derive(Clone, Debug)]
pub enum Input {
    /// The channel configuration; also how a channel that was left is joined again.
    Configure(JoinChannel),
    /// Number of blocks in our ledger. The first one makes us visible.
    Height(u64),
    /// Our chaincodes.
    Chaincodes(Vec<Chaincode>),
    /// Say that we left; take no part in pulling.
    Leave,
    /// A peer that was not alive before is a member of the network now.
    Met(PkiId),
    /// A message that names this channel or carries its MAC.
    Received {
        /// The stream it came on.
        from: Arc<Connection>,
        /// The message. Those that are not about channels have no effect.
        message: Message,
    },
    /// We got this block from the ordering service: spread it.
    Gossip(VerifiedBlock),
    /// No ordering service gives us blocks any more.
    NotSupplied,
    /// A block that came by stripes: offer it, but do not spread it.
    Striped(VerifiedBlock),
    /// A block that the stripes will not bring is missing: pull without waiting for the next round.
    PullNow,
    /// The committer refused this block: another copy is welcome.
    CommitRefused(u64),
    /// There was no room for this block so far ahead of the ledger. It is handed on once again
    /// when the ledger has come near, if it still goes round then.
    NotKept {
        /// The block.
        block: VerifiedBlock,
        /// How it reached us.
        source: Source,
    },
}

/// What a channel wants done.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Over any connection to this peer; dial if there is none.
    Send {
        /// To whom.
        to: Destination,
        /// What.
        envelope: Envelope,
    },
    /// On exactly this stream.
    Reply {
        /// Which stream.
        connection: ConnectionId,
        /// What.
        envelope: Envelope,
    },
    /// Spread this.
    Emit(Outgoing),
    /// A block that is news, for the payload buffer.
    Block {
        /// The block.
        block: VerifiedBlock,
        /// Pushed or pulled.
        source: Source,
    },
    /// A leadership message that is news, for the election of the own organization.
    Leadership(Leadership),
    /// To be known.
    Notify(Notice),
}

/// A peer of a channel: alive, its state info accepted, not gone from the channel.
#[derive(Clone, Copy, Debug)]
pub struct ChannelPeer<'a> {
    /// As a member of the network.
    pub member: &'a Member,
    /// What it says about itself on the channel.
    pub info: &'a StateInfo,
}

/// One channel.
#[derive(Debug)]
pub struct Channel {
    id: ChannelId,
    config: Config,
    rng: ChaCha8Rng,
    own: Own,
    roster: Roster,
    blocks: Blocks,
    leaders: Latest<PkiId, ()>,
    /// Who was given our state infos.
    answered: Pace,
    /// When members were asked for state infos last.
    asked: Option<Moment>,
    next_request: Moment,
    next_sweep: Moment,
    next_count: Moment,
}

/// SHA-256 of the PKI-ID and the channel's name: shows that its sender knows the name, to those
/// who know it too.
pub fn mac(peer: &PkiId, channel: &ChannelId) -> [u8; DIGEST_LEN] {
    let mut hash = Sha256::new();
    hash.update(peer.as_bytes());
    hash.update(channel.as_bytes());
    hash.finalize().into()
}

impl Channel {
    /// Joins with this configuration. Nothing is published before the first [`Input::Height`],
    /// [`Input::Chaincodes`] or [`Input::Leave`]: until then there is nothing to say.
    /// `seed` is that of the node.
    pub fn new(
        id: ChannelId,
        join: &JoinChannel,
        me: &Me,
        config: &Config,
        now: Moment,
        seed: &[u8; 32],
    ) -> Self {
        let leaders_ttl = config.election.leader_alive_threshold.saturating_mul(10);
        let blocks_rng = random::generator(seed, &format!("blocks of {id}"));
        Self {
            own: Own::new(me, config, now),
            roster: Roster::new(id.clone(), join, me.identity.pki_id),
            blocks: Blocks::new(&id, config, now, blocks_rng),
            leaders: Latest::new(Some(leaders_ttl)),
            answered: Pace::new(pace::ROUNDS_BURST),
            asked: None,
            next_request: now + config.request_state_info_interval,
            next_sweep: now + config.pull_interval.saturating_mul(5),
            next_count: now + config.membership_tracker_interval,
            rng: random::generator(seed, &format!("channel {id}")),
            config: config.clone(),
            id,
        }
    }

    /// Feeds one input.
    pub fn handle(
        &mut self,
        now: Moment,
        input: Input,
        view: &View<'_>,
        ports: &impl Ports,
        out: &mut Vec<Effect>,
    ) {
        match input {
            Input::Configure(join) => self.configure(now, &join, view, ports, out),
            Input::Height(height) => {
                self.own.set_height(height, view.me.wall_ns(now));
                if !self.blocks.has_seen(height.saturating_sub(1)) {
                    // It came by transfer.
                    self.own.set_supplied(false, view.me.wall_ns(now));
                }
                let wanted = self.wanted();
                let again = self.blocks.resume(&wanted);
                self.blocks.watch(now, &wanted);
                out.extend(
                    again
                        .into_iter()
                        .map(|(block, source)| Effect::Block { block, source }),
                );
            }
            Input::Chaincodes(chaincodes) => {
                if self.own.set_chaincodes(chaincodes, view.me.wall_ns(now)) {
                    self.publish(now, view, ports, out);
                }
            }
            Input::Leave => {
                if self.own.leave(view.me.wall_ns(now)) {
                    self.publish(now, view, ports, out);
                }
            }
            Input::Met(peer) => self.meet(now, &peer, view),
            Input::Received { from, message } => {
                self.receive(now, &from, message, view, ports, out);
            }
            Input::Gossip(block) => {
                if self.blocks.hold(now, &block) {
                    self.own.set_supplied(true, view.me.wall_ns(now));
                    out.push(self.emit_block(&block, None));
                }
            }
            Input::NotSupplied => self.own.set_supplied(false, view.me.wall_ns(now)),
            Input::Striped(block) => {
                // The ledger waits for it even if it is too old to be offered.
                if self.blocks.hold(now, &block) {
                    self.own.set_supplied(false, view.me.wall_ns(now));
                }
                if block.number >= self.own.height() {
                    out.push(Effect::Block {
                        block,
                        source: Source::Stripe,
                    });
                }
            }
            Input::PullNow => self.blocks.hasten(now),
            Input::CommitRefused(number) => {
                self.blocks.forget(number);
                self.blocks.watch(now, &self.wanted());
            }
            Input::NotKept { block, source } => self.blocks.put_off(block, source),
        }
    }

    /// Does what has fallen due.
    pub fn tick(
        &mut self,
        now: Moment,
        view: &View<'_>,
        ports: &impl Ports,
        out: &mut Vec<Effect>,
    ) {
        if self.own.is_due(now) {
            if view.discovery.alive().next().is_some() {
                self.publish(now, view, ports, out);
            } else {
                self.own.postpone(now + LONELY_RETRY);
            }
        }
        if self.next_request <= now {
            self.request_state_infos(now, view, out);
        }
        if self.next_sweep <= now {
            self.next_sweep = now + self.config.pull_interval.saturating_mul(5);
            self.roster.sweep(view.discovery);
        }
        if self.next_count <= now {
            self.next_count = now + self.config.membership_tracker_interval;
            out.push(Effect::Notify(Notice::ChannelMembers {
                channel: self.id.clone(),
                count: self.peers(view).len(),
            }));
        }
        self.leaders.expire(now);
        self.pull_blocks(now, view, out);
    }

    /// When [`Self::tick`] next has something to do.
    pub fn deadline(&self) -> Option<Moment> {
        [
            self.own.deadline(),
            Some(self.next_request),
            Some(self.next_sweep),
            Some(self.next_count),
            self.leaders.deadline(),
            self.blocks.deadline(),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// The name.
    pub fn id(&self) -> &ChannelId {
        &self.id
    }

    /// Organizations of the channel.
    pub fn orgs(&self) -> &BTreeSet<OrgId> {
        self.roster.orgs()
    }

    /// Whether this organization is in the channel.
    pub fn has_org(&self, org: &OrgId) -> bool {
        self.roster.orgs().contains(org)
    }

    /// Whether this peer said, in a state info that we accepted, that it is in the channel.
    pub fn is_eligible(&self, peer: &PkiId) -> bool {
        self.roster.get(peer).is_some_and(|info| !info.left_channel)
    }

    /// Whether a message of this peer with this MAC means this channel.
    pub fn is_meant(&self, peer: &PkiId, channel_mac: &[u8; DIGEST_LEN]) -> bool {
        mac(peer, &self.id) == *channel_mac
    }

    /// Whether we said that we left.
    pub fn has_left(&self) -> bool {
        self.own.has_left()
    }

    /// The peers of the channel, ourselves left out, in order of their PKI-IDs. None once we
    /// left.
    pub fn peers<'a>(&'a self, view: &View<'a>) -> Vec<ChannelPeer<'a>> {
        match self.own.has_left() {
            true => Vec::new(),
            false => self.roster.present(view).collect(),
        }
    }

    /// Whether this is one of [`Self::peers`], and of our organization.
    pub fn is_own_peer(&self, peer: &PkiId, view: &View<'_>) -> bool {
        !self.own.has_left()
            && view.discovery.is_alive(peer)
            && view.identities.org_of(peer) == Some(&view.me.identity.org)
            && self.is_eligible(peer)
    }

    /// How many of [`Self::peers`] are of our organization.
    pub fn own_peers_len(&self, view: &View<'_>) -> usize {
        let alive = view.discovery.alive();
        alive
            .filter(|member| self.is_own_peer(&member.peer, view))
            .count()
    }

    /// The greatest height that a peer of the channel claims; zero if there is none.
    pub fn peers_height(&self, view: &View<'_>) -> u64 {
        let peers = self.peers(view);
        peers.iter().map(|p| p.info.height).max().unwrap_or(0)
    }

    /// What we last published about ourselves.
    pub fn own_state_info(&self) -> Option<&StateInfo> {
        self.roster.own()
    }

    /// The state info of a peer, or our own.
    pub fn state_info(&self, peer: &PkiId) -> Option<&StateInfo> {
        self.roster.get(peer)
    }

    /// Number of state infos that are kept, our own included.
    pub fn state_infos_len(&self) -> usize {
        self.roster.len()
    }

    /// Number of blocks that are kept for others.
    pub fn blocks_len(&self) -> usize {
        self.blocks.len()
    }

    /// Whether [`Input::Configure`] would be heeded, or why it would not.
    pub fn may_configure(&self, join: &JoinChannel) -> Result<(), String> {
        self.roster.may_configure(join)
    }

    /// Says with the next state info whether we keep up.
    pub fn declare_slow(&mut self, slow: bool, wall_ns: u64) {
        self.own.set_slow(slow, wall_ns);
    }

    fn configure(
        &mut self,
        now: Moment,
        join: &JoinChannel,
        view: &View<'_>,
        ports: &impl Ports,
        out: &mut Vec<Effect>,
    ) {
        if let Err(reason) = self.roster.configure(join, self.own.has_left(), ports) {
            out.push(Effect::Notify(Notice::Warning(format!(
                "channel {}: configuration ignored (S-C12): {reason}",
                self.id
            ))));
            return;
        }
        if self.own.has_left() {
            // Blocks that were seen did not go to the ledger, and are news once more.
            let rng = random::generator(&self.rng.random(), "blocks");
            self.blocks = Blocks::new(&self.id, &self.config, now, rng);
            self.own.rejoin(view.me.wall_ns(now), now);
        }
    }

    fn publish(&mut self, now: Moment, view: &View<'_>, ports: &impl Ports, out: &mut Vec<Effect>) {
        let info = self.own.sign(&self.id, view.me, ports);
        out.push(Effect::Emit(Outgoing {
            subject: Subject::StateInfo {
                speaker: info.peer,
                channel: Some(self.id.clone()),
            },
            envelope: info.envelope.clone(),
            source: None,
        }));
        self.roster.set_own(info);
        if view.discovery.alive().next().is_some() {
            self.own
                .published(now + self.config.publish_state_info_interval);
        } else {
            self.own.postpone(now + LONELY_RETRY);
        }
    }

    /// Whoever knows nobody on the channel asks whom it meets at once: its ledger may have been
    /// waiting for that. Those who start together know nothing yet, so it is not done over and over.
    fn meet(&mut self, now: Moment, peer: &PkiId, view: &View<'_>) {
        let org = view.identities.org_of(peer);
        let knows_nobody = self.roster.len() == usize::from(self.roster.own().is_some());
        if knows_nobody && org.is_some_and(|org| self.has_org(org)) {
            let at = self
                .asked
                .map_or(now, |asked| now.max(asked + LONELY_RETRY));
            self.next_request = self.next_request.min(at);
        }
    }

    fn request_state_infos(&mut self, now: Moment, view: &View<'_>, out: &mut Vec<Effect>) {
        self.next_request = now + self.config.request_state_info_interval;
        if self.own.has_left() {
            return;
        }
        let members: Vec<&Member> = view
            .discovery
            .alive()
            .filter(|member| {
                let org = view.identities.org_of(&member.peer);
                org.is_some_and(|org| self.has_org(org))
            })
            .collect();
        if members.is_empty() {
            self.next_request = now + LONELY_RETRY.min(self.config.request_state_info_interval);
            return;
        }
        self.asked = Some(now);
        let channel_mac = Bytes::copy_from_slice(&mac(&view.me.identity.pki_id, &self.id));
        let mut known: BTreeMap<&OrgId, Bytes> = BTreeMap::new();
        for member in random::pick(&mut self.rng, &members, self.config.pull_peer_num) {
            let known = known.entry(&member.org).or_insert_with(|| {
                let known = self.roster.known_with(&member.org, view);
                Summary::of(self.rng.random(), &known).to_wire()
            });
            let content = Content::StateInfoPullReq(StateInfoPullRequest {
                channel_mac: channel_mac.clone(),
                known: known.clone(),
            });
            let message = wire::gossip_message(0, None, Tag::ChanOrOrg, content);
            out.push(Effect::Send {
                to: member.destination(),
                envelope: wire::unsigned(&message),
            });
        }
    }

    fn pull_blocks(&mut self, now: Moment, view: &View<'_>, out: &mut Vec<Effect>) {
        let candidates: Vec<Destination> = if self.blocks.begins_round(now) && !self.own.has_left()
        {
            let own = Some(&view.me.identity.org);
            let members = self.roster.present(view).map(|peer| peer.member);
            let members = members.filter(|member| view.identities.org_of(&member.peer) == own);
            self.blocks.candidates(now, members.collect())
        } else {
            Vec::new()
        };
        let mut effects = Vec::new();
        self.blocks.tick(now, &candidates, &mut effects);
        out.extend(effects.into_iter().map(Effect::from));
    }

    /// Numbers of the blocks for which there is room on the way to the ledger.
    fn wanted(&self) -> Range<u64> {
        let height = self.own.height();
        height..height.saturating_add(self.config.state.block_buffer_size)
    }

    fn emit_block(&self, block: &VerifiedBlock, source: Option<PkiId>) -> Effect {
        Effect::Emit(Outgoing {
            subject: Subject::Block(self.id.clone(), block.number),
            envelope: block.envelope(&self.id),
            source,
        })
    }
}

impl From<pull::Effect> for Effect {
    fn from(effect: pull::Effect) -> Self {
        match effect {
            pull::Effect::Send { to, envelope } => Self::Send { to, envelope },
            pull::Effect::Reply {
                connection,
                envelope,
            } => Self::Reply {
                connection,
                envelope,
            },
        }
    }
}

#[cfg(test)]
mod tests;
