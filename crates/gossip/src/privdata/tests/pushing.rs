//! Pushes: stored, then acknowledged; else refused with a reason.

use super::*;
use crate::verify::WRITE_SET_LEN_MAX;

fn writes(rwset: impl Into<Bytes>, orgs: &[&str]) -> PushedWrites {
    PushedWrites {
        tx_id: "tx".to_owned(),
        namespace: "cc".to_owned(),
        collection: "AB".to_owned(),
        rwset: rwset.into(),
        sim_height: 7,
        configs: toy::collection("AB", orgs),
    }
}

fn message(nonce: u64, pushed: Result<PushedWrites, Refused>) -> Message {
    Message::PrivateData {
        channel: "ch".into(),
        nonce,
        pushed: pushed.map(Box::new),
    }
}

pub(super) fn push(nonce: u64) -> Message {
    message(nonce, Ok(writes("writes", &["A", "B"])))
}

fn long(nonce: u64, len: usize) -> Message {
    message(nonce, Ok(writes(vec![0; len], &["A", "B"])))
}

fn store(push: u64, from: &Arc<Connection>) -> Effect {
    Effect::Store {
        push,
        from: Arc::clone(from),
        pushed: Box::new(writes("writes", &["A", "B"])),
    }
}

/// The nonce and the text of an acknowledgement, as Go writes it: without channel and tag.
fn ack(effect: &Effect, to: &Arc<Connection>) -> (u64, String) {
    let Effect::Reply {
        connection,
        envelope,
    } = effect
    else {
        panic!("an acknowledgement expected: {effect:?}");
    };
    assert_eq!(*connection, to.id);
    let message = envelope.clone().open().unwrap().message().clone();
    assert!(message.channel.is_empty() && message.tag == Tag::Undefined as i32);
    let Some(Content::Ack(ack)) = message.content else {
        panic!("an acknowledgement expected");
    };
    (message.nonce, ack.error)
}

/// The text of a refusal by this rule, which is both answered and noticed.
fn refused(out: &[Effect], rule: &str, nonce: u64, to: &Arc<Connection>) -> String {
    assert_eq!((rules(out), out.len()), (vec![rule], 2), "{out:?}");
    let (answered, text) = ack(&out[0], to);
    assert_eq!(answered, nonce);
    assert!(!text.is_empty());
    text
}

#[test]
fn pd_g1_a_push_is_acknowledged_when_it_is_stored_and_not_before() {
    let mut t = Table::among(&[]);
    let b = connection("b");
    assert_eq!(t.receive(&b, push(5)), [store(1, &b)]);
    assert_eq!(t.until(60_000), []);
    assert_eq!(t.private.sizes(), sizes(1, 0, 0, 0));
    let done = Input::Stored {
        push: 1,
        result: Ok(()),
    };
    let out = t.feed(done.clone());
    assert_eq!(out.len(), 1);
    assert_eq!(ack(&out[0], &b), (5, String::new()));
    assert_eq!(t.feed(done), [], "once");
    assert_eq!(t.private.sizes(), Sizes::default());
}

#[test]
fn pd_g1_what_cannot_be_stored_is_refused_with_the_reason() {
    let mut t = Table::among(&[]);
    let b = connection("b");
    for (push_id, reason, text) in [(1, "disk full", "disk full"), (2, "", "not stored")] {
        t.receive(&b, push(push_id));
        let out = t.feed(Input::Stored {
            push: push_id,
            result: Err(reason.to_owned()),
        });
        assert_eq!(ack(&out[0], &b), (push_id, text.to_owned()));
    }
    t.receive(&b, push(3));
    let out = t.feed(Input::Stored {
        push: 3,
        result: Err("ü".repeat(1000)),
    });
    let (_, text) = ack(&out[0], &b);
    assert_eq!(text, "ü".repeat(intake::ERROR_LEN_MAX / 2));
}

