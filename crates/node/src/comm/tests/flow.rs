//! Messages on their way, and what becomes of them when a connection ends.

use std::time::Duration;

use bytes::Bytes;
use tidings_gossip::{
    effect::Destination,
    id::{ConnectionId, Ticket},
};
use tidings_proto::gossip::{Empty, Envelope, GossipMessage, gossip_message::Content};
use tokio::time::{Instant, sleep};

use super::toy::{World, claim, endpoint, hello, identity, rest, saying, signed, to, told};

#[tokio::test(start_paused = true)]
async fn messages_arrive_in_order_and_are_counted_by_kind() {
    let world = World::new();
    let (mut a, mut b) = (world.node("one/a"), world.node("one/b"));
    let sent: Vec<_> = (0..100).map(hello).collect();
    for envelope in &sent {
        a.comm.handle().send(to("one/b"), envelope.clone());
    }
    for envelope in &sent {
        assert_eq!(b.message().await.1, *envelope);
    }
    let bytes: usize = sent.iter().map(Envelope::wire_len).sum();
    assert_eq!(a.metrics.messages_sent.get(), 100);
    assert_eq!(b.metrics.messages_received.get(), 100);
    let of_hellos = |metric: &prometheus::IntCounterVec| metric.with_label_values(&["Hello"]).get();
    assert_eq!(of_hellos(&a.metrics.bytes_sent), bytes as u64);
    assert_eq!(of_hellos(&b.metrics.bytes_received), bytes as u64);
    assert_eq!(a.metrics.overflow.get(), 0);
    assert_eq!(a.news().await, "one/b connected as 1");
}

