//! One connection to a peer, whoever dials, and however often.

use std::{
    future::poll_fn,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::Poll,
    time::Duration,
};

use futures_util::{StreamExt as _, stream};
use prost::Message as _;
use tidings_proto::gossip::{Envelope, GossipMessage, gossip_message::Content};
use tokio::{
    sync::watch,
    task::{JoinSet, yield_now},
    time::sleep,
};
use tonic::Streaming;

use super::toy::{Answer, Node, World, claim, hello, identity, saying, signed, to};
use crate::comm::pair::GRACE;

/// Long enough for everything that may happen without a cause from outside.
const CALM: Duration = Duration::from_secs(20);

fn nonce(envelope: &Envelope) -> u64 {
    match GossipMessage::decode(envelope.payload.clone())
        .unwrap()
        .content
    {
        Some(Content::Hello(hello)) => hello.nonce,
        other => panic!("{other:?}"),
    }
}

async fn nonces(node: &mut Node, count: usize) -> Vec<u64> {
    let mut got = Vec::new();
    for _ in 0..count {
        got.push(nonce(&node.message().await.1));
    }
    got.sort_unstable();
    got
}

/// Two names of peers, the one with the smaller PKI-ID first.
fn ordered() -> [&'static str; 2] {
    let mut names = ["one/a", "one/b"];
    names.sort_by_key(|name| identity(name).pki_id);
    names
}

fn host(name: &str) -> &str {
    &name[4..]
}

