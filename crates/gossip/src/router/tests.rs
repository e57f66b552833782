//! Who is sent what, class by class, and who is not.

use std::{collections::BTreeSet, sync::Arc};

use super::*;
use crate::{
    message::PeerIdentity,
    scene::{SEED, Scene, block_envelope, state_info},
    toy::{self, Speech},
};

/// Two peers of our organization, `a` and `hidden` (which has no external endpoint), two of `B`,
/// one of which has none either, and one of `C`, which is not in the channel.
struct Table {
    scene: Scene,
    channels: BTreeMap<ChannelId, Channel>,
    router: Router,
}

impl Table {
    fn new(fanout: usize) -> Self {
        let config = Config {
            propagate_peer_num: fanout,
            ..Config::default()
        };
        let mut scene = Scene::new(config);
        scene.meet("A", "a");
        scene.meet_at("A", "hidden", "");
        scene.meet("B", "b");
        scene.meet_at("B", "shy", "");
        scene.meet("C", "c");
        let channels = BTreeMap::from([("ch".into(), scene.channel())]);
        let router = Router::new(&scene.config, &SEED);
        Self {
            scene,
            channels,
            router,
        }
    }

    /// Lets the channel hear of these peers.
    fn hears(&mut self, peers: &[&Arc<PeerIdentity>]) {
        let channel = self.channels.get_mut(&"ch".into()).unwrap();
        for peer in peers {
            self.scene.hears(channel, peer, 5);
        }
    }

    fn route(&mut self, batch: Vec<Outgoing>) -> Vec<Effect> {
        let mut out = Vec::new();
        let view = self.scene.view();
        self.router.route(batch, &view, &self.channels, &mut out);
        out
    }

    /// Who gets this message, if all who may get it do.
    fn reach(&mut self, message: Outgoing) -> Vec<String> {
        let envelope = message.envelope.clone();
        let mut names: Vec<String> = sends(&self.route(vec![message]))
            .into_iter()
            .map(|(to, sent)| {
                assert_eq!(sent.payload, envelope.payload);
                assert_eq!(sent.signature, envelope.signature);
                to
            })
            .collect();
        names.sort();
        names
    }
}

fn name_of(peer: &PkiId) -> String {
    let all = [
        ("A", "me"),
        ("A", "a"),
        ("A", "hidden"),
        ("A", "a2"),
        ("B", "b"),
        ("B", "shy"),
        ("C", "c"),
    ];
    let found = all
        .iter()
        .find(|(org, name)| toy::identity(org, name).pki_id == *peer);
    found.map_or_else(|| peer.to_string(), |(_, name)| (*name).to_owned())
}

fn sends(out: &[Effect]) -> Vec<(String, Envelope)> {
    out.iter()
        .map(|effect| match effect {
            Effect::Send { to, envelope } => (name_of(&to.peer), envelope.clone()),
            Effect::Notify(notice) => panic!("{notice:?}"),
        })
        .collect()
}

fn alive(speaker: &Arc<PeerIdentity>, external: &str, internal: &str) -> Outgoing {
    Outgoing {
        subject: Subject::Alive {
            speaker: speaker.pki_id,
            external_endpoint: external.to_owned(),
        },
        envelope: Speech::of(speaker, external, internal).envelope(),
        source: None,
    }
}

fn block(number: u64, source: Option<PkiId>) -> Outgoing {
    Outgoing {
        subject: Subject::Block("ch".into(), number),
        envelope: block_envelope(number),
        source,
    }
}

fn leadership(source: Option<PkiId>) -> Outgoing {
    Outgoing {
        subject: Subject::Leadership("ch".into()),
        ..block(0, source)
    }
}

fn about_channel(speaker: &Arc<PeerIdentity>, joined: bool) -> Outgoing {
    Outgoing {
        subject: Subject::StateInfo {
            speaker: speaker.pki_id,
            channel: joined.then(|| "ch".into()),
        },
        envelope: state_info(speaker, "ch", 1, 1).envelope,
        source: None,
    }
}

#[test]
fn s_n8_secrets_never_leave_the_own_organization() {
    let mut t = Table::new(9);
    let own = toy::identity("A", "me");
    let message = alive(&own, "me.example:1", "me:1");
    assert!(message.envelope.secret_envelope.is_some());
    for (to, envelope) in sends(&t.route(vec![message])) {
        let is_own = ["a", "hidden"].contains(&to.as_str());
        assert_eq!(envelope.secret_envelope.is_some(), is_own, "{to}");
    }
}

#[test]
fn an_own_sign_of_life_with_an_external_endpoint_reaches_everybody() {
    let mut t = Table::new(9);
    let own = toy::identity("A", "me");
    assert_eq!(
        t.reach(alive(&own, "me.example:1", "me:1")),
        ["a", "b", "c", "hidden", "shy"]
    );
}

