//! Private data on its way between peers and the owner.

use bytes::Bytes;
use sha2::{Digest as _, Sha256};
use tidings_proto::gossip::gossip_message::Content;

use super::*;
use crate::{
    message::{PrivateDigest, PrivateElement, PrivatePayload, PushedWrites},
    privdata::{
        Found, GatherKey, Missing, Wanted,
        distribute::{Distribution, PrivateSet},
    },
};

fn digest(block: u64) -> PrivateDigest {
    PrivateDigest {
        block,
        seq_in_block: 0,
        namespace: "cc".to_owned(),
        collection: "AB".to_owned(),
        tx_id: "tx".to_owned(),
    }
}

fn rwset() -> Bytes {
    Bytes::from_static(b"writes")
}

pub(super) fn push(channel: &str) -> Message {
    let pushed = PushedWrites {
        tx_id: "tx".to_owned(),
        namespace: "cc".to_owned(),
        collection: "AB".to_owned(),
        rwset: rwset(),
        sim_height: 1,
        configs: toy::collection("AB", &["A", "B"]),
    };
    Message::PrivateData {
        channel: channel.into(),
        nonce: 5,
        pushed: Ok(Box::new(pushed)),
    }
}

pub(super) fn request(channel: &str) -> Message {
    Message::PrivateRequest {
        channel: channel.into(),
        nonce: 5,
        digests: vec![digest(1)],
    }
}

pub(super) fn response(channel: &str, nonce: u64) -> Message {
    Message::PrivateResponse {
        channel: channel.into(),
        nonce,
        elements: vec![PrivateElement {
            digest: digest(1),
            payloads: vec![PrivatePayload {
                bytes: rwset(),
                hash: Sha256::digest(rwset()).into(),
            }],
        }],
    }
}

fn wanted(channel: &str) -> Input {
    Input::PrivateWanted {
        channel: channel.into(),
        key: GatherKey::Block(1),
        items: vec![Wanted {
            digest: digest(1),
            hash: Sha256::digest(rwset()).into(),
            may_differ: false,
            endorsers: vec![],
            member_orgs: ["A".into(), "B".into()].into(),
            block_to_live: 0,
        }],
        patience: Duration::from_secs(3),
    }
}

fn distribution(channel: &str, ticket: u64) -> Input {
    Input::Distribute(Distribution {
        ticket: Ticket(ticket),
        channel: channel.into(),
        tx_id: "tx".to_owned(),
        sim_height: 1,
        sets: vec![PrivateSet {
            namespace: "cc".to_owned(),
            collection: "AB".to_owned(),
            rwset: rwset(),
            configs: toy::collection("AB", &["A", "B"]),
            required: 1,
            maximum: 2,
        }],
    })
}

/// Everything that an owner may come up with, sensible or not.
pub(super) fn driven(what: usize, channel: &ChannelId, other: &Arc<PeerIdentity>, n: u64) -> Input {
    match what {
        0 => Input::PrivateStored {
            ticket: Ticket(FIRST_TICKET + n),
            result: Ok(()),
        },
        1 => Input::PrivateServed {
            ticket: Ticket(FIRST_TICKET + n),
        },
        2 if n.is_multiple_of(2) => Input::PrivateDoubted {
            channel: channel.clone(),
            peer: other.pki_id,
            reason: "worthless".to_owned(),
        },
        2 => distribution(channel.as_str(), n),
        _ => wanted(channel.as_str()),
    }
}

fn contents(out: &[Effect]) -> Vec<(PkiId, u64, Content)> {
    let sent = out.iter().filter_map(|effect| match effect {
        Effect::Send { to, envelope } => Some((to.peer, envelope)),
        _ => None,
    });
    sent.map(|(to, envelope)| {
        let message = envelope.clone().open().unwrap().message().clone();
        (to, message.nonce, message.content.unwrap())
    })
    .collect()
}

/// In channel `ch` with peer `b` of `B`.
fn with_peer() -> (Table, Arc<PeerIdentity>) {
    let mut t = Table::in_channel(follower());
    let b = t.meet("B", "b");
    t.say(&b, &b, "ch");
    (t, b)
}

#[test]
fn s_c3_private_data_is_no_matter_of_organizations_outside_the_channel() {
    let (mut t, _) = with_peer();
    let outsider = t.connect("C", "c");
    for message in [push("ch"), request("ch"), response("ch", 1)] {
        refused(&outsider, "S-C3", &t.receive(&outsider, message));
    }
}

#[test]
fn a_push_goes_to_the_owner_and_its_word_back_to_the_peer() {
    let (mut t, b) = with_peer();
    let out = t.receive(&b, push("ch"));
    let [
        Effect::StorePrivate {
            ticket,
            channel,
            from,
            pushed,
        },
    ] = &out[..]
    else {
        panic!("a push to be stored expected: {out:?}");
    };
    assert_eq!((channel.as_str(), from.peer()), ("ch", b.pki_id));
    assert_eq!(pushed.rwset, rwset());
    let served = Input::PrivateServed { ticket: *ticket };
    warned("no private data was asked for", &t.feed(served));
    let stored = |result| Input::PrivateStored {
        ticket: *ticket,
        result,
    };
    let out = t.feed(stored(Ok(())));
    let [Effect::Reply { connection, .. }] = &out[..] else {
        panic!("an acknowledgement expected: {out:?}");
    };
    assert_eq!(*connection, ConnectionId(1));
    warned("nothing was to be stored", &t.feed(stored(Ok(()))));
}

