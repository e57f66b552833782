//! Handing out private write sets.

use super::*;
use crate::{
    id::Ticket,
    privdata::distribute::{
        self, DISTRIBUTIONS_MAX, Distribution, Distributor, PrivateSet, SETS_MAX,
    },
};

struct Desk {
    table: Table,
    distributor: Distributor,
}

#[derive(Debug)]
struct Sent {
    whom: String,
    nonce: u64,
    collection: String,
}

impl Desk {
    /// Peers `a…` are of our organization.
    fn among(peers: &[&str]) -> Self {
        let mut table = Table::among(&[]);
        for name in peers {
            if name.starts_with('a') {
                table.meet_own(name, 9);
            } else {
                table.meet("B", name, 9);
            }
        }
        Self {
            distributor: Distributor::new(&table.scene.config, &SEED),
            table,
        }
    }

    fn feed(&mut self, input: distribute::Input) -> Vec<distribute::Effect> {
        let mut out = Vec::new();
        let Table {
            scene,
            channel,
            now,
            ..
        } = &self.table;
        let find = |id: &ChannelId| (id == channel.id()).then_some(channel);
        self.distributor
            .handle(*now, input, find, &scene.view(), &scene.ports, &mut out);
        out
    }

    fn distribute(&mut self, ticket: u64, sets: Vec<PrivateSet>) -> Vec<distribute::Effect> {
        self.feed(distribute::Input::Distribute(distribution(ticket, sets)))
    }

    fn ack(&mut self, sent: &Sent, error: &str) -> Vec<distribute::Effect> {
        let org = if sent.whom.starts_with('a') { "A" } else { "B" };
        self.feed(distribute::Input::Ack {
            from: toy::identity(org, &sent.whom).pki_id,
            nonce: sent.nonce,
            error: error.to_owned(),
        })
    }

    fn sent(&self, out: &[distribute::Effect]) -> Vec<Sent> {
        out.iter()
            .map(|effect| {
                let distribute::Effect::Send { to, envelope } = effect else {
                    panic!("a push expected: {effect:?}");
                };
                let message = opened(envelope);
                let Some(Content::PrivateData(data)) = message.content else {
                    panic!("a push expected");
                };
                let payload = data.payload.unwrap();
                let name = &payload.collection_name;
                assert_eq!(payload.tx_id, "tx");
                assert_eq!(payload.namespace, "cc");
                assert_eq!(payload.private_sim_height, 7);
                assert_eq!(payload.private_rwset, rwset_of(name));
                assert!(payload.collection_configs.is_some());
                Sent {
                    whom: self.table.names[&to.peer].clone(),
                    nonce: message.nonce,
                    collection: payload.collection_name,
                }
            })
            .collect()
    }
}

fn rwset_of(collection: &str) -> Bytes {
    Bytes::from(format!("writes of {collection}"))
}

fn set(orgs: &[&str], required: usize, maximum: usize) -> PrivateSet {
    let collection = orgs.concat();
    PrivateSet {
        namespace: "cc".to_owned(),
        rwset: rwset_of(&collection),
        configs: toy::collection(&collection, orgs),
        collection,
        required,
        maximum,
    }
}

fn distribution(ticket: u64, sets: Vec<PrivateSet>) -> Distribution {
    Distribution {
        ticket: Ticket(ticket),
        channel: "ch".into(),
        tx_id: "tx".to_owned(),
        sim_height: 7,
        sets,
    }
}

fn done(ticket: u64, result: Result<usize, &str>) -> distribute::Effect {
    distribute::Effect::Notify(Notice::Distributed {
        ticket: Ticket(ticket),
        result: result.map_err(str::to_owned),
    })
}

fn is_failure(out: &[distribute::Effect], about: &str) {
    let [
        distribute::Effect::Notify(Notice::Distributed {
            result: Err(why), ..
        }),
    ] = out
    else {
        panic!("a failure expected: {out:?}");
    };
    assert!(why.contains(about), "{why}");
}

fn names(sent: &[Sent]) -> Vec<&str> {
    let mut names: Vec<&str> = sent.iter().map(|sent| sent.whom.as_str()).collect();
    names.sort_unstable();
    names
}

#[test]
fn one_of_each_organization_comes_before_a_second_of_any() {
    let mut chosen = BTreeSet::new();
    let mut d = Desk::among(&["a1", "a2", "a3", "b1", "b2", "b3"]);
    for ticket in 0..40 {
        let out = d.distribute(ticket, vec![set(&["A", "B"], 0, 2)]);
        let sent = d.sent(&out);
        let names = names(&sent);
        assert!(names[0].starts_with('a') && names[1].starts_with('b'));
        chosen.extend(names.iter().map(|name| (*name).to_owned()));
        let out = d.distribute(100 + ticket, vec![set(&["A", "B"], 0, 4)]);
        assert_eq!(d.sent(&out).len(), 4);
    }
    assert_eq!(chosen.len(), 6, "by chance: {chosen:?}");
}

#[test]
fn only_members_by_the_definition_that_goes_along_are_sent_to() {
    let mut d = Desk::among(&["a1", "a2", "b1"]);
    let out = d.distribute(1, vec![set(&["B"], 1, 9)]);
    assert_eq!(names(&d.sent(&out)), ["b1"]);
    let out = d.distribute(2, vec![set(&["A", "B"], 1, 9)]);
    assert_eq!(names(&d.sent(&out)), ["a1", "a2", "b1"]);
}

