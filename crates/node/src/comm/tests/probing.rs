//! Questions that are asked without becoming connected: whether anybody answers, and who.

use std::time::{Duration, SystemTime};

use tidings_gossip::id::Ticket;
use tidings_proto::gossip::gossip_message::Content;
use tokio::time::Instant;

use super::toy::{KNOWN, World, claim, content, endpoint, hello, saying, signed, to};
use crate::tls::{Tls, TlsSettings, tests::certificates::Authority};

#[tokio::test(start_paused = true)]
async fn a_probe_finds_out_whether_anything_answers() {
    let world = World::new();
    let (mut a, mut b) = (world.node("one/a"), world.node("one/b"));
    let began = Instant::now();
    assert!(
        a.comm
            .handle()
            .probe(Ticket(1), endpoint("one/b"))
            .is_none()
    );
    assert_eq!(a.news().await, "probe 1: true");
    assert_eq!(began.elapsed().as_secs(), 0);
    assert!(
        a.comm
            .handle()
            .probe(Ticket(2), "nobody:1".to_owned())
            .is_none()
    );
    assert_eq!(a.news().await, "probe 2: false");
    assert_eq!(began.elapsed().as_secs(), 3);
    assert_eq!(b.rest().await, Vec::<String>::new());
    assert_eq!(world.net.open(), Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn identifying_finds_out_who_answers_and_disturbs_nothing() {
    let world = World::new();
    let (mut a, mut b) = (world.node("one/a"), world.node("two/d"));
    a.comm.handle().send(to("two/d"), hello(1));
    assert_eq!(a.news().await, "two/d connected as 1");
    assert_eq!(b.news().await, "one/a connected as 1");
    assert!(
        a.comm
            .handle()
            .identify(Ticket(1), endpoint("two/d"))
            .is_none()
    );
    assert_eq!(a.news().await, "identified 1: two/d");
    assert!(
        b.comm
            .handle()
            .identify(Ticket(2), endpoint("one/a"))
            .is_none()
    );
    assert_eq!(b.news().await, "identified 2: one/a");
    assert!(
        a.comm
            .handle()
            .identify(Ticket(3), endpoint("one/a"))
            .is_none()
    );
    assert_eq!(a.news().await, "identified 3: one/a", "even ourselves");
    assert_eq!((a.rest().await, b.rest().await), (vec![], vec![]));
    assert_eq!(world.net.open(), ["a to d:1"]);
    assert!(
        a.comm
            .handle()
            .identify(Ticket(4), "nobody:1".to_owned())
            .is_none()
    );
    let said = "not identified 4: cannot connect to nobody:1 within 3s: connection refused";
    assert_eq!(a.news().await, said);
}

#[tokio::test(start_paused = true)]
async fn who_is_not_identified_for_a_certificate_is_told_with_the_setting() {
    let world = World::new();
    let mut a = world.node("one/a");
    let other = Authority::new("other");
    let mut identify = async |tls: Tls| {
        let _server = world.server("one/b", Some(&tls), saying(vec![]));
        let asked = a.comm.handle().identify(Ticket(1), endpoint("one/b"));
        assert!(asked.is_none());
        a.news().await
    };
    assert_eq!(
        identify(other.tls("b")).await,
        "not identified 1: TLS with b:1: its certificate is not issued by a root that is trusted; \
         check peer.tls.rootcert.file here, and peer.tls.cert.file there"
    );
    // A server judges the client's certificate after the client's part of the handshake.
    let picky = TlsSettings {
        client_auth_required: true,
        client_roots: vec![other.root()],
        ..world.ca.settings("b")
    };
    let told = identify(Tls::new(&picky, SystemTime::now()).unwrap()).await;
    assert!(
        told.contains("does not trust our TLS certificate"),
        "{told}"
    );
    assert!(told.ends_with("and the TLS roots there"), "{told}");
}

#[tokio::test(start_paused = true)]
async fn the_answer_to_a_probe_is_a_handshake_that_ends_well() {
    let world = World::new();
    let mut a = world.node("one/a");
    let tls = world.tls("one/b").unwrap();
    let mut client = world.client(Some(&tls), "one/a").await;
    let mut probe = claim("one/b", Some(tls.client_certificate_sha256()));
    probe.probe = true;
    let talk = client.talk([signed(probe)]).await.unwrap();
    let Some(Content::Conn(answer)) = content(&talk.hear().await.unwrap().unwrap()) else {
        panic!("no handshake");
    };
    assert!(!answer.probe);
    assert_eq!(talk.end().await, Ok(()));
    assert_eq!(a.rest().await, Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_probes_makes_no_connection() {
    let world = World::new();
    let mut a = world.node("one/a");
    let tls = world.tls("one/b").unwrap();
    let mut probe = claim("one/b", Some(tls.server_certificate_sha256()));
    probe.probe = true;
    let _server = world.server("one/b", Some(&tls), saying(vec![signed(probe)]));
    a.comm.handle().send(to("one/b"), hello(1));
    assert_eq!(a.news().await, "one/b unreachable");
    assert!(
        a.comm
            .handle()
            .identify(Ticket(1), endpoint("one/b"))
            .is_none()
    );
    assert_eq!(
        a.news().await,
        "not identified 1: the peer answered with a probe"
    );
}

#[tokio::test(start_paused = true)]
async fn the_ping_comes_first_and_has_two_seconds() {
    let world = World::plaintext();
    let mut a = world.node("one/a");
    // Takes the connection and never answers.
    let _listener = world.net.listen(&endpoint("one/b"));
    let began = Instant::now();
    assert!(
        a.comm
            .handle()
            .probe(Ticket(1), endpoint("one/b"))
            .is_none()
    );
    assert_eq!(a.news().await, "probe 1: false");
    assert_eq!(began.elapsed(), Duration::from_secs(2));
    assert!(KNOWN.contains(&"one/b"));
}
