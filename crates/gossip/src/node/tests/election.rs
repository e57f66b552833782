//! The election between the channel that hears, the emitter that speaks and the delivery that
//! follows.

use super::*;
use crate::config::ElectionConfig;

fn elector() -> Config {
    Config {
        use_leader_election: true,
        ..Config::default()
    }
}

fn declaration(of: &Arc<PeerIdentity>, channel: &str, sequence: u64) -> Message {
    Message::Leadership(Leadership {
        channel: channel.into(),
        peer: of.pki_id,
        time: toy::time(1, sequence),
        is_declaration: true,
        envelope: Default::default(),
    })
}

/// Somebody of our organization whose PKI-ID is lower than ours.
fn lower(t: &Table) -> String {
    let own = t.node.me().identity.pki_id;
    let mut names = (0..100).map(|n| format!("peer{n}"));
    let is_lower = |name: &String| identity("A", name).pki_id < own;
    names.find(is_lower).unwrap()
}

/// Works off every deadline until then.
fn until(t: &mut Table, end: Moment) -> Vec<Effect> {
    let mut out = Vec::new();
    while let Some(due) = t.node.deadline().filter(|due| *due <= end) {
        out.extend(t.tick(due.max(t.now)));
    }
    t.now = end;
    out
}

fn endpoints() -> Input {
    Input::Delivery {
        channel: "ch".into(),
        event: delivery::Event::Endpoints(vec!["orderer:1".to_owned()]),
    }
}

fn commands(out: &[Effect]) -> Vec<&delivery::Command> {
    let mut all = Vec::new();
    for effect in out {
        if let Effect::Deliver { command, .. } = effect {
            all.push(command);
        }
    }
    all
}

fn leads(t: &Table, channel: &str) -> bool {
    t.node.is_leading(&channel.into())
}

/// In channel `ch` and its leader.
fn elected() -> Table {
    let mut t = Table::in_channel(elector());
    t.feed(endpoints());
    let out = until(&mut t, at(5900));
    assert_eq!(commands(&out), Vec::<&delivery::Command>::new());
    let out = until(&mut t, at(6100));
    assert!(matches!(
        commands(&out)[..],
        [delivery::Command::Connect { .. }]
    ));
    assert!(leads(&t, "ch"));
    t
}

#[test]
fn s_e1_a_declaration_of_somebody_outside_the_view_is_ignored() {
    let mut t = Table::in_channel(elector());
    // Alive, but not known to be on the channel.
    let mute = t.meet("A", "mute");
    refused(
        &mute,
        "S-E1",
        &t.receive(&mute, declaration(&mute, "ch", 1)),
    );
    // On the channel, but dead.
    let dead = t.meet("A", "dead");
    t.say(&dead, &dead, "ch");
    t.feed(Input::Unreachable(dead.pki_id));
    refused(
        &dead,
        "S-E1",
        &t.receive(&dead, declaration(&dead, "ch", 1)),
    );
    // On the channel, but of another organization.
    let foreign = t.meet("B", "foreign");
    t.say(&foreign, &foreign, "ch");
    refused(
        &foreign,
        "S-C9",
        &t.receive(&foreign, declaration(&foreign, "ch", 1)),
    );
    until(&mut t, at(7000));
    assert!(leads(&t, "ch"), "as if nobody had spoken");
}

#[test]
fn s_e1_a_declaration_counts_once_and_from_members_only() {
    let mut t = Table::in_channel(elector());
    let a = t.meet("A", "a");
    t.say(&a, &a, "ch");
    assert_eq!(t.receive(&a, declaration(&a, "ch", 1)), []);
    until(&mut t, at(9000));
    assert_eq!(t.receive(&a, declaration(&a, "ch", 1)), [], "a replay");
    until(&mut t, at(14_900));
    assert!(
        !leads(&t, "ch"),
        "follows for ten seconds, proposes for five"
    );
    until(&mut t, at(15_100));
    assert!(leads(&t, "ch"));
}

#[test]
fn s_e2_a_declaration_on_one_channel_means_nothing_to_another() {
    let mut t = Table::in_channel(elector());
    t.join("other", join(1, &["A", "B"]));
    let a = t.meet("A", "a");
    t.say(&a, &a, "ch");
    t.say(&a, &a, "other");
    assert_eq!(t.receive(&a, declaration(&a, "other", 1)), []);
    until(&mut t, at(7000));
    assert!(leads(&t, "ch"));
    assert!(!leads(&t, "other"));
}