#[test]
fn a_push_that_comes_twice_while_it_is_stored_is_stored_once() {
    let mut t = Table::among(&[]);
    let b = connection("b");
    assert_eq!(t.receive(&b, push(5)), [store(1, &b)]);
    assert_eq!(t.receive(&b, push(5)), []);
    assert_eq!(t.receive(&b, push(6)), [store(2, &b)], "another push");
    let other = toy::connection(8, &toy::identity("B", "b"));
    assert_eq!(t.receive(&other, push(5)), [store(3, &other)]);
    t.feed(Input::Stored {
        push: 1,
        result: Ok(()),
    });
    let out = t.receive(&b, push(5));
    assert_eq!(out, [store(4, &b)], "asked again, answered again");
}

#[test]
fn pd_s1_what_the_gate_found_wrong_is_answered() {
    let mut t = Table::among(&[]);
    let b = connection("b");
    let malformed = Refused {
        rule: "PD-S1",
        reason: "a push without payload".to_owned(),
    };
    let out = t.receive(&b, message(5, Err(malformed)));
    assert_eq!(refused(&out, "PD-S1", 5, &b), "a push without payload");
    assert_eq!(t.private.sizes(), Sizes::default());
}

#[test]
fn pd_s5_data_of_a_collection_that_is_not_ours_is_refused() {
    let mut t = Table::among(&[]);
    let b = connection("b");
    // Endorsers hand data to members of collections that they are not in themselves.
    let ours = message(4, Ok(writes("writes", &["A"])));
    assert_eq!(t.receive(&b, ours).len(), 1);
    for orgs in [&["B"][..], &["C"], &[]] {
        let out = t.receive(&b, message(5, Ok(writes("writes", orgs))));
        let text = refused(&out, "PD-S5", 5, &b);
        assert_eq!(text, "A is no member of cc/AB");
    }
    let mut undefined = writes("writes", &["A"]);
    undefined.configs.config.clear();
    let out = t.receive(&b, message(6, Ok(undefined)));
    assert_eq!(refused(&out, "PD-S5", 6, &b), "no collection");
    assert_eq!(t.private.sizes(), sizes(1, 0, 0, 0));
}

#[test]
fn pd_s6_one_peer_has_a_part_of_what_is_stored_at_a_time() {
    let mut t = Table::among(&[]);
    let (greedy, modest) = (connection("greedy"), connection("modest"));
    for nonce in 0..PUSHES_PER_PEER_MAX as u64 {
        assert_eq!(t.receive(&greedy, push(nonce)).len(), 1);
    }
    let out = t.receive(&greedy, push(9999));
    assert!(refused(&out, "PD-S6", 9999, &greedy).contains("busy"));
    assert_eq!(t.receive(&modest, push(0)).len(), 1);
    t.feed(Input::Stored {
        push: 1,
        result: Ok(()),
    });
    assert_eq!(t.receive(&greedy, push(9999)).len(), 1, "room again");
}

#[test]
fn pd_s6_all_peers_together_have_so_many_pushes_under_way() {
    let mut t = Table::among(&[]);
    for peer in 0..PUSHES_MAX / PUSHES_PER_PEER_MAX {
        let from = connection(&peer.to_string());
        for nonce in 0..PUSHES_PER_PEER_MAX as u64 {
            assert_eq!(t.receive(&from, push(nonce)).len(), 1);
        }
    }
    let late = connection("late");
    let out = t.receive(&late, push(1));
    refused(&out, "PD-S6", 1, &late);
    assert_eq!(t.private.sizes().pushes, PUSHES_MAX);
}

#[test]
fn pd_s6_bytes_under_way_are_bounded_for_each_and_for_all() {
    let mut t = Table::among(&[]);
    let [a, b, c] = ["a", "b", "c"].map(connection);
    assert_eq!(t.receive(&a, long(1, PUSH_BYTES_PER_PEER_MAX)).len(), 1);
    refused(&t.receive(&a, long(2, 1)), "PD-S6", 2, &a);
    assert_eq!(t.receive(&b, long(1, PUSH_BYTES_PER_PEER_MAX)).len(), 1);
    refused(&t.receive(&c, long(1, 1)), "PD-S6", 1, &c);
    assert_eq!(PUSH_BYTES_PER_PEER_MAX, WRITE_SET_LEN_MAX);
    assert_eq!(PUSH_BYTES_MAX, 2 * PUSH_BYTES_PER_PEER_MAX);
}