#[test]
fn pd_g2_whoever_confirms_counts() {
    let mut d = Desk::among(&["b1", "b2", "b3"]);
    let out = d.distribute(1, vec![set(&["B"], 1, 3)]);
    let sent = d.sent(&out);
    assert_eq!(sent.len(), 3);
    assert_eq!(d.ack(&sent[0], "disk full"), []);
    assert_eq!(d.ack(&sent[2], ""), [done(1, Ok(1))]);
    assert_eq!(d.ack(&sent[1], ""), [], "it is over");
    assert_eq!(d.distributor.waiting(), 0);
}

#[test]
fn too_few_confirmations_are_a_failure_with_the_reasons() {
    let mut d = Desk::among(&["b1", "b2"]);
    let out = d.distribute(1, vec![set(&["B"], 2, 2)]);
    let sent = d.sent(&out);
    assert_eq!(d.ack(&sent[0], ""), []);
    is_failure(&d.ack(&sent[1], "disk full"), "disk full");
    d.distribute(2, vec![set(&["B"], 1, 2)]);
    assert_eq!(d.distributor.deadline(), Some(at(3000)));
    let mut out = Vec::new();
    d.distributor.tick(at(2999), &mut out);
    assert_eq!(out, []);
    d.distributor.tick(at(3000), &mut out);
    is_failure(&out, "timed out");
    assert_eq!(d.distributor.waiting(), 0);
}

#[test]
fn every_write_set_has_to_be_confirmed() {
    let mut d = Desk::among(&["a1", "b1"]);
    let out = d.distribute(1, vec![set(&["A"], 1, 1), set(&["B"], 1, 1)]);
    let sent = d.sent(&out);
    let collections: Vec<_> = sent.iter().map(|s| s.collection.as_str()).collect();
    assert_eq!(collections, ["A", "B"]);
    assert_eq!(d.ack(&sent[1], ""), []);
    assert_eq!(d.ack(&sent[0], ""), [done(1, Ok(2))]);
}

#[test]
fn nothing_is_sent_unless_there_are_enough_for_every_write_set() {
    let mut d = Desk::among(&["a1", "b1"]);
    let sets = vec![set(&["A"], 1, 1), set(&["B"], 2, 2)];
    is_failure(&d.distribute(1, sets), "2 peers must have cc/B, but only 1");
    is_failure(&d.distribute(2, vec![set(&["A"], 1, 0)]), "only 0");
    assert_eq!(d.distributor.waiting(), 0);
}

#[test]
fn where_nobody_must_have_it_nobody_is_needed() {
    let mut d = Desk::among(&["a1"]);
    assert_eq!(d.distribute(1, vec![]), [done(1, Ok(0))]);
    assert_eq!(d.distribute(2, vec![set(&["B"], 0, 3)]), [done(2, Ok(0))]);
    assert_eq!(d.distribute(3, vec![set(&["A"], 0, 0)]), [done(3, Ok(0))]);
    let out = d.distribute(4, vec![set(&["A"], 0, 1)]);
    let sent = d.sent(&out);
    assert_eq!(d.ack(&sent[0], "no"), [done(4, Ok(0))]);
}

#[test]
fn confirmations_count_from_whom_was_asked_only() {
    let mut d = Desk::among(&["b1", "b2"]);
    let out = d.distribute(1, vec![set(&["B"], 1, 1)]);
    let sent = d.sent(&out);
    let other = if sent[0].whom == "b1" { "b2" } else { "b1" };
    let forged = Sent {
        whom: other.to_owned(),
        nonce: sent[0].nonce,
        collection: String::new(),
    };
    assert_eq!(d.ack(&forged, ""), []);
    let replayed = Sent {
        whom: sent[0].whom.clone(),
        nonce: sent[0].nonce ^ 1,
        collection: String::new(),
    };
    assert_eq!(d.ack(&replayed, ""), []);
    assert_eq!(d.ack(&sent[0], ""), [done(1, Ok(1))]);
}

#[test]
fn distributions_are_bounded_and_have_each_a_ticket() {
    let mut d = Desk::among(&["b1"]);
    for ticket in 0..DISTRIBUTIONS_MAX as u64 {
        let out = d.distribute(ticket, vec![set(&["B"], 1, 1)]);
        assert_eq!(d.sent(&out).len(), 1);
    }
    let late = d.distribute(9999, vec![set(&["B"], 1, 1)]);
    is_failure(&late, "too many");
    assert_eq!(d.distributor.waiting(), DISTRIBUTIONS_MAX);
    let mut d = Desk::among(&["b1"]);
    d.distribute(1, vec![set(&["B"], 1, 1)]);
    is_failure(&d.distribute(1, vec![set(&["B"], 1, 1)]), "already");
    let many = vec![set(&["B"], 0, 0); SETS_MAX + 1];
    is_failure(&d.distribute(2, many), "257 write sets");
    let most = vec![set(&["B"], 0, 0); SETS_MAX];
    assert_eq!(d.distribute(3, most), [done(3, Ok(0))]);
}

#[test]
fn nothing_is_handed_out_on_channels_that_we_are_not_in() {
    let mut d = Desk::among(&["b1"]);
    let mut elsewhere = distribution(1, vec![set(&["B"], 1, 1)]);
    elsewhere.channel = "elsewhere".into();
    let out = d.feed(distribute::Input::Distribute(elsewhere));
    is_failure(&out, "we are not in elsewhere");
}
