//! Requests of others.

use super::*;

fn serve(start: u64, end: u64, nonce: u64) -> Effect {
    serve_on(7, start, end, nonce)
}

fn serve_on(connection: u64, start: u64, end: u64, nonce: u64) -> Effect {
    Effect::Serve {
        start,
        end,
        connection: ConnectionId(connection),
        nonce,
    }
}

fn served(connection: u64) -> Input {
    Input::Served(ConnectionId(connection))
}

#[test]
fn s_s1_who_may_not_read_gets_nothing_and_is_not_heard() {
    let mut t = Table::with(Config::default());
    let outsider = toy::identity("B", "b").pki_id;
    t.scene.ports.outsiders.insert(outsider);
    assert_eq!(rules(&t.receive("b", request(1, 5, 6))), ["S-S1"]);
    assert_eq!(rules(&t.receive("b", response(1, [100]))), ["S-S1"]);
    assert_eq!(t.receive("b2", request(1, 5, 6)), [serve(5, 6, 1)]);
}

#[test]
fn s_s2_other_channels_are_not_answered() {
    let mut t = Table::with(Config::default());
    let other = Message::StateRequest {
        channel: "other".into(),
        nonce: 1,
        start: 5,
        end: 5,
    };
    assert_eq!(rules(&t.receive("b", other)), ["S-S2"]);
}

#[test]
fn s_s3_ranges_are_checked_as_in_the_reference() {
    let check = |start, end| {
        let mut t = Table::with(Config::default());
        t.receive("b", request(3, start, end))
    };
    assert_eq!(check(10, 20), [serve(10, 20, 3)]);
    assert_eq!(check(7, 7), [serve(7, 7, 3)]);
    assert_eq!(rules(&check(10, 21)), ["S-S3"]);
    assert_eq!(rules(&check(10, 5)), ["S-S3"]);
    assert_eq!(rules(&check(0, u64::MAX)), ["S-S3"]);
    let end = u64::MAX;
    assert_eq!(rules(&check(end - 5, end)), [""; 0], "does not overflow");
}

#[test]
fn s_s4_more_requests_than_may_wait_are_dropped() {
    let mut config = Config::default();
    config.state.channel_size = 2;
    let mut t = Table::with(config);
    assert_eq!(t.receive("b", request(1, 1, 1)), [serve(1, 1, 1)]);
    assert_eq!(t.receive("b", request(2, 2, 2)), []);
    assert_eq!(t.receive("b", request(3, 3, 3)), []);
    assert_eq!(rules(&t.receive("b", request(4, 4, 4))), ["S-S4"]);
}

#[test]
fn answers_end_at_our_height_and_may_be_empty() {
    let mut t = Table::with(Config::default());
    assert_eq!(t.receive("b", request(1, 95, 105)), [serve(95, 99, 1)]);
    t.feed(served(7));
    let out = t.receive("b", request(2, 100, 105));
    let [
        Effect::Reply {
            connection: ConnectionId(7),
            envelope,
        },
    ] = out.as_slice()
    else {
        panic!("{out:?}");
    };
    let message = opened(envelope);
    assert_eq!(message.nonce, 2);
    let empty = Content::StateResponse(RemoteStateResponse::default());
    assert_eq!(message.content, Some(empty));
    assert_eq!(t.receive("b", request(3, 99, 99)), [serve(99, 99, 3)]);
}

#[test]
fn one_request_of_each_peer_is_answered_at_a_time() {
    let mut t = Table::with(Config::default());
    assert_eq!(t.receive("b", request(1, 1, 2)), [serve(1, 2, 1)]);
    assert_eq!(t.receive("b", request(2, 3, 4)), []);
    let out = t.receive_on(8, "b2", request(3, 5, 6));
    assert_eq!(
        out,
        [serve_on(8, 5, 6, 3)],
        "it need not wait for the other"
    );
    assert_eq!(t.receive_on(8, "b2", request(4, 7, 8)), []);
    assert_eq!(t.feed(served(8)), [serve_on(8, 7, 8, 4)]);
    assert_eq!(t.feed(served(7)), [serve(3, 4, 2)]);
    assert_eq!(t.feed(served(7)), []);
}

#[test]
fn who_hung_up_is_not_answered() {
    let mut t = Table::with(Config::default());
    t.receive("b", request(1, 1, 2));
    t.receive("b", request(2, 3, 4));
    t.feed(Input::Disconnected {
        connection: ConnectionId(7),
        peer: toy::identity("B", "b").pki_id,
    });
    assert_eq!(t.feed(served(7)), []);
}

#[test]
fn a_tip_far_beyond_is_never_served_from_beyond_the_ledger() {
    let mut t = Table::with(Config::default());
    t.push(100);
    let out = t.receive("b", request(1, 100, 100));
    assert!(
        matches!(out.as_slice(), [Effect::Reply { .. }]),
        "100 is on its way but not durable: {out:?}"
    );
    t.feed(Input::Height(101));
    assert_eq!(t.receive("b", request(2, 100, 100)), [serve(100, 100, 2)]);
}