/// Lets every task that can run do so once, which is finer than `yield_now`.
async fn turn() {
    let mut yielded = false;
    poll_fn(|cx| {
        cx.waker().wake_by_ref();
        if std::mem::replace(&mut yielded, true) {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn two_nodes_that_dial_each_other_end_up_with_the_same_stream() {
    let world = World::new();
    let [small, large] = ordered();
    let (mut s, mut l) = (world.node(small), world.node(large));
    let (mut crossed, mut tasks) = (0, JoinSet::new());
    for round in 0..200_u64 {
        let (sh, lh) = (s.comm.handle(), l.comm.handle());
        sh.send(to(large), hello(0));
        // From the very same moment to after the other's dial is complete.
        let later = lh.clone();
        tasks.spawn(async move {
            for _ in 0..round {
                turn().await;
            }
            later.send(to(small), hello(0));
        });
        let connected = [s.news().await, l.news().await];
        assert!(
            connected[0].starts_with(&format!("{large} connected as")),
            "{connected:?}"
        );
        assert!(
            connected[1].starts_with(&format!("{small} connected as")),
            "{connected:?}"
        );
        sleep(Duration::from_millis(1)).await;
        let dialled = world.net.open().len();
        crossed += dialled - 1;
        for number in 1..10 {
            sh.send(to(large), hello(number));
            lh.send(to(small), hello(number));
            sleep(GRACE / 4).await;
        }
        let all: Vec<u64> = (0..10).collect();
        assert_eq!(nonces(&mut s, 10).await, all, "round {round}");
        assert_eq!(nonces(&mut l, 10).await, all, "round {round}");
        let open = world.net.open();
        assert_eq!(open.len(), 1, "round {round}: {open:?}");
        if dialled == 2 {
            assert_eq!(
                open,
                [format!("{} to {}:1", host(small), host(large))],
                "round {round}"
            );
        }
        assert_eq!(
            (s.rest().await, l.rest().await),
            (vec![], vec![]),
            "round {round}"
        );
        sh.close(identity(large).pki_id);
        assert!(s.news().await.starts_with(&format!("{large} disconnected")));
        assert!(l.news().await.starts_with(&format!("{small} disconnected")));
        assert_eq!(world.net.open(), Vec::<String>::new());
    }
    assert!(
        (20..200).contains(&crossed),
        "both cases were met: {crossed} of 200 crossed"
    );
}

/// A server that holds back its handshake until told, and counts streams.
fn held_back(
    greeting: Envelope,
    go: watch::Receiver<bool>,
    streams: Arc<AtomicUsize>,
) -> impl super::toy::Script {
    move |heard: Streaming<Envelope>| {
        streams.fetch_add(1, Ordering::Relaxed);
        let (greeting, mut go) = (greeting.clone(), go.clone());
        let greeting = stream::once(async move {
            go.wait_for(|go| *go).await.unwrap();
            Ok(greeting)
        });
        let rest = stream::unfold(heard, async |mut heard| {
            while let Ok(Some(_)) = heard.message().await {}
            None
        });
        Box::pin(greeting.chain(rest)) as Answer
    }
}

#[tokio::test(start_paused = true)]
async fn a_go_peer_that_ends_what_it_dialled_leaves_us_what_we_dialled() {
    let [small, large] = ordered();
    for (us, go) in [(small, large), (large, small)] {
        for ours_first in [true, false] {
            let world = World::new();
            let mut node = world.node(us);
            let tls = world.tls(go).unwrap();
            let greeting = signed(claim(go, Some(tls.server_certificate_sha256())));
            let (proceed, wait) = watch::channel(ours_first);
            let streams = Arc::new(AtomicUsize::new(0));
            let _server = world.server(go, Some(&tls), held_back(greeting, wait, streams.clone()));
            node.comm.handle().send(to(go), hello(1));
            if ours_first {
                assert_eq!(node.news().await, format!("{go} connected as 1"));
            }
            // Go's dial was under way at the same time.
            let (client, talk) = world.friend(go, us).await;
            talk.say.send(hello(7)).await.unwrap();
            assert_eq!(nonce(&node.message().await.1), 7);
            if !ours_first {
                assert_eq!(node.news().await, format!("{go} connected as 1"));
                proceed.send(true).unwrap();
            }
            sleep(Duration::from_millis(1)).await;
            // Go has our stream now, and cancels its own.
            drop((talk, client));
            sleep(CALM).await;
            node.comm.handle().send(to(go), hello(2));
            sleep(Duration::from_millis(1)).await;
            assert_eq!(node.metrics.messages_sent.get(), 2);
            assert_eq!(node.rest().await, Vec::<String>::new());
            assert_eq!(world.net.open().len(), 1);
            assert_eq!(streams.load(Ordering::Relaxed), 1, "C-G3: one stream, ever");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn c_g3_one_dial_at_a_time_and_none_beside_a_living_connection() {
    let world = World::new();
    let mut node = world.node("one/a");
    let tls = world.tls("one/b").unwrap();
    let greeting = signed(claim("one/b", Some(tls.server_certificate_sha256())));
    let (proceed, wait) = watch::channel(false);
    let streams = Arc::new(AtomicUsize::new(0));
    let _server = world.server(
        "one/b",
        Some(&tls),
        held_back(greeting, wait, streams.clone()),
    );
    for number in 0..50 {
        node.comm.handle().send(to("one/b"), hello(number));
        yield_now().await;
    }
    sleep(Duration::from_millis(1)).await;
    proceed.send(true).unwrap();
    assert_eq!(node.news().await, "one/b connected as 1");
    for number in 0..50 {
        node.comm.handle().send(to("one/b"), hello(number));
        yield_now().await;
    }
    sleep(CALM).await;
    assert_eq!(node.metrics.messages_sent.get(), 100);
    assert_eq!(streams.load(Ordering::Relaxed), 1);
    assert_eq!(node.rest().await, Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn c_g13_an_inbound_connection_is_used_without_dialling() {
    let world = World::new();
    let mut node = world.node("one/a");
    let (_client, talk) = world.friend("one/b", "one/a").await;
    assert_eq!(node.news().await, "one/b connected as 1");
    node.comm.handle().send(to("one/b"), hello(1));
    assert_eq!(nonce(&talk.hear().await.unwrap().unwrap()), 1);
    sleep(CALM).await;
    node.comm.handle().send(to("one/b"), hello(2));
    assert_eq!(nonce(&talk.hear().await.unwrap().unwrap()), 2);
    assert_eq!(world.net.open(), [" to a:1"]);
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_dials_again_replaces_its_stream_and_keeps_the_new_one() {
    let world = World::new();
    let mut node = world.node("one/a");
    let (first_client, first) = world.friend("one/b", "one/a").await;
    assert_eq!(node.news().await, "one/b connected as 1");
    let (_second_client, second) = world.friend("one/b", "one/a").await;
    assert_eq!(node.news().await, "one/b disconnected as 1");
    assert_eq!(node.news().await, "one/b connected as 2");
    assert_eq!(first.end().await, Ok(()));
    drop((first, first_client));
    sleep(CALM).await;
    second.say.send(hello(1)).await.unwrap();
    let (from, _) = node.message().await;
    node.comm.handle().reply(from.id, hello(2));
    assert_eq!(nonce(&second.hear().await.unwrap().unwrap()), 2);
    assert_eq!(node.rest().await, Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn a_renewed_peer_that_is_already_connected_has_one_connection() {
    let world = World::new();
    let mut node = world.node("one/a");
    let tls = world.tls("one/b").unwrap();
    let greeting = signed(claim("one/b", Some(tls.server_certificate_sha256())));
    let _server = world.server("one/b", Some(&tls), saying(vec![greeting]));
    node.comm.handle().send(to("one/b"), hello(1));
    assert_eq!(node.news().await, "one/b connected as 1");
    let old = tidings_gossip::effect::Destination {
        peer: identity("one/old").pki_id,
        ..to("one/b")
    };
    node.comm.handle().send(old, hello(2));
    assert_eq!(node.news().await, "one/old switched");
    assert_eq!(node.news().await, "one/b disconnected as 1");
    assert_eq!(node.news().await, "one/b connected as 2");
    sleep(CALM).await;
    assert_eq!(world.net.open().len(), 1);
    assert_eq!(node.rest().await, Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_ends_early_is_dialled_again_by_the_next_message() {
    let world = World::new();
    let mut node = world.node("one/a");
    let tls = world.tls("one/b").unwrap();
    let greeting = signed(claim("one/b", Some(tls.server_certificate_sha256())));
    let ending = move |_| Box::pin(stream::iter([Ok(greeting.clone())])) as Answer;
    let _server = world.server("one/b", Some(&tls), ending);
    for number in 1..4 {
        node.comm.handle().send(to("one/b"), hello(number));
        assert_eq!(node.news().await, format!("one/b connected as {number}"));
        assert_eq!(node.news().await, format!("one/b disconnected as {number}"));
    }
    assert_eq!(
        node.rest().await,
        Vec::<String>::new(),
        "an end is not a failure"
    );
}