#[test]
fn s_v2_a_static_leader_and_a_passive_peer_take_no_part() {
    for (config, is_leading) in [(leader(), true), (follower(), false)] {
        let mut t = Table::in_channel(config);
        let low = lower(&t);
        let low = t.meet("A", &low);
        t.say(&low, &low, "ch");
        assert_eq!(t.receive(&low, declaration(&low, "ch", 1)), []);
        let out = until(&mut t, at(20_000));
        assert_eq!(leadership_to(&out), []);
        assert_eq!(leads(&t, "ch"), is_leading);
    }
}

/// To whom leadership messages went.
fn leadership_to(out: &[Effect]) -> Vec<PkiId> {
    use prost::Message as _;
    use tidings_proto::gossip::{GossipMessage, gossip_message::Content};
    let mut all = Vec::new();
    for effect in out {
        if let Effect::Send { to, envelope } = effect {
            let message = GossipMessage::decode(envelope.payload.clone()).unwrap();
            if matches!(message.content, Some(Content::LeadershipMsg(_))) {
                all.push(to.peer);
            }
        }
    }
    all.sort();
    all
}

#[test]
fn g_n3_leadership_goes_to_all_own_org_channel_members() {
    let mut t = Table::in_channel(elector());
    let mut members = Vec::new();
    for name in ["a", "b", "c", "d", "e", "f"] {
        let peer = t.meet("A", name);
        t.say(&peer, &peer, "ch");
        members.push(peer.pki_id);
    }
    members.sort();
    t.meet("A", "elsewhere");
    let foreign = t.meet("B", "foreign");
    t.say(&foreign, &foreign, "ch");
    let out = until(&mut t, at(5000));
    assert_eq!(leadership_to(&out), members, "the proposal");
    let out = until(&mut t, at(6500));
    assert_eq!(leadership_to(&out), members, "the declaration");
}

#[test]
fn an_elected_leader_stops_pulling_for_a_lower_one() {
    let mut t = elected();
    let low = lower(&t);
    let low = t.meet("A", &low);
    t.say(&low, &low, "ch");
    let out = t.receive(&low, declaration(&low, "ch", 1));
    assert_eq!(commands(&out), [&delivery::Command::Disconnect]);
    assert!(!leads(&t, "ch"));
}

#[test]
fn leaving_ends_leading_and_the_election_begins_anew_after_coming_back() {
    let mut t = elected();
    let out = t.feed(Input::Leave("ch".into()));
    assert_eq!(commands(&out), [&delivery::Command::Disconnect]);
    let out = until(&mut t, at(20_000));
    assert_eq!(commands(&out), Vec::<&delivery::Command>::new());
    t.join("ch", join(1, &["A", "B"]));
    until(&mut t, at(25_900));
    assert!(!leads(&t, "ch"));
    until(&mut t, at(26_100));
    assert!(leads(&t, "ch"));
}

#[test]
fn a_new_configuration_does_not_disturb_a_leader() {
    let mut t = elected();
    let out = t.join("ch", join(2, &["A", "B"]));
    assert_eq!(commands(&out), Vec::<&delivery::Command>::new());
    until(&mut t, at(30_000));
    assert!(leads(&t, "ch"));
}

#[test]
fn who_cannot_reach_the_orderers_makes_way_for_a_while() {
    let mut t = elected();
    let mut failures = 0;
    while leads(&t, "ch") {
        failures += 1;
        let out = t.feed(Input::Delivery {
            channel: "ch".into(),
            event: delivery::Event::Failed {
                stream: StreamId(failures),
                reason: "gone".to_owned(),
                forbidden: true,
            },
        });
        let gave_up = commands(&out) == [&delivery::Command::Disconnect];
        assert_eq!(gave_up, !leads(&t, "ch"));
    }
    assert_eq!(failures, 361, "ten seconds each, more than an hour");
    until(&mut t, at(6_100 + 60_000));
    assert!(!leads(&t, "ch"), "six times the threshold");
    until(&mut t, at(6_100 + 80_000));
    assert!(leads(&t, "ch"), "nobody else did");
}

#[test]
fn the_timers_are_those_of_the_settings() {
    let mut t = Table::in_channel(Config {
        election: ElectionConfig {
            startup_grace_period: Duration::from_secs(1),
            membership_sample_interval: Duration::from_millis(100),
            leader_alive_threshold: Duration::from_secs(2),
            leader_election_duration: Duration::from_millis(500),
        },
        ..elector()
    });
    until(&mut t, at(590));
    assert!(!leads(&t, "ch"));
    until(&mut t, at(600));
    assert!(leads(&t, "ch"));
}
