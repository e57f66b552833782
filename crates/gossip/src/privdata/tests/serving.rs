//! Requests of others.

use super::*;

pub(super) fn request(nonce: u64, digests: u64) -> Message {
    Message::PrivateRequest {
        channel: "ch".into(),
        nonce,
        digests: (0..digests).map(|seq| digest(8, seq)).collect(),
    }
}

fn serve(request: u64, from: &Arc<Connection>, nonce: u64, digests: u64) -> Effect {
    Effect::Serve {
        request,
        from: Arc::clone(from),
        nonce,
        digests: (0..digests).map(|seq| digest(8, seq)).collect(),
    }
}

#[test]
fn pd_g3_every_request_reaches_the_owner_with_the_evidence_of_who_asks() {
    let mut t = Table::among(&[]);
    let b = connection("b");
    assert_eq!(t.receive(&b, request(5, 2)), [serve(1, &b, 5, 2)]);
    assert_eq!(t.receive(&b, request(6, 0)), [serve(2, &b, 6, 0)]);
    assert_eq!(t.private.sizes(), sizes(0, 0, 0, 2));
    assert_eq!(t.feed(Input::Served { request: 1 }), []);
    assert_eq!(t.private.sizes(), sizes(0, 0, 0, 1));
}

#[test]
fn a_few_requests_are_served_at_a_time() {
    let mut t = Table::among(&[]);
    let b = connection("b");
    for nonce in 0..SERVING_MAX as u64 {
        assert_eq!(t.receive(&b, request(nonce, 1)).len(), 1);
    }
    assert_eq!(t.receive(&b, request(99, 1)), []);
    let served = Input::Served { request: 2 };
    assert_eq!(
        t.feed(served),
        [serve(SERVING_MAX as u64 + 1, &b, 99, 1)],
        "one after the other"
    );
}

#[test]
fn whoever_hung_up_or_was_forgotten_is_not_served() {
    let mut t = Table::among(&[]);
    for nonce in 0..SERVING_MAX as u64 {
        t.receive(&connection("busy"), request(nonce, 1));
    }
    let gone = toy::connection(8, &toy::identity("B", "gone"));
    let forgotten = toy::connection(9, &toy::identity("B", "forgotten"));
    t.receive(&gone, request(1, 1));
    t.receive(&forgotten, request(1, 1));
    t.feed(Input::Disconnected {
        connection: gone.id,
        peer: gone.peer(),
    });
    t.feed(Input::Forgotten(forgotten.peer()));
    for request in 1..=SERVING_MAX as u64 {
        assert_eq!(t.feed(Input::Served { request }), []);
    }
    assert_eq!(t.private.sizes(), Sizes::default());
}

#[test]
fn pd_s7_a_request_too_many_is_answered_with_nothing_at_once() {
    let mut t = Table::among(&[]);
    let b = connection("b");
    for nonce in 0..(SERVING_MAX + WAITING_PER_PEER_MAX) as u64 {
        t.receive(&b, request(nonce, 1));
    }
    let out = t.receive(&b, request(99, 1));
    assert_eq!((rules(&out), out.len()), (vec!["PD-S7"], 2), "{out:?}");
    let Effect::Reply {
        connection,
        envelope,
    } = &out[0]
    else {
        panic!("an answer expected: {out:?}");
    };
    assert_eq!(*connection, b.id);
    let message = opened(envelope);
    assert_eq!(message.nonce, 99);
    let Some(Content::PrivateRes(response)) = message.content else {
        panic!("a response expected");
    };
    assert_eq!(response.elements, []);
}

#[test]
fn pd_s7_whoever_asks_without_end_is_not_answered() {
    let mut t = Table::among(&[]);
    let b = connection("b");
    let mut silences = 0;
    for nonce in 0..1000 {
        for effect in t.receive(&b, request(nonce, 1)) {
            match effect {
                Effect::Serve { request, .. } => drop(t.feed(Input::Served { request })),
                Effect::Notify(Notice::Refused { rule: "PD-S7", .. }) => silences += 1,
                other => panic!("unexpected: {other:?}"),
            }
        }
    }
    assert_eq!(silences, 1000 - 64);
    t.until(1000);
    assert_eq!(t.receive(&b, request(2000, 1)).len(), 1, "later again");
}
