//! Telling each other whom we know.

use std::collections::BTreeMap;

use rand::{RngExt, rngs::ChaCha8Rng};
use tidings_proto::gossip::Envelope;

use super::{Discovery, Effect, Member, World, refused, voice};
use crate::{
    disclosure::{self, Party},
    effect::Destination,
    id::PkiId,
    message::Alive,
    ports::Ports,
    summary::Summary,
};

/// Largest sum of envelopes in one answer, many times what the largest known network needs.
/// What does not fit comes with another request, as each answer begins somewhere else.
pub(super) const RESPONSE_BYTES_MAX: usize = 16 << 20;

impl Discovery {
    /// Answers whoever asks, also when what it says about itself is old.
    pub(super) fn requested(
        &mut self,
        world: &World<'_, impl Ports>,
        nonce: u64,
        about: &Alive,
        known: Option<&Summary>,
        out: &mut Vec<Effect>,
    ) {
        let me = world.me;
        if about.peer == me.identity.pki_id {
            return;
        }
        if self.heard.is_news(&about.peer, about.time) && self.knows_identity(world, about) {
            self.update(world, about, out);
        }
        let to = Party {
            org: world.identities.org_of(&about.peer),
            external_endpoint: &about.endpoint,
        };
        let subject = Party {
            org: Some(&me.identity.org),
            external_endpoint: &me.external_endpoint,
        };
        if !disclosure::may_disclose(&me.identity.org, subject, to) {
            let reason = "it may not know of this node".to_owned();
            out.push(refused(about.peer, "D-S10", reason));
            out.push(Effect::Close(about.peer));
            return;
        }
        if !self.answered.answers(world.now, about.peer) {
            let reason = "it asks for the membership too often".to_owned();
            out.push(refused(about.peer, "M-S3", reason));
            return;
        }
        let internal = about.internal_endpoint.as_ref();
        out.push(Effect::Send {
            to: Destination {
                peer: about.peer,
                endpoint: internal.unwrap_or(&about.endpoint).clone(),
            },
            envelope: self.response(world, nonce, to, known),
        });
    }

    /// Ourselves, then the living, then the dead, as far as there is room and the requester does not
    /// know it already.
    fn response(
        &mut self,
        world: &World<'_, impl Ports>,
        nonce: u64,
        to: Party<'_>,
        known: Option<&Summary>,
    ) -> Envelope {
        let me = world.me;
        let may_know = |member: &Member| {
            let subject = Party {
                org: world.identities.org_of(&member.peer),
                external_endpoint: &member.endpoint,
            };
            disclosure::may_disclose(&me.identity.org, subject, to)
        };
        let difference = known.map(|known| {
            let mut ours = self.known_if(may_know);
            ours.insert(me.identity.pki_id, (me.incarnation_ns, 1));
            known.difference(&ours)
        });
        let is_news = |peer: &PkiId| {
            let difference = difference.as_ref();
            difference.is_none_or(|difference| difference.concerns(peer))
        };
        // Who is of our mind believes us to be alive: what all have heard is news enough.
        let oldest = match is_news(&me.identity.pki_id) {
            true => self.config.alive_time_interval,
            false => self.own_period.max(self.config.alive_time_interval),
        };
        let (voice, period) = (&mut self.voice, self.own_period);
        let own = voice.recent(world.now, oldest, period, me, world.ports);
        let own = disclosure::for_org(&me.identity.org, to.org, &own.envelope);
        let disclosed = |member: &Member| {
            (is_news(&member.peer) && may_know(member))
                .then(|| disclosure::for_org(&me.identity.org, to.org, &member.envelope))
        };
        let mut room = RESPONSE_BYTES_MAX.saturating_sub(own.wire_len());
        let (members, rng) = (&self.members, &mut self.rng);
        let mut alive = some_of(members.alive(), disclosed, rng, &mut room);
        alive.push(own);
        let dead = some_of(members.dead(), disclosed, rng, &mut room);
        voice::response(nonce, alive, dead)
    }

    /// What somebody knows. Nobody whom we know is declared dead by others.
    pub(super) fn responded(
        &mut self,
        world: &World<'_, impl Ports>,
        from: PkiId,
        alive: &[Alive],
        dead: &[Alive],
        out: &mut Vec<Effect>,
    ) {
        let own = world.me.identity.pki_id;
        self.questions.answered(&from);
        for about in alive {
            if self.is_worth(world, own, about) {
                self.update(world, about, out);
            }
        }
        for about in dead {
            if self.is_worth(world, own, about) && self.makes_room(world, about, out) {
                self.members.learn_dead(world.now, about);
            }
        }
        self.doubt(world, dead, out);
    }

    fn is_worth(&self, world: &World<'_, impl Ports>, own: PkiId, about: &Alive) -> bool {
        about.peer != own
            && self.heard.is_news(&about.peer, about.time)
            && self.knows_identity(world, about)
    }

    fn knows_identity(&self, world: &World<'_, impl Ports>, about: &Alive) -> bool {
        world.identities.identity(&about.peer).is_some()
    }
}

/// What may be disclosed, from a random member on, as far as there is room.
fn some_of(
    members: &BTreeMap<PkiId, Member>,
    disclosed: impl Fn(&Member) -> Option<Envelope>,
    rng: &mut ChaCha8Rng,
    room: &mut usize,
) -> Vec<Envelope> {
    let envelopes: Vec<Envelope> = members.values().filter_map(disclosed).collect();
    let start = match envelopes.len() {
        0 => 0,
        len => rng.random_range(0..len),
    };
    let (before, after) = envelopes.split_at(start);
    let fits = |envelope: &&Envelope| match room.checked_sub(envelope.wire_len()) {
        Some(left) => {
            *room = left;
            true
        }
        None => false,
    };
    after
        .iter()
        .chain(before)
        .take_while(fits)
        .cloned()
        .collect()
}