#[test]
fn a_request_goes_to_the_owner_which_is_asked_a_few_at_a_time() {
    let (mut t, b) = with_peer();
    let out = t.receive(&b, request("ch"));
    let [
        Effect::ServePrivate {
            ticket,
            nonce: 5,
            digests,
            ..
        },
    ] = &out[..]
    else {
        panic!("a request to be served expected: {out:?}");
    };
    assert_eq!(digests, &[digest(1)]);
    assert_eq!(t.node.private_sizes(&"ch".into()).unwrap().serving, 1);
    let stored = Input::PrivateStored {
        ticket: *ticket,
        result: Ok(()),
    };
    warned("nothing was to be stored", &t.feed(stored));
    assert_eq!(t.feed(Input::PrivateServed { ticket: *ticket }), []);
    assert_eq!(t.node.sizes().private.serving, 0);
}

#[test]
fn what_is_wanted_is_asked_for_and_gathered() {
    let (mut t, b) = with_peer();
    let out = t.feed(wanted("ch"));
    let asked = contents(&out);
    let [(to, nonce, Content::PrivateReq(request))] = &asked[..] else {
        panic!("one request expected: {out:?}");
    };
    assert_eq!((*to, &request.digests), (b.pki_id, &vec![digest(1).into()]));
    let out = t.receive(&b, response("ch", *nonce));
    let found = Found {
        digest: digest(1),
        payload: rwset(),
        from: b.pki_id,
        is_verified: true,
    };
    let gathered = Effect::PrivateGathered {
        channel: "ch".into(),
        key: GatherKey::Block(1),
        found: vec![found],
        missing: vec![],
    };
    assert_eq!(out.last(), Some(&gathered));
}

#[test]
fn whoever_is_revoked_is_not_waited_for() {
    let (mut t, b) = with_peer();
    let a = t.meet("A", "a");
    t.say(&a, &a, "ch");
    let first = contents(&t.feed(wanted("ch")))[0].0;
    let out = t.feed(Input::Revoked(first));
    let other = if first == a.pki_id { &b } else { &a };
    let asked = contents(&out);
    let asked: Vec<PkiId> = asked.iter().map(|(to, ..)| *to).collect();
    assert_eq!(asked, [other.pki_id]);
}

#[test]
fn whoever_waits_for_private_data_of_no_channel_of_ours_is_told_so() {
    let (mut t, _) = with_peer();
    let out = t.feed(wanted("elsewhere"));
    let gathered = Effect::PrivateGathered {
        channel: "elsewhere".into(),
        key: GatherKey::Block(1),
        found: vec![],
        missing: vec![(digest(1), Missing::NotAsked)],
    };
    assert_eq!(out[1..], [gathered]);
    warned("was not joined", &out[..1]);
}

#[test]
fn leaving_ends_what_waits() {
    let (mut t, _) = with_peer();
    t.feed(wanted("ch"));
    let out = t.feed(Input::Leave("ch".into()));
    let ends =
        |e: &&Effect| matches!(e, Effect::PrivateGathered { missing, .. } if missing.len() == 1);
    assert_eq!(out.iter().filter(ends).count(), 1, "{out:?}");
    assert_eq!(t.node.sizes().private, Default::default());
}

#[test]
fn what_is_distributed_is_confirmed_by_whom_it_was_sent_to() {
    let (mut t, b) = with_peer();
    let out = t.feed(distribution("ch", 9));
    let sent = contents(&out);
    let [(to, nonce, Content::PrivateData(_))] = &sent[..] else {
        panic!("one push expected: {out:?}");
    };
    assert_eq!(*to, b.pki_id);
    let ack = |nonce| Message::Ack {
        nonce,
        error: String::new(),
    };
    assert_eq!(t.receive(&b, ack(nonce ^ 1)), []);
    let done = Effect::Notify(Notice::Distributed {
        ticket: Ticket(9),
        result: Ok(1),
    });
    assert_eq!(t.receive(&b, ack(*nonce)), [done]);
    let out = t.feed(distribution("elsewhere", 10));
    assert!(
        matches!(
            &out[..],
            [Effect::Notify(Notice::Distributed { result: Err(_), .. })]
        ),
        "{out:?}"
    );
}

#[test]
fn a_distribution_that_nobody_confirms_fails_in_time() {
    let (mut t, _) = with_peer();
    t.feed(distribution("ch", 9));
    assert_eq!(t.node.sizes().distributions, 1);
    let out = t.tick(at(3000));
    let fails = |e: &&Effect| {
        matches!(
            e,
            Effect::Notify(Notice::Distributed {
                ticket: Ticket(9),
                result: Err(_)
            })
        )
    };
    assert_eq!(out.iter().filter(fails).count(), 1, "{out:?}");
    assert_eq!(t.node.sizes().distributions, 0);
}

#[test]
fn what_old_blocks_lack_is_listed_after_the_start() {
    let (mut t, _) = with_peer();
    let out = t.tick(at(1000));
    let list = Effect::ListMissing {
        channel: "ch".into(),
        round: 1,
        limit: 10,
    };
    assert_eq!(out.iter().filter(|e| **e == list).count(), 1, "{out:?}");
}