#[test]
fn s_n9_a_third_organization_hears_nothing_of_another() {
    let mut t = Table::new(9);
    let b2 = t.scene.know("B", "b2");
    let reached = t.reach(alive(&b2, "b2.example:1", ""));
    assert_eq!(
        reached,
        ["a", "b"],
        "not c, and nobody without an external endpoint"
    );
    let stranger = toy::identity("D", "d");
    assert_eq!(t.reach(alive(&stranger, "d.example:1", "")), [""; 0]);
}

#[test]
fn s_n10_an_own_sign_of_life_without_external_endpoint_stays_at_home() {
    let mut t = Table::new(9);
    let hidden = toy::identity("A", "hidden");
    assert_eq!(t.reach(alive(&hidden, "", "hidden:1")), ["a"]);
    let own = toy::identity("A", "me");
    assert_eq!(t.reach(alive(&own, "", "me:1")), ["a", "hidden"]);
}

#[test]
fn s_n11_blocks_stay_with_own_members_of_the_channel() {
    let mut t = Table::new(9);
    assert_eq!(t.reach(block(7, None)), [""; 0], "nobody said anything yet");
    assert_eq!(t.reach(leadership(None)), [""; 0]);
    let (a, b) = (toy::identity("A", "a"), toy::identity("B", "b"));
    t.hears(&[&a, &b]);
    assert_eq!(t.reach(block(7, None)), ["a"]);
    assert_eq!(t.reach(leadership(None)), ["a"]);
}

#[test]
fn leadership_goes_to_all_however_small_the_fanout() {
    let mut t = Table::new(1);
    let (a, hidden) = (toy::identity("A", "a"), toy::identity("A", "hidden"));
    t.hears(&[&a, &hidden]);
    assert_eq!(t.reach(leadership(None)), ["a", "hidden"]);
    assert_eq!(t.reach(leadership(Some(a.pki_id))), ["hidden"]);
}

#[test]
fn messages_of_a_channel_that_we_are_not_in_are_dropped_aloud() {
    let mut t = Table::new(9);
    t.channels.clear();
    let out = t.route(vec![block(1, None), block(2, None), leadership(None)]);
    assert_eq!(out.len(), 2);
    for effect in out {
        assert!(matches!(effect, Effect::Notify(Notice::Warning(_))));
    }
}

#[test]
fn all_blocks_of_a_batch_go_the_same_way_and_never_back() {
    let mut t = Table::new(1);
    let (a, hidden) = (toy::identity("A", "a"), toy::identity("A", "hidden"));
    t.hears(&[&a, &hidden]);
    let mut ways = BTreeSet::new();
    for _ in 0..20 {
        let out = sends(&t.route(vec![block(1, None), block(2, None), block(3, None)]));
        let to: BTreeSet<_> = out.iter().map(|(to, _)| to.clone()).collect();
        assert_eq!((out.len(), to.len()), (3, 1));
        ways.extend(to);
        let out = sends(&t.route(vec![
            block(1, Some(a.pki_id)),
            block(2, Some(hidden.pki_id)),
        ]));
        let to: Vec<_> = out.iter().map(|(to, _)| to.as_str()).collect();
        assert_eq!(
            to,
            ["hidden", "a"],
            "each has one to go to, though one only is chosen"
        );
    }
    assert_eq!(ways.len(), 2, "the choice is random");
}

#[test]
fn a_source_never_costs_a_receiver() {
    let mut t = Table::new(2);
    let a2 = t.scene.meet("A", "a2");
    let (a, hidden) = (toy::identity("A", "a"), toy::identity("A", "hidden"));
    t.hears(&[&a, &hidden, &a2]);
    for _ in 0..20 {
        assert_eq!(t.reach(block(1, Some(a.pki_id))), ["a2", "hidden"]);
        assert_eq!(t.reach(block(1, None)).len(), 2);
    }
}

/// A channel of six of our organization, of whom `z` does as Fabric, and `me`.
fn company(fanout: usize) -> (Table, Vec<Arc<PeerIdentity>>) {
    let mut t = Table::new(fanout);
    let more = ["x", "y", "w", "z"].map(|name| t.scene.meet("A", name));
    let mut peers = vec![toy::identity("A", "a"), toy::identity("A", "hidden")];
    peers.extend(more);
    for peer in &peers {
        let mut info = state_info(peer, "ch", 1, 1);
        let is_plain = *peer == toy::identity("A", "z");
        info.extension.relay = if is_plain { 0 } else { RELAY_VERSION };
        let channel = t.channels.get_mut(&"ch".into()).unwrap();
        t.scene.hears_info(channel, peer, info);
    }
    (t, peers)
}

