//! Which organizations a channel has, and what its peers said last about themselves.

use std::collections::{BTreeMap, BTreeSet};

use rand::{RngExt, rngs::ChaCha8Rng};
use tidings_proto::gossip::Envelope;

use crate::{
    channel::ChannelPeer,
    discovery::Discovery,
    id::{ChannelId, OrgId, PkiId},
    input::JoinChannel,
    message::StateInfo,
    order::{self, Relation},
    ports::Ports,
    summary::{Known, Summary},
    view::View,
};

/// State infos kept for a channel. Many times the largest known channel; beyond it only peers
/// that are already in are heard, until the sweep has made room.
pub const STATE_INFOS_MAX: usize = 8192;

/// Largest sum of envelopes in one snapshot. What does not fit comes with another request, as
/// each snapshot begins somewhere else.
pub(super) const SNAPSHOT_BYTES_MAX: usize = 16 << 20;

#[derive(Debug)]
pub(super) struct Roster {
    channel: ChannelId,
    me: PkiId,
    sequence: u64,
    orgs: BTreeSet<OrgId>,
    infos: BTreeMap<PkiId, StateInfo>,
}

impl Roster {
    pub(super) fn new(channel: ChannelId, join: &JoinChannel, me: PkiId) -> Self {
        Self {
            channel,
            me,
            sequence: join.sequence,
            orgs: join.members.keys().cloned().collect(),
            infos: BTreeMap::new(),
        }
    }

    pub(super) fn orgs(&self) -> &BTreeSet<OrgId> {
        &self.orgs
    }

    pub(super) fn len(&self) -> usize {
        self.infos.len()
    }

    pub(super) fn get(&self, peer: &PkiId) -> Option<&StateInfo> {
        self.infos.get(peer)
    }

    pub(super) fn own(&self) -> Option<&StateInfo> {
        self.infos.get(&self.me)
    }

    pub(super) fn set_own(&mut self, info: StateInfo) {
        self.infos.insert(self.me, info);
    }

    /// Whether this configuration says something and is not older than the one we have.
    pub(super) fn may_configure(&self, join: &JoinChannel) -> Result<(), String> {
        if join.members.is_empty() {
            return Err("it has no members".to_owned());
        }
        if join.sequence < self.sequence {
            let (got, have) = (join.sequence, self.sequence);
            return Err(format!("its sequence {got} is below {have}"));
        }
        Ok(())
    }

    /// Takes the organizations of a configuration and looks at everybody again in its light. Unless
    /// a new life begins with it, it must not be older and must name somebody.
    pub(super) fn configure(
        &mut self,
        join: &JoinChannel,
        is_new_life: bool,
        ports: &impl Ports,
    ) -> Result<(), String> {
        if !is_new_life {
            self.may_configure(join)?;
        }
        self.sequence = join.sequence;
        self.orgs = join.members.keys().cloned().collect();
        let mut infos = std::mem::take(&mut self.infos);
        infos.retain(|peer, info| *peer == self.me || self.admit(info, ports).is_ok());
        self.infos = infos;
        Ok(())
    }

    /// Takes a state info if it is news; tells whether it was.
    pub(super) fn add(&mut self, info: StateInfo, ports: &impl Ports) -> Result<bool, String> {
        let stored = self.infos.get(&info.peer);
        if stored.is_some_and(|s| order::by_time(info.time, s.time) == Relation::Invalidated) {
            return Ok(false);
        }
        if stored.is_none() && self.infos.len() >= STATE_INFOS_MAX {
            return Err(format!("{STATE_INFOS_MAX} peers are known already"));
        }
        self.admit(&info, ports)?;
        self.infos.insert(info.peer, info);
        Ok(true)
    }

    /// Removes peers that discovery does not know, alive or dead.
    pub(super) fn sweep(&mut self, discovery: &Discovery) {
        let me = self.me;
        self.infos
            .retain(|peer, _| *peer == me || discovery.member(peer).is_some());
    }

    /// Those who are alive, known and have not left, ourselves left out.
    pub(super) fn present<'a>(&'a self, view: &View<'a>) -> impl Iterator<Item = ChannelPeer<'a>> {
        let identities = view.identities;
        view.discovery
            .alive()
            .filter(|member| identities.identity(&member.peer).is_some())
            .filter_map(|member| {
                let info = self.get(&member.peer)?;
                (!info.left_channel).then_some(ChannelPeer { member, info })
            })
    }

    /// What a peer of this organization may know, as far as it does not know it already.
    pub(super) fn snapshot_for(
        &self,
        org: &OrgId,
        known: Option<&Summary>,
        view: &View<'_>,
        rng: &mut ChaCha8Rng,
    ) -> Vec<Envelope> {
        let difference = known.map(|known| known.difference(&self.known_with(org, view)));
        let is_news = |info: &&StateInfo| {
            let difference = difference.as_ref();
            difference.is_none_or(|difference| difference.concerns(&info.peer))
        };
        let visible: Vec<&StateInfo> = self.visible(org, view).filter(is_news).collect();
        let start = match visible.len() {
            0 => 0,
            len => rng.random_range(0..len),
        };
        let mut bytes = 0_usize;
        let (before, after) = visible.split_at(start);
        after
            .iter()
            .chain(before)
            .map(|info| info.envelope.clone())
            .take_while(|envelope| {
                bytes = bytes.saturating_add(envelope.wire_len());
                bytes <= SNAPSHOT_BYTES_MAX
            })
            .collect()
    }

    /// What we and a peer of this organization may both know.
    pub(super) fn known_with(&self, org: &OrgId, view: &View<'_>) -> Known {
        let time = |info: &StateInfo| (info.time.incarnation, info.time.sequence);
        self.visible(org, view)
            .map(|info| (info.peer, time(info)))
            .collect()
    }

    /// Our own organization may know everything, others nothing about our peers without an
    /// external endpoint.
    fn visible<'a>(&'a self, org: &OrgId, view: &View<'a>) -> impl Iterator<Item = &'a StateInfo> {
        let (own, view) = (&view.me.identity.org, *view);
        let is_own = org == own;
        self.infos
            .values()
            .filter(move |info| is_own || info.identity.org != *own || is_external(info, &view))
    }

    fn admit(&self, info: &StateInfo, ports: &impl Ports) -> Result<(), String> {
        if !self.orgs.contains(&info.identity.org) {
            let org = &info.identity.org;
            return Err(format!("{} of {org} is not in {}", info.peer, self.channel));
        }
        if !ports.is_reader(&self.channel, &info.identity) {
            return Err(format!("{} may not read {}", info.peer, self.channel));
        }
        Ok(())
    }
}

fn is_external(info: &StateInfo, view: &View<'_>) -> bool {
    if info.peer == view.me.identity.pki_id {
        return !view.me.external_endpoint.is_empty();
    }
    let member = view.discovery.member(&info.peer);
    member.is_some_and(|member| !member.endpoint.is_empty())
}
