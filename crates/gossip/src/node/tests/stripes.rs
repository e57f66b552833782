//! Dissemination by stripes in the company of the other components.

use super::*;
use crate::{
    dissemination::{Leader, message::Message as Said},
    message::{Extension, STRIPE_VERSION},
    wire,
};

fn taking_stripes(config: Config) -> Config {
    Config {
        stripe: true,
        ..config
    }
}

fn ack() -> Message {
    Message::Stripe {
        channel: "ch".into(),
        message: Said::Ack {
            number: 1,
            stripe: 0,
        },
    }
}

impl Table {
    /// A living member of the channel, which takes stripes or does not.
    fn meet_on_channel(&mut self, name: &str, stripe: u32) -> Arc<PeerIdentity> {
        let peer = self.meet("A", name);
        let mut info = state_info(&peer, "ch", 1, 1);
        info.extension = Extension {
            stripe,
            ..Extension::default()
        };
        self.receive(&peer, Message::StateInfo(Box::new(info)));
        peer
    }

    /// Ticks whenever something falls due, until then.
    fn run_until(&mut self, end: Moment) -> Vec<Effect> {
        let mut out = Vec::new();
        while let Some(due) = self.node.deadline().filter(|due| *due <= end) {
            let now = self.now.max(due);
            out.extend(self.tick(now));
        }
        out
    }
}

#[test]
fn st_s3_stripes_are_for_members_of_our_organization_and_for_those_who_announced_them() {
    let mut t = Table::in_channel(follower());
    let peer = t.meet_on_channel("x", STRIPE_VERSION);
    refused(&peer, "ST-S3", &t.receive(&peer, ack()));

    let mut t = Table::in_channel(taking_stripes(follower()));
    let foreign = t.meet("B", "foreign");
    refused(&foreign, "ST-S3", &t.receive(&foreign, ack()));
    let silent = t.meet("A", "silent");
    refused(&silent, "ST-S3", &t.receive(&silent, ack()));
    let peer = t.meet_on_channel("x", STRIPE_VERSION);
    t.run_until(at(500));
    assert_eq!(t.receive(&peer, ack()), []);
    let elsewhere = Message::Stripe {
        channel: "elsewhere".into(),
        message: Said::Ack {
            number: 1,
            stripe: 0,
        },
    };
    refused(&peer, "S-N6", &t.receive(&peer, elsewhere));
}

#[test]
fn the_leader_sends_stripes_to_those_who_take_them_and_pushes_to_the_others() {
    let mut t = Table::in_channel(taking_stripes(leader()));
    let taker = t.meet_on_channel("taker", STRIPE_VERSION);
    let plain = t.meet_on_channel("plain", 0);
    t.run_until(at(500));
    let mut out = t.feed(Input::Offered {
        channel: "ch".into(),
        block: block(1),
    });
    out.extend(t.run_until(at(600)));
    let mut stripes = Vec::new();
    for effect in &out {
        if let Effect::Stripe {
            to,
            message: Said::Chunk(_),
            ..
        } = effect
        {
            stripes.push(to.peer);
        }
    }
    assert_eq!(stripes, [taker.pki_id], "{out:?}");
    let pushed = wire::block(&"ch".into(), 1, block(1).bytes);
    let given = out.iter().filter_map(|effect| match effect {
        Effect::Send { to, envelope } if *envelope == pushed => Some(to.peer),
        _ => None,
    });
    let given: Vec<_> = given.collect();
    assert!(
        given.is_empty() || given == [plain.pki_id],
        "it looks after it, or the taker does; and nobody gets it in two ways"
    );
}

#[test]
fn where_nobody_takes_stripes_blocks_are_pushed() {
    let mut t = Table::in_channel(taking_stripes(leader()));
    let plain = t.meet_on_channel("plain", 0);
    t.run_until(at(500));
    let mut out = t.feed(Input::Offered {
        channel: "ch".into(),
        block: block(1),
    });
    out.extend(t.run_until(at(600)));
    let pushed = wire::block(&"ch".into(), 1, block(1).bytes);
    let count = out
        .iter()
        .filter(|effect| match effect {
            Effect::Send { to, envelope } => *envelope == pushed && to.peer == plain.pki_id,
            _ => false,
        })
        .count();
    assert_eq!(count, 1, "{out:?}");
}

/// A peer of our organization whose PKI-ID is above ours.
fn higher(t: &Table) -> String {
    let me = t.node.me.identity.pki_id;
    let mut names = (0..).map(|number| number.to_string());
    names
        .find(|name| identity("A", name).pki_id > me)
        .expect("half of all are higher")
}

fn declaration(of: &Arc<PeerIdentity>) -> Message {
    Message::Leadership(Leadership {
        channel: "ch".into(),
        peer: of.pki_id,
        time: toy::time(1, 1),
        is_declaration: true,
        envelope: Default::default(),
    })
}

fn electing() -> Config {
    Config {
        use_leader_election: true,
        ..follower()
    }
}

#[test]
fn who_is_appointed_knows_that_others_may_be_too() {
    let t = Table::in_channel(taking_stripes(leader()));
    assert_eq!(t.node.stripes[&"ch".into()].leader, Leader::MeAmongOthers);
}

#[test]
fn who_leads_stays_the_same_through_higher_declarations_and_configurations() {
    let leader = |t: &Table| t.node.stripes[&"ch".into()].leader;
    let mut t = Table::in_channel(taking_stripes(electing()));
    let other = t.meet_on_channel(&higher(&t), STRIPE_VERSION);
    assert_eq!(leader(&t), Leader::Unknown);
    t.run_until(at(9000));
    assert_eq!(leader(&t), Leader::Me, "nobody else proposed");
    t.receive(&other, declaration(&other));
    t.join("ch", join(2, &["A", "B"]));
    t.run_until(at(12_000));
    assert_eq!(leader(&t), Leader::Me, "the other one steps down");

    let mut t = Table::in_channel(taking_stripes(electing()));
    let other = t.meet_on_channel(&higher(&t), STRIPE_VERSION);
    t.receive(&other, declaration(&other));
    t.join("ch", join(2, &["A", "B"]));
    t.run_until(at(9000));
    assert_eq!(leader(&t), Leader::Peer(other.pki_id));
}