#[test]
fn blocks_go_by_the_order_to_those_who_keep_to_it_and_to_others_at_random() {
    let (mut t, peers) = company(3);
    let plain = toy::identity("A", "z").pki_id;
    let me = t.scene.me.identity.pki_id;
    let mut row: Vec<PkiId> = peers.iter().map(|peer| peer.pki_id).collect();
    row.retain(|peer| *peer != plain);
    row.push(me);
    row.sort();
    let place = row.iter().position(|peer| *peer == me).unwrap();
    let mut plainly = 0;
    for number in 0..600 {
        let out = t.route(vec![block(number, None)]);
        let mut to: Vec<PkiId> = out
            .iter()
            .map(|effect| match effect {
                Effect::Send { to, .. } => to.peer,
                Effect::Notify(notice) => panic!("{notice:?}"),
            })
            .collect();
        let before = to.len();
        to.retain(|peer| *peer != plain);
        plainly += before - to.len();
        let expected: Vec<PkiId> = relay::next(place, 6, number).map(|n| row[n]).collect();
        assert_eq!(to, expected, "{number}");
    }
    assert!((240..360).contains(&plainly), "three of six: {plainly}");
}

#[test]
fn a_block_does_not_go_back_to_where_it_came_from() {
    let (mut t, peers) = company(3);
    for (number, peer) in (0..60).zip(peers.iter().cycle()) {
        let out = t.route(vec![block(number, Some(peer.pki_id))]);
        let back =
            |effect: &Effect| matches!(effect, Effect::Send { to, .. } if to.peer == peer.pki_id);
        assert!(!out.iter().any(back));
    }
}

#[test]
fn who_has_blocks_from_an_orderer_is_sent_none_and_keeps_its_place() {
    let (mut t, peers) = company(3);
    let (supplied, plain) = (peers[0].pki_id, toy::identity("A", "z").pki_id);
    let routed = |t: &mut Table, number: u64| {
        let out = t.route(vec![block(number, None)]);
        let to = out.iter().filter_map(|effect| match effect {
            Effect::Send { to, .. } => Some(to.peer).filter(|to| *to != plain),
            Effect::Notify(_) => None,
        });
        to.collect::<Vec<PkiId>>()
    };
    let before: Vec<_> = (0..30).map(|number| routed(&mut t, number)).collect();
    assert!(before.iter().any(|to| to.contains(&supplied)));
    let mut info = state_info(&peers[0], "ch", 2, 2);
    info.extension.relay = RELAY_VERSION;
    info.extension.supplied = true;
    let channel = t.channels.get_mut(&"ch".into()).unwrap();
    t.scene.hears_info(channel, &peers[0], info);
    for (number, mut to) in (0..30).zip(before) {
        to.retain(|to| *to != supplied);
        assert_eq!(routed(&mut t, number), to, "{number}");
    }
}

#[test]
fn who_does_not_keep_to_the_order_sends_blocks_to_anybody() {
    let (mut t, _) = company(1);
    let mut ways = BTreeSet::new();
    for _ in 0..60 {
        let out = sends(&t.route(vec![block(1, None)]));
        assert_eq!(out.len(), 1);
        ways.extend(out.into_iter().map(|(to, _)| to));
    }
    assert_eq!(ways.len(), 6);
}

#[test]
fn whoever_reaches_all_needs_no_order() {
    let (mut t, _) = company(6);
    for number in 0..20 {
        assert_eq!(t.reach(block(number, None)).len(), 6, "{number}");
    }
}

#[test]
fn state_infos_reach_the_channel_only_if_their_speaker_can_be_reached() {
    let mut t = Table::new(9);
    let a = toy::identity("A", "a");
    let hidden = toy::identity("A", "hidden");
    assert_eq!(t.reach(about_channel(&a, true)), ["b", "hidden", "shy"]);
    assert_eq!(t.reach(about_channel(&hidden, true)), ["a"]);
    assert_eq!(t.reach(about_channel(&a, false)), ["hidden"]);
    let own = toy::identity("A", "me");
    assert_eq!(
        t.reach(about_channel(&own, true)),
        ["a", "b", "hidden", "shy"]
    );
    t.scene.me.external_endpoint.clear();
    assert_eq!(t.reach(about_channel(&own, true)), ["a", "hidden"]);
}

#[test]
fn internal_endpoints_are_preferred() {
    let mut t = Table::new(9);
    let own = toy::identity("A", "me");
    let mut endpoints: Vec<String> = t
        .route(vec![alive(&own, "me.example:1", "me:1")])
        .into_iter()
        .filter_map(|effect| match effect {
            Effect::Send { to, .. } => Some(to.endpoint),
            Effect::Notify(_) => None,
        })
        .collect();
    endpoints.sort();
    assert_eq!(
        endpoints,
        ["", "a:1", "b.example:1", "c.example:1", "hidden:1"]
    );
}