#[tokio::test(start_paused = true)]
async fn what_goes_over_each_connection_is_counted_by_itself_and_anew_for_the_next() {
    let world = World::new();
    let (mut a, mut b) = (world.node("one/a"), world.node("one/b"));
    assert!(a.comm.handle().traffic().await.unwrap().is_empty());
    for nonce in 0..3 {
        a.comm.handle().send(to("one/b"), hello(nonce));
        b.message().await;
    }
    b.comm.handle().send(to("one/a"), hello(7));
    a.message().await;
    let (to_b, to_a) = (identity("one/b").pki_id, identity("one/a").pki_id);
    let bytes = |nonces: &[u64]| -> u64 {
        let lengths = nonces.iter().map(|nonce| hello(*nonce).wire_len() as u64);
        lengths.sum()
    };
    let seen = a.comm.handle().traffic().await.unwrap()[&to_b];
    assert_eq!(
        (seen.sent.messages, seen.sent.bytes),
        (3, bytes(&[0, 1, 2]))
    );
    assert_eq!(
        (seen.received.messages, seen.received.bytes),
        (1, bytes(&[7]))
    );
    assert_eq!((seen.sent.block_bytes, seen.waiting), (0, 0));
    let other_end = b.comm.handle().traffic().await.unwrap()[&to_a];
    assert_eq!(
        (other_end.sent, other_end.received),
        (seen.received, seen.sent)
    );

    a.comm.handle().close(to_b);
    a.comm.handle().send(to("one/b"), hello(9));
    b.message().await;
    let next = a.comm.handle().traffic().await.unwrap()[&to_b];
    assert_ne!(next.connection, seen.connection);
    assert_eq!((next.sent.messages, next.received.messages), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn w_g1_what_is_sent_and_received_keeps_its_bytes() {
    let world = World::new();
    let (a, mut b) = (world.node("one/a"), world.node("one/b"));
    // Fields out of order, and one that nobody knows.
    let payload = Bytes::from_static(&[0x18, 0x01, 0x08, 0x05, 0xf8, 0x07, 0x01]);
    let odd = Envelope::signed(payload, Bytes::from_static(b"signature"));
    a.comm.handle().send(to("one/b"), odd.clone());
    assert_eq!(b.message().await.1, odd);
}

#[tokio::test(start_paused = true)]
async fn w_s1_a_payload_that_is_no_message_ends_the_stream() {
    let world = World::new();
    let mut a = world.node("one/a");
    let (_client, talk) = world.friend("one/b", "one/a").await;
    assert_eq!(a.news().await, "one/b connected as 1");
    let garbage = Envelope::signed(Bytes::from_static(&[8]), Bytes::new());
    for envelope in [hello(1), garbage, hello(2)] {
        talk.say.send(envelope).await.unwrap();
    }
    let said = talk.end().await.unwrap_err();
    assert!(said.starts_with("not a gossip message"), "{said}");
    assert_eq!(a.message().await.1, hello(1));
    assert_eq!(a.news().await, "one/b disconnected as 1");
    assert!(a.heard_nothing().await);
    assert_eq!(a.refused("W-S1"), 1);
}

#[tokio::test(start_paused = true)]
async fn w_s1_holds_for_a_stream_that_we_dialled_too() {
    let world = World::new();
    let mut a = world.node("one/a");
    let tls = world.tls("one/b").unwrap();
    let greeting = signed(claim("one/b", Some(tls.server_certificate_sha256())));
    let garbage = Envelope::signed(Bytes::from_static(&[8]), Bytes::new());
    let _server = world.server(
        "one/b",
        Some(&tls),
        saying(vec![greeting, garbage, hello(2)]),
    );
    a.comm.handle().send(to("one/b"), hello(1));
    assert_eq!(a.news().await, "one/b connected as 1");
    assert_eq!(a.news().await, "one/b disconnected as 1");
    assert!(a.heard_nothing().await);
    assert_eq!(world.net.open(), Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn an_empty_message_says_nothing() {
    let world = World::new();
    let mut a = world.node("one/a");
    let (_client, talk) = world.friend("one/b", "one/a").await;
    let empty = GossipMessage {
        content: Some(Content::Empty(Empty::default())),
        ..GossipMessage::default()
    };
    talk.say.send(Envelope::unsigned(&empty)).await.unwrap();
    talk.say.send(hello(1)).await.unwrap();
    assert_eq!(a.message().await.1, hello(1));
}

#[tokio::test(start_paused = true)]
async fn a_failed_dial_is_reported_once_for_all_that_waited() {
    let world = World::new();
    let mut a = world.node("one/a");
    let began = Instant::now();
    for number in 0..20 {
        a.comm.handle().send(to("one/b"), hello(number));
    }
    assert_eq!(a.news().await, "one/b unreachable");
    assert_eq!(began.elapsed(), Duration::from_secs(3));
    assert_eq!(a.rest().await, Vec::<String>::new());
    a.comm.handle().send(to("one/b"), hello(20));
    assert_eq!(
        a.news().await,
        "one/b unreachable",
        "the next message dials again"
    );
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_comes_up_during_the_dial_is_reached() {
    let world = World::new();
    let mut a = world.node("one/a");
    a.comm.handle().send(to("one/b"), hello(1));
    sleep(Duration::from_secs(2)).await;
    let mut b = world.node("one/b");
    assert_eq!(b.message().await.1, hello(1));
    assert_eq!(a.news().await, "one/b connected as 1");
}

#[tokio::test(start_paused = true)]
async fn a_failed_dial_is_not_reported_when_the_peer_has_dialled_us() {
    let world = World::new();
    let mut a = world.node("one/a");
    a.comm.handle().send(to("one/b"), hello(1));
    let (_client, talk) = world.friend("one/b", "one/a").await;
    assert_eq!(a.news().await, "one/b connected as 1");
    sleep(Duration::from_secs(5)).await;
    assert_eq!(a.rest().await, Vec::<String>::new());
    a.comm.handle().send(to("one/b"), hello(2));
    assert_eq!(talk.hear().await.unwrap(), Some(hello(2)));
}

#[tokio::test(start_paused = true)]
async fn without_an_endpoint_only_a_connection_will_do() {
    let world = World::new();
    let mut a = world.node("one/a");
    let nowhere = || Destination {
        endpoint: String::new(),
        ..to("one/b")
    };
    a.comm.handle().send(nowhere(), hello(1));
    sleep(Duration::from_secs(10)).await;
    let (_client, talk) = world.friend("one/b", "one/a").await;
    assert_eq!(a.news().await, "one/b connected as 1");
    a.comm.handle().send(nowhere(), hello(2));
    assert_eq!(talk.hear().await.unwrap(), Some(hello(2)));
}

#[tokio::test(start_paused = true)]
async fn a_reply_to_a_connection_that_is_gone_goes_nowhere() {
    let world = World::new();
    let mut a = world.node("one/a");
    let (_client, _talk) = world.friend("one/b", "one/a").await;
    a.news().await;
    let (_again, talk) = world.friend("one/b", "one/a").await;
    for _ in 0..2 {
        a.news().await;
    }
    for (connection, number) in [(1, 1), (7, 7), (2, 2)] {
        a.comm
            .handle()
            .reply(ConnectionId(connection), hello(number));
    }
    assert_eq!(talk.hear().await.unwrap(), Some(hello(2)));
    assert_eq!(a.rest().await, Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn closing_ends_whatever_there_is_with_the_peer() {
    let world = World::new();
    let (mut a, mut b) = (world.node("one/a"), world.node("one/b"));
    let close = |name: &str| a.comm.handle().close(identity(name).pki_id);
    // Outbound: the other end learns of it.
    a.comm.handle().send(to("one/b"), hello(1));
    assert_eq!(
        a.inputs.recv().await.is_some(),
        b.inputs.recv().await.is_some()
    );
    close("one/b");
    assert!(b.news().await.starts_with("one/a disconnected"));
    // Inbound: the RPC ends well.
    let (_client, talk) = world.friend("one/c", "one/a").await;
    close("one/c");
    assert_eq!(talk.end().await, Ok(()));
    // A dial in progress is given up, and nothing is reported.
    a.comm.handle().send(to("two/d"), hello(1));
    close("two/d");
    close("two/e");
    sleep(Duration::from_secs(10)).await;
    let told = [
        "one/b disconnected as 1",
        "one/c connected as 2",
        "one/c disconnected as 2",
    ];
    assert_eq!(a.rest().await, told);
    assert_eq!(
        world.net.open().len(),
        1,
        "the client of one/c keeps its own"
    );
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_half_closes_still_gets_what_waits() {
    let world = World::new();
    let mut a = world.node("one/a");
    let (_client, talk) = world.friend("one/b", "one/a").await;
    let connected = a.news().await;
    assert_eq!(connected, "one/b connected as 1");
    for number in 1..4 {
        a.comm.handle().send(to("one/b"), hello(number));
    }
    sleep(Duration::from_millis(1)).await;
    assert_eq!(talk.finish().await, Ok(()));
    assert_eq!(a.news().await, "one/b disconnected as 1");
    assert_eq!(a.metrics.messages_sent.get(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_vanishes_is_told_of_and_dialled_by_the_next_message() {
    let world = World::new();
    let mut a = world.node("one/a");
    let b = world.node("one/b");
    a.comm.handle().send(to("one/b"), hello(1));
    assert_eq!(a.news().await, "one/b connected as 1");
    drop(b);
    assert_eq!(a.news().await, "one/b disconnected as 1");
    let mut b = world.node("one/b");
    a.comm.handle().send(to("one/b"), hello(2));
    assert_eq!(b.message().await.1, hello(2));
    assert_eq!(a.news().await, "one/b connected as 2");
}

#[tokio::test(start_paused = true)]
async fn a_connection_whose_messages_are_not_taken_waits_alone() {
    let world = World::new();
    // The inbox of `a` takes one message, and then only as the test does.
    let mut a = world.node_with("one/a", 1, |_| {});
    let (_b, from_b) = world.friend("one/b", "one/a").await;
    let (_c, from_c) = world.friend("one/c", "one/a").await;
    let large = |number| {
        let mut envelope = hello(number);
        envelope.signature = Bytes::from(vec![0; 1 << 20]);
        envelope
    };
    // Far more than windows and pipes hold: the sender of `b` gets stuck.
    let say = from_b.say.clone();
    let mut flood = tokio::task::JoinSet::new();
    flood.spawn(async move {
        let mut sent = 0;
        while tokio::time::timeout(Duration::from_secs(60), say.send(large(sent)))
            .await
            .is_ok()
        {
            sent += 1;
        }
        sent
    });
    let sent = flood.join_next().await.unwrap().unwrap();
    assert!((64..100).contains(&sent), "{sent} MiB accepted");
    // Nobody else is stuck: others connect, ping, and are written to.
    let (_d, from_d) = world.friend("two/d", "one/a").await;
    a.comm.handle().send(to("one/c"), hello(1));
    assert_eq!(from_c.hear().await.unwrap(), Some(hello(1)));
    a.comm.handle().send(to("one/b"), hello(2));
    assert_eq!(from_b.hear().await.unwrap(), Some(hello(2)));
    let mut again = world.client(world.tls("one/b").as_ref(), "one/a").await;
    assert!(again.client.ping(Empty::default()).await.is_ok());
    // What they say waits for its turn only.
    from_d.say.send(hello(9)).await.unwrap();
    let mut turns = 0;
    while a.message().await.0.peer() != identity("two/d").pki_id {
        turns += 1;
    }
    assert!(turns <= 3, "{turns} messages of the flood came first");
}

#[tokio::test(start_paused = true)]
async fn the_core_is_told_who_cannot_keep_up_and_when_that_is_over() {
    let world = World::new();
    let mut a = world.node("one/a");
    let (_b, from_b) = world.friend("one/b", "one/a").await;
    assert_eq!(a.news().await, "one/b connected as 1");
    let (_c, from_c) = world.friend("one/c", "one/a").await;
    assert_eq!(a.news().await, "one/c connected as 2");
    // Many small ones, then a few large ones: more than windows and pipes hold.
    for (count, len) in [(10_000, 16 << 10), (200, 1 << 20)] {
        let mut sent = 0;
        let mut last = None;
        while last.is_none() && sent < count {
            let mut envelope = hello(sent);
            envelope.signature = Bytes::from(vec![0; len]);
            a.comm.handle().send(to("one/b"), envelope);
            sent += 1;
            tokio::task::yield_now().await;
            last = a.inputs.try_recv().ok();
        }
        assert_eq!(
            last.as_ref().map(told).as_deref(),
            Some("one/b is congested")
        );
        assert_eq!(a.metrics.overflow.get(), 0, "in time");
        // The other is not, and b is once it takes what waits.
        a.comm.handle().send(to("one/c"), hello(sent));
        assert_eq!(from_c.hear().await.unwrap(), Some(hello(sent)));
        assert_eq!(a.rest().await, Vec::<String>::new(), "it is told once");
        for _ in 0..sent {
            from_b.hear().await.unwrap();
        }
        assert_eq!(a.news().await, "one/b is no longer congested");
    }
}

#[tokio::test(start_paused = true)]
async fn who_is_gone_is_not_congested() {
    let world = World::new();
    let mut a = world.node("one/a");
    let (b, from_b) = world.friend("one/b", "one/a").await;
    assert_eq!(a.news().await, "one/b connected as 1");
    for number in 0..100 {
        let mut envelope = hello(number);
        envelope.signature = Bytes::from(vec![0; 1 << 20]);
        a.comm.handle().send(to("one/b"), envelope);
    }
    assert_eq!(a.news().await, "one/b is congested");
    drop((b, from_b));
    let mut news = vec![a.news().await, a.news().await];
    news.sort();
    assert_eq!(
        news,
        ["one/b disconnected as 1", "one/b is no longer congested"]
    );
}

#[tokio::test(start_paused = true)]
async fn stopping_ends_every_task_and_every_connection() {
    let tasks = || {
        tokio::runtime::Handle::current()
            .metrics()
            .num_alive_tasks()
    };
    let world = World::new();
    let before = tasks();
    let (mut a, mut b) = (world.node("one/a"), world.node("one/b"));
    a.comm.handle().send(to("one/b"), hello(1));
    assert_eq!(b.message().await.1, hello(1));
    let (client, talk) = world.friend("one/c", "one/a").await;
    let handle = a.comm.handle();
    // In the middle of everything.
    handle.send(to("two/d"), hello(1));
    assert!(handle.identify(Ticket(1), "nobody:1".to_owned()).is_none());
    assert!(handle.probe(Ticket(2), "nobody:1".to_owned()).is_none());
    sleep(Duration::from_millis(1)).await;
    let silent = world.net.connect("a:1").unwrap();
    let began = Instant::now();
    a.comm.stop().await;
    assert!(
        began.elapsed() <= Duration::from_secs(1),
        "{:?}",
        began.elapsed()
    );
    assert_eq!(talk.end().await, Ok(()));
    assert!(world.client_fails(&endpoint("one/a")).await);
    b.comm.stop().await;
    drop((client, talk, silent));
    sleep(Duration::from_secs(10)).await;
    assert_eq!(tasks(), before);
    assert_eq!(world.net.open(), Vec::<String>::new());
    // Commands to nobody are answered as far as they have answers.
    rest(&mut a.inputs).await;
    handle.send(to("one/b"), hello(1));
    handle.close(identity("one/b").pki_id);
    let probed = handle.probe(Ticket(3), endpoint("one/b"));
    let identified = handle.identify(Ticket(4), endpoint("one/b"));
    let answers: Vec<_> = [probed, identified].iter().flatten().map(told).collect();
    let expected = [
        "probe 3: false",
        "not identified 4: comm has no time or has stopped",
    ];
    assert_eq!(answers, expected);
    assert_eq!(rest(&mut a.inputs).await, Vec::<String>::new());
}
