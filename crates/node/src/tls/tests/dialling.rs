//! The client's side: whom it connects to, and how often.

use std::{sync::Arc, time::Duration};

use rustls::{ServerConfig, server::WebPkiClientVerifier};
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;
use tonic::{service::Routes, transport::Server};

use super::certificates::Authority;
use crate::{
    logging::tests::to_memory,
    tls::{
        DialError, Dialed, Incoming, Tls, TlsSettings, channel, connect, incoming::Listen,
        memory::Memory,
    },
};

const LIMIT: Duration = Duration::from_secs(3);

/// A server for nothing that can be dialled in the meantime.
async fn against(
    net: &Memory,
    endpoint: &str,
    server: &Tls,
    client: &Tls,
) -> Result<Dialed, DialError> {
    let (incoming, _closer) = Incoming::new(net.listen(endpoint), Some(server.clone()));
    let serving = Server::builder()
        .add_routes(Routes::default())
        .serve_with_incoming(incoming);
    tokio::select! {
        dialed = connect(net, endpoint, Some(client), LIMIT) => dialed,
        ended = serving => panic!("{ended:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn the_server_is_known_by_its_certificate() {
    let ca = Authority::new("ca");
    let (a, b) = (ca.tls("a"), ca.tls("b"));
    let dialed = against(&Memory::default(), "a:1", &a, &b).await.unwrap();
    assert_eq!(
        dialed.peer_certificate_sha256,
        Some(a.server_certificate_sha256())
    );
}

#[tokio::test(start_paused = true)]
async fn c_s13_a_server_of_another_name_is_refused() {
    let ca = Authority::new("ca");
    let began = Instant::now();
    let refused = against(&Memory::default(), "z:1", &ca.tls("a"), &ca.tls("b")).await;
    let refused = refused.unwrap_err();
    assert!(matches!(refused, DialError::Tls { .. }), "{refused}");
    assert!(refused.to_string().contains("z:1"), "{refused}");
    assert_eq!(
        began.elapsed().as_secs(),
        0,
        "it will not get better by trying again"
    );
}

#[tokio::test(start_paused = true)]
async fn c_s13_addresses_must_be_in_the_certificate_too() {
    let ca = Authority::new("ca");
    let net = Memory::default();
    let numbered = ca.tls("127.0.0.1");
    assert!(
        against(&net, "127.0.0.1:1", &numbered, &ca.tls("b"))
            .await
            .is_ok()
    );
    let refused = against(&net, "127.0.0.2:1", &numbered, &ca.tls("b")).await;
    assert!(matches!(refused, Err(DialError::Tls { .. })));
}

#[tokio::test(start_paused = true)]
async fn c_s13_a_server_of_unknown_roots_is_refused_until_they_are_known() {
    let (ca, other) = (Authority::new("ca"), Authority::new("other"));
    let (net, a, b) = (Memory::default(), other.tls("a"), ca.tls("b"));
    let refused = against(&net, "a:1", &a, &b).await;
    assert!(matches!(refused, Err(DialError::Tls { .. })));
    b.replace_channel_roots(|| vec![other.root()]).unwrap();
    assert!(against(&net, "a:1", &a, &b).await.is_ok());
    assert!(
        against(&net, "c:1", &ca.tls("c"), &b).await.is_ok(),
        "the own roots stay"
    );
    b.replace_channel_roots(Vec::<Vec<u8>>::new).unwrap();
    assert!(
        against(&net, "a:1", &a, &b).await.is_err(),
        "roots are replaced, not added"
    );
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_does_not_trust_us_is_told_of_on_both_sides() {
    let (_, subscriber, lines) = to_memory("comm.tls=info:error");
    let _logged = tracing::subscriber::set_default(subscriber);
    let (ca, other) = (Authority::new("ca"), Authority::new("other"));
    let (net, a, b) = (Memory::default(), other.tls("a"), ca.tls("b"));
    let (incoming, _closer) = Incoming::new(net.listen("a:1"), Some(a));
    let serving = Server::builder()
        .add_routes(Routes::default())
        .serve_with_incoming(incoming);
    let dialling = async {
        for _ in 0..3 {
            let refused = connect(&net, "a:1", Some(&b), LIMIT).await.unwrap_err();
            assert_eq!(
                refused.to_string(),
                "TLS with a:1: its certificate is not issued by a root that is trusted"
            );
            // The other end hears of it.
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::select! {
        () = dialling => {}
        ended = serving => panic!("{ended:?}"),
    }
    let text = lines.text();
    let line = "the other end does not trust our TLS certificate: it knows no root for it \
                (UnknownCA); its TLS roots must hold that of our peer.tls.cert.file";
    assert!(text.contains(line), "{text}");
    assert_eq!(text.lines().count(), 1, "once for each host: {text}");
}

#[tokio::test(start_paused = true)]
async fn c_s13_an_expired_server_is_refused() {
    let ca = Authority::new("ca");
    let old = ca.issue_until("a", 2020);
    let settings = TlsSettings {
        certificate: old.certificate,
        key: old.key,
        ..ca.settings("a")
    };
    let then = std::time::UNIX_EPOCH + Duration::from_secs(1_500_000_000);
    let a = Tls::new(&settings, then).unwrap();
    let refused = against(&Memory::default(), "a:1", &a, &ca.tls("b")).await;
    assert!(matches!(refused, Err(DialError::Tls { .. })));
}

#[tokio::test(start_paused = true)]
async fn c_g4_a_server_without_h2_is_refused() {
    let ca = Authority::new("ca");
    let (net, b) = (Memory::default(), ca.tls("b"));
    let mut listener = net.listen("a:1");
    let mut config = ServerConfig::clone(&ca.tls("a").server_config());
    config.alpn_protocols.clear();
    let server = async {
        let arrival = std::future::poll_fn(|cx| listener.poll_accept(cx))
            .await
            .unwrap();
        TlsAcceptor::from(Arc::new(config)).accept(arrival.io).await
    };
    let (refused, _server) = tokio::join!(connect(&net, "a:1", Some(&b), LIMIT), server);
    assert!(matches!(refused, Err(DialError::Alpn { .. })));
}

#[tokio::test(start_paused = true)]
async fn c_g2_our_certificate_is_shown_whatever_issuers_the_server_names() {
    let (ca, strangers) = (Authority::new("ca"), Authority::new("strangers"));
    let b = ca.tls("b");
    let mut roots = rustls::RootCertStore::empty();
    crate::tls::material::add_sound(&mut roots, &[strangers.root()]);
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let picky = WebPkiClientVerifier::builder_with_provider(roots.into(), provider)
        .allow_unauthenticated()
        .build()
        .unwrap();
    let net = Memory::default();
    let mut listener = net.listen("a:1");
    let config = Arc::new(picky_config(&ca, picky));
    let server = async {
        let arrival = std::future::poll_fn(|cx| listener.poll_accept(cx))
            .await
            .unwrap();
        TlsAcceptor::from(config).accept(arrival.io).await.map(drop)
    };
    let (server, _client) = tokio::join!(server, connect(&net, "a:1", Some(&b), LIMIT));
    // A client that obeys the list shows nothing and is let in.
    let refused = server.unwrap_err().to_string();
    assert!(refused.contains("UnknownIssuer"), "{refused}");
}

fn picky_config(
    ca: &Authority,
    verifier: Arc<dyn rustls::server::danger::ClientCertVerifier>,
) -> ServerConfig {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let resolver = ca.tls("a").server_config().cert_resolver.clone();
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS12])
        .unwrap()
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(resolver);
    config.alpn_protocols = vec![b"h2".to_vec()];
    config
}

#[tokio::test(start_paused = true)]
async fn a_closed_port_is_tried_again_until_the_limit() {
    let (net, b) = (Memory::default(), Authority::new("ca").tls("b"));
    let began = Instant::now();
    let refused = connect(&net, "a:1", Some(&b), LIMIT).await.unwrap_err();
    assert_eq!(began.elapsed(), LIMIT);
    assert_eq!(
        refused.to_string(),
        "cannot connect to a:1 within 3s: connection refused",
    );
}

#[tokio::test(start_paused = true)]
async fn a_server_that_says_nothing_is_given_up_at_the_limit() {
    let (net, b) = (Memory::default(), Authority::new("ca").tls("b"));
    let _listener = net.listen("a:1");
    let began = Instant::now();
    let refused = connect(&net, "a:1", Some(&b), LIMIT).await.unwrap_err();
    assert_eq!(began.elapsed(), LIMIT);
    assert_eq!(
        refused.to_string(),
        "cannot connect to a:1 within 3s: no TLS handshake"
    );
}

#[tokio::test(start_paused = true)]
async fn what_is_no_endpoint_is_not_dialled() {
    let net = Memory::default();
    for endpoint in ["", "a", ":1", "a:", "a:x", "a:70000", "::1:1", "a b:1"] {
        let refused = connect(&net, endpoint, None, LIMIT).await;
        let is_endpoint = matches!(refused, Err(DialError::Endpoint { .. }));
        let is_unreachable = matches!(refused, Err(DialError::Unreachable { .. }));
        assert!(
            is_endpoint || (endpoint == "a b:1" && is_unreachable),
            "{endpoint:?}: {refused:?}"
        );
    }
    net.listen("::1:1");
    let _listener = net.listen("::1:1");
    assert!(
        connect(&net, "[::1]:1", None, LIMIT).await.is_ok(),
        "IPv6 has brackets"
    );
}

#[tokio::test]
async fn an_orderer_is_dialled_with_roots_of_its_own() {
    let (ca, orderers) = (Authority::new("ca"), Authority::new("orderers"));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = listener.local_addr().unwrap().to_string();
    let server = orderers.tls("127.0.0.1");
    let (incoming, _closer) = Incoming::new(listener, Some(server));
    let serving = Server::builder()
        .add_routes(Routes::default())
        .serve_with_incoming(incoming);
    let identity = ca.tls("b").client_identity();
    let dials = async {
        for shown in [false, true] {
            let dialed = channel(&endpoint, Some(&identity), &[orderers.root()], shown).await;
            assert!(dialed.is_ok());
            let refused = channel(&endpoint, Some(&identity), &[ca.root()], shown).await;
            assert!(matches!(refused, Err(DialError::Tls { .. })));
        }
        let nobody: [Vec<u8>; 0] = [];
        let refused = channel(&endpoint, Some(&identity), &nobody, true).await;
        assert!(matches!(refused, Err(DialError::Roots { .. })));
    };
    tokio::select! {
        () = dials => {}
        ended = serving => panic!("{ended:?}"),
    }
}
