//! What happens when there is too much of something.

use std::time::Duration;

use bytes::Bytes;
use prost::Message as _;
use tidings_gossip::id::Ticket;
use tidings_proto::gossip::Envelope;
use tokio::time::{Instant, sleep};
use tonic::Code;

use super::toy::{World, claim, endpoint, hello, identity, signed, to, told};
use crate::comm::{
    COMMANDS_MAX, DIALS_MAX, HANDSHAKES_MAX, MESSAGE_LEN_MAX, STREAMS_PER_CONNECTION_MAX,
    table::PEERS_MAX, threshold::STRANGER_BYTES_MAX,
};

#[tokio::test(start_paused = true)]
async fn what_finds_no_room_for_a_peer_is_dropped_and_counted() {
    let world = World::new();
    let mut a = world.node_with("one/a", 10, |config| config.send_queue_len_max = 5);
    // While dialling.
    for number in 0..8 {
        a.comm.handle().send(to("one/b"), hello(number));
    }
    sleep(Duration::from_millis(1)).await;
    assert_eq!(a.metrics.overflow.get(), 3);
    let mut b = world.node("one/b");
    for number in 0..5 {
        assert_eq!(
            b.message().await.1,
            hello(number),
            "the oldest are kept, in order"
        );
    }
    assert_eq!(a.news().await, "one/b connected as 1");
    // All at once, so that the connection has no time to take any.
    for number in 0..8 {
        a.comm.handle().send(to("one/b"), hello(number));
    }
    sleep(Duration::from_millis(1)).await;
    assert_eq!(a.metrics.overflow.get(), 3 + 3);
    assert!(!b.heard_nothing().await);
    assert_eq!(
        a.rest().await,
        Vec::<String>::new(),
        "a full queue is no reason to part"
    );
}

#[tokio::test(start_paused = true)]
async fn commands_beyond_the_limit_are_refused_and_answered() {
    let world = World::new();
    let mut a = world.node("one/a");
    let handle = a.comm.handle();
    for number in 0..COMMANDS_MAX {
        let answer = handle.probe(Ticket(number as u64), "no endpoint".to_owned());
        assert!(answer.is_none());
    }
    handle.send(to("one/b"), hello(1));
    handle.reply(tidings_gossip::id::ConnectionId(1), hello(1));
    assert_eq!(a.metrics.overflow.get(), 2);
    let answer = handle.probe(Ticket(9999), endpoint("one/b"));
    assert_eq!(
        answer.as_ref().map(told),
        Some("probe 9999: false".to_owned())
    );
    let answer = handle.identify(Ticket(9999), endpoint("one/b"));
    let text = "not identified 9999: comm has no time or has stopped";
    assert_eq!(answer.as_ref().map(told), Some(text.to_owned()));
    for _ in 0..COMMANDS_MAX {
        assert!(a.news().await.ends_with(": false"));
    }
    assert_eq!(a.rest().await, Vec::<String>::new());
}

fn of_wire_len(len: usize) -> Envelope {
    let mut envelope = hello(1);
    envelope.signature = Bytes::from(vec![0; len]);
    let excess = envelope.encoded_len() - len;
    envelope.signature.truncate(len - excess);
    assert_eq!(envelope.encoded_len(), len);
    envelope
}

#[tokio::test(start_paused = true)]
async fn c_s14_a_message_of_100_mib_passes_and_a_larger_one_ends_the_stream() {
    let world = World::plaintext();
    let mut a = world.node("one/a");
    let (_b, from_b) = world.friend("one/b", "one/a").await;
    let (_c, from_c) = world.friend("one/c", "one/a").await;
    for name in ["one/b connected as 1", "one/c connected as 2"] {
        assert_eq!(a.news().await, name);
    }
    let largest = of_wire_len(MESSAGE_LEN_MAX);
    from_b.say.send(largest.clone()).await.unwrap();
    assert!(a.message().await.1 == largest);
    from_b
        .say
        .send(of_wire_len(MESSAGE_LEN_MAX + 1))
        .await
        .unwrap();
    let said = from_b.end().await.unwrap_err();
    assert!(said.contains("too large"), "{said}");
    assert_eq!(a.news().await, "one/b disconnected as 1");
    from_c.say.send(hello(2)).await.unwrap();
    assert_eq!(a.message().await.1, hello(2));
}

#[tokio::test(start_paused = true)]
async fn c_g6_we_send_messages_of_100_mib() {
    let world = World::plaintext();
    let (a, mut b) = (world.node("one/a"), world.node("one/b"));
    let largest = of_wire_len(MESSAGE_LEN_MAX);
    a.comm.handle().send(to("one/b"), largest.clone());
    assert!(b.message().await.1 == largest);
    a.comm
        .handle()
        .send(to("one/b"), of_wire_len(MESSAGE_LEN_MAX + 1));
    a.comm.handle().send(to("one/b"), hello(2));
    assert_eq!(b.message().await.1, hello(2));
    let too_long = a.metrics.dropped.with_label_values(&["too long"]);
    assert_eq!((too_long.get(), a.metrics.overflow.get()), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn strangers_may_only_begin_so_many_handshakes() {
    let world = World::plaintext();
    let mut a = world.node("one/a");
    let began = Instant::now();
    // Four on each connection.
    let (mut clients, mut silent) = (Vec::new(), Vec::new());
    for _ in 0..HANDSHAKES_MAX / 4 {
        let mut client = world.client(None, "one/a").await;
        for _ in 0..4 {
            silent.push(client.talk([]).await.unwrap());
        }
        let refused = client.talk([]).await.err().unwrap();
        assert_eq!(refused.code(), Code::ResourceExhausted);
        clients.push(client);
    }
    let mut another = world.client(None, "one/a").await;
    let refused = another
        .talk([signed(claim("one/b", None))])
        .await
        .err()
        .unwrap();
    assert_eq!(refused.message(), "too many handshakes");
    assert_eq!(began.elapsed().as_secs(), 0);
    // The silent ones are soon gone.
    sleep(Duration::from_secs(2)).await;
    let talk = another.talk([signed(claim("one/b", None))]).await.unwrap();
    assert!(talk.hear().await.is_ok());
    assert_eq!(a.news().await, "one/b connected as 1");
    // A connection gives its right back.
    for number in 2..20 {
        let (_client, _talk) = world.friend("one/c", "one/a").await;
        assert!(a.news().await.starts_with("one/c connected as"), "{number}");
        a.comm.handle().close(identity("one/c").pki_id);
        assert!(
            a.news().await.starts_with("one/c disconnected as"),
            "{number}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn so_many_peers_and_no_more() {
    let world = World::plaintext();
    let mut a = world.node("one/a");
    let mut clients = Vec::new();
    for number in 0..PEERS_MAX {
        if number % 100 == 0 {
            clients.push((world.client(None, "one/a").await, Vec::new()));
        }
        let (client, talks) = clients.last_mut().unwrap();
        let talk = client
            .talk([signed(claim(&format!("two/{number}"), None))])
            .await
            .unwrap();
        assert!(a.news().await.contains("connected as"));
        talks.push(talk);
    }
    let (_client, late) = world.friend("one/b", "one/a").await;
    assert_eq!(late.end().await, Err("too many connections".to_owned()));
    // One that is known may replace its stream.
    let (_again, talk) = world.friend("two/0", "one/a").await;
    assert!(a.news().await.contains("disconnected as 1"));
    assert!(a.news().await.contains("connected as"));
    // One goes, one may come.
    assert_eq!(talk.finish().await, Ok(()));
    assert!(a.news().await.contains("disconnected"));
    let (_client, _talk) = world.friend("one/b", "one/a").await;
    assert_eq!(
        a.news().await,
        format!("one/b connected as {}", PEERS_MAX + 2)
    );
}

#[tokio::test(start_paused = true)]
async fn a_core_that_takes_no_news_holds_up_new_streams_and_nothing_else() {
    let world = World::plaintext();
    let mut a = world.node_with_inputs("one/a", 1);
    let (_b, from_b) = world.friend("one/b", "one/a").await;
    sleep(Duration::from_millis(1)).await;
    for number in 0..1100 {
        let answer = a
            .comm
            .handle()
            .probe(Ticket(number), "no endpoint".to_owned());
        assert!(answer.is_none());
    }
    sleep(Duration::from_secs(1)).await;
    // A stranger gets our greeting from the service, but no place.
    let mut client = world.client(None, "one/a").await;
    let stranger = client.talk([signed(claim("one/c", None))]).await.unwrap();
    stranger.say.send(hello(3)).await.unwrap();
    // Who is connected is served.
    a.comm.handle().send(to("one/b"), hello(1));
    assert_eq!(from_b.hear().await.unwrap(), Some(hello(1)));
    from_b.say.send(hello(2)).await.unwrap();
    assert_eq!(a.message().await.1, hello(2));
    assert!(a.heard_nothing().await);
    assert_eq!(a.news().await, "one/b connected as 1");
    for _ in 0..1100 {
        assert!(a.news().await.ends_with(": false"));
    }
    assert_eq!(a.news().await, "one/c connected as 2");
    assert_eq!(a.message().await.1, hello(3));
}

#[tokio::test(start_paused = true)]
async fn of_a_stranger_no_more_is_read_than_a_handshake_needs() {
    let world = World::plaintext();
    let mut a = world.node("one/a");
    // A greeting that would be fine but for its size.
    let mut client = world.client(None, "one/a").await;
    let began = Instant::now();
    let long = || {
        let mut claim = claim("one/b", None);
        claim.tls_cert_hash = Bytes::from(vec![0; STRANGER_BYTES_MAX]);
        signed(claim)
    };
    let talk = client.talk([long()]).await.unwrap();
    assert_eq!(talk.end().await, Err("no handshake in time".to_owned()));
    assert_eq!(began.elapsed().as_secs(), 2);
    // One of a usual size, with far more behind it than may be read before it is checked.
    let large = of_wire_len(10 * STRANGER_BYTES_MAX);
    let said = [
        signed(claim("one/b", None)),
        large.clone(),
        large.clone(),
        hello(1),
    ];
    let _talk = client.talk(said).await.unwrap();
    for expect in [large.clone(), large, hello(1)] {
        assert!(a.message().await.1 == expect);
    }
}

#[tokio::test(start_paused = true)]
async fn so_many_endpoints_are_dialled_at_a_time() {
    let world = World::plaintext();
    let mut a = world.node("one/a");
    let _b = world.node("one/b");
    // Endpoints that take a connection and never answer.
    let silent: Vec<_> = (0..DIALS_MAX)
        .map(|n| world.net.listen(&format!("silent{n}:1")))
        .collect();
    for n in 0..DIALS_MAX {
        let answer = (a.comm.handle()).probe(Ticket(n as u64), format!("silent{n}:1"));
        assert!(answer.is_none());
    }
    assert!(
        (a.comm.handle())
            .probe(Ticket(999), endpoint("one/b"))
            .is_none()
    );
    sleep(Duration::from_secs(1)).await;
    assert_eq!(world.net.open().len(), DIALS_MAX);
    assert!(a.inputs.is_empty(), "the last one waits for its turn");
    // The silent ones are given up after a while, in whatever order.
    let mut heard = Vec::new();
    for _ in 0..=DIALS_MAX {
        heard.push(a.news().await);
    }
    assert!(heard.contains(&"probe 999: true".to_owned()), "{heard:?}");
    drop(silent);
}

#[tokio::test(start_paused = true)]
async fn a_connection_carries_so_many_streams_and_others_wait() {
    let world = World::plaintext();
    let mut a = world.node("one/a");
    let mut client = world.client(None, "one/a").await;
    let mut talks = Vec::new();
    for number in 0..STREAMS_PER_CONNECTION_MAX {
        let greeting = signed(claim(&format!("two/{number}"), None));
        talks.push(client.talk([greeting]).await.unwrap());
        assert!(a.news().await.contains("connected as"));
    }
    let mut late = std::pin::pin!(client.talk([signed(claim("one/b", None))]));
    let waits = tokio::time::timeout(Duration::from_secs(1), &mut late).await;
    assert!(waits.is_err());
    assert!(a.inputs.is_empty());
    let first = talks.remove(0);
    assert_eq!(first.finish().await, Ok(()));
    assert!(a.news().await.contains("disconnected as 1"));
    assert!(late.await.unwrap().hear().await.is_ok());
    assert!(a.news().await.starts_with("one/b connected as"));
}
