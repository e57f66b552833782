//! The server's side against clients of every kind.

use std::{sync::Arc, time::SystemTime};

use futures_util::StreamExt as _;
use rustls::{
    ClientConfig, RootCertStore, SupportedProtocolVersion,
    client::WebPkiServerVerifier,
    sign::{CertifiedKey, SingleCertAndKey},
    version::{TLS12, TLS13},
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    time::Instant,
};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tonic::transport::server::Connected as _;

use super::certificates::{Authority, Pair, self_signed};
use crate::tls::{
    Closer, Incoming, Io, Tls, TlsSettings,
    incoming::{CONNECTIONS_MAX, HANDSHAKES_MAX},
    memory::{Memory, MemoryListener},
};

/// A client of our own making, which need not behave.
struct Client {
    versions: &'static [&'static SupportedProtocolVersion],
    shown: Option<(Pair, Pair)>,
    alpn: Vec<Vec<u8>>,
    resumes: bool,
}

static ONLY_12: [&SupportedProtocolVersion; 1] = [&TLS12];
static ONLY_13: [&SupportedProtocolVersion; 1] = [&TLS13];

const H2: &[u8] = b"h2";

impl Client {
    fn showing(pair: Pair) -> Self {
        let shown = Some((pair.clone(), pair));
        Self {
            versions: &ONLY_13,
            shown,
            alpn: vec![H2.to_vec()],
            resumes: false,
        }
    }

    fn config(&self, root: &[u8]) -> ClientConfig {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut roots = RootCertStore::empty();
        roots
            .add(CertificateDer::from_pem_slice(root).unwrap())
            .unwrap();
        let verifier = WebPkiServerVerifier::builder_with_provider(roots.into(), provider.clone());
        let builder = ClientConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(self.versions)
            .unwrap()
            .with_webpki_verifier(verifier.build().unwrap());
        let mut config = match &self.shown {
            None => builder.with_no_client_auth(),
            Some((certificate, key)) => {
                let chain = vec![CertificateDer::from_pem_slice(&certificate.certificate).unwrap()];
                let key = PrivateKeyDer::from_pem_slice(&key.key).unwrap();
                let key = provider.key_provider.load_private_key(key).unwrap();
                let key = CertifiedKey::new(chain, key);
                builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(key)))
            }
        };
        config.alpn_protocols = self.alpn.clone();
        if !self.resumes {
            config.resumption = rustls::client::Resumption::disabled();
        }
        config
    }
}

type Secured = TlsStream<Box<dyn Io>>;

async fn shake(net: &Memory, config: Arc<ClientConfig>) -> std::io::Result<Secured> {
    let io = net.connect("a:1").unwrap();
    let name = ServerName::try_from("a").unwrap();
    let mut stream = TlsConnector::from(config).connect(name, io).await?;
    // With TLS 1.3 the client hears of a refusal only when it reads.
    stream.write_all(b"!").await?;
    stream.flush().await?;
    Ok(stream)
}

fn listen(tls: &Tls) -> (Memory, Incoming, Closer) {
    let net = Memory::default();
    let listener: MemoryListener = net.listen("a:1");
    let (incoming, closer) = Incoming::new(listener, Some(tls.clone()));
    (net, incoming, closer)
}

/// The certificate hash that the server saw, or that it refused.
async fn seen(tls: &Tls, root: &[u8], client: &Client) -> Result<Option<[u8; 32]>, String> {
    let (net, mut incoming, _closer) = listen(tls);
    let client = async {
        let mut stream = shake(&net, Arc::new(client.config(root))).await?;
        stream.read_u8().await
    };
    let server = async {
        let mut accepted = incoming.next().await?.ok()?;
        assert_eq!(accepted.read_u8().await.ok()?, b'!');
        accepted.write_u8(b'?').await.ok()?;
        accepted.flush().await.ok()?;
        Some(accepted.connect_info().peer_certificate_sha256)
    };
    tokio::pin!(client);
    tokio::select! {
        Some(sha256) = server => {
            assert_eq!(client.await.unwrap(), b'?');
            Ok(sha256)
        }
        refused = &mut client => Err(refused.unwrap_err().to_string()),
    }
}

fn sha256(pair: &Pair) -> [u8; 32] {
    tidings_msp::crypto::sha256(&CertificateDer::from_pem_slice(&pair.certificate).unwrap())
}

#[tokio::test(start_paused = true)]
async fn any_certificate_will_do_in_tls_1_2_and_1_3() {
    let ca = Authority::new("ca");
    let tls = ca.tls("a");
    let foreign = Authority::new("foreign").issue("x");
    for pair in [
        self_signed("x"),
        foreign,
        ca.issue("x"),
        ca.issue_until("x", 2020),
    ] {
        for versions in [&ONLY_12, &ONLY_13] {
            let client = Client {
                versions,
                ..Client::showing(pair.clone())
            };
            assert_eq!(
                seen(&tls, &ca.root(), &client).await,
                Ok(Some(sha256(&pair)))
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn no_certificate_is_accepted_and_known_to_be_absent() {
    let ca = Authority::new("ca");
    for versions in [&ONLY_12, &ONLY_13] {
        let client = Client {
            versions,
            shown: None,
            ..Client::showing(self_signed("x"))
        };
        assert_eq!(seen(&ca.tls("a"), &ca.root(), &client).await, Ok(None));
    }
}

#[tokio::test(start_paused = true)]
async fn c_s2_the_certificate_of_somebody_else_is_refused() {
    let ca = Authority::new("ca");
    for versions in [&ONLY_12, &ONLY_13] {
        let shown = Some((ca.issue("victim"), self_signed("thief")));
        let client = Client {
            versions,
            shown,
            ..Client::showing(self_signed("x"))
        };
        let refused = seen(&ca.tls("a"), &ca.root(), &client).await.unwrap_err();
        assert!(refused.contains("alert"), "{refused}");
    }
}

#[tokio::test(start_paused = true)]
async fn required_certificates_must_chain_to_the_roots_of_the_moment() {
    let (ca, clients, later) = (
        Authority::new("ca"),
        Authority::new("clients"),
        Authority::new("later"),
    );
    let settings = TlsSettings {
        client_auth_required: true,
        client_roots: vec![clients.root()],
        ..ca.settings("a")
    };
    let tls = Tls::new(&settings, SystemTime::now()).unwrap();
    let root = ca.root();
    let by = |authority: &Authority| Client::showing(authority.issue("x"));
    let none = Client {
        shown: None,
        ..Client::showing(self_signed("x"))
    };
    let (first, second, own) = (by(&clients), by(&later), by(&ca));

    assert!(seen(&tls, &root, &first).await.is_ok());
    for refused in [&none, &second, &own, &Client::showing(self_signed("x"))] {
        assert!(seen(&tls, &root, refused).await.is_err());
    }
    tls.replace_channel_roots(|| vec![later.root()]).unwrap();
    for accepted in [&first, &second, &own] {
        assert!(seen(&tls, &root, accepted).await.is_ok());
    }
    assert!(seen(&tls, &root, &none).await.is_err());
    tls.replace_channel_roots(Vec::<Vec<u8>>::new).unwrap();
    assert!(
        seen(&tls, &root, &second).await.is_err(),
        "roots are replaced, not added"
    );
}

#[tokio::test(start_paused = true)]
async fn required_without_roots_lets_nobody_in() {
    let ca = Authority::new("ca");
    let settings = TlsSettings {
        client_auth_required: true,
        ..ca.settings("a")
    };
    let tls = Tls::new(&settings, SystemTime::now()).unwrap();
    assert!(
        seen(&tls, &ca.root(), &Client::showing(ca.issue("x")))
            .await
            .is_err()
    );
}

#[tokio::test(start_paused = true)]
async fn c_g4_the_server_selects_h2_and_does_not_insist_on_being_asked() {
    let ca = Authority::new("ca");
    let (net, mut incoming, _closer) = listen(&ca.tls("a"));
    let select = async |alpn: Vec<Vec<u8>>, incoming: &mut Incoming| {
        let client = Client {
            alpn,
            ..Client::showing(self_signed("x"))
        };
        let (stream, accepted) = tokio::join!(
            shake(&net, Arc::new(client.config(&ca.root()))),
            incoming.next()
        );
        accepted.unwrap().unwrap();
        stream
            .unwrap()
            .get_ref()
            .1
            .alpn_protocol()
            .map(<[u8]>::to_vec)
    };
    let both = vec![b"http/1.1".to_vec(), H2.to_vec()];
    assert_eq!(select(both, &mut incoming).await.as_deref(), Some(H2));
    assert_eq!(select(Vec::new(), &mut incoming).await, None);
}

#[tokio::test(start_paused = true)]
async fn sessions_are_never_resumed() {
    let ca = Authority::new("ca");
    let (net, mut incoming, _closer) = listen(&ca.tls("a"));
    for versions in [&ONLY_12, &ONLY_13] {
        let client = Client {
            versions,
            resumes: true,
            ..Client::showing(self_signed("x"))
        };
        let config = Arc::new(client.config(&ca.root()));
        for _ in 0..2 {
            let (stream, accepted) = tokio::join!(shake(&net, config.clone()), incoming.next());
            let (mut accepted, mut stream) = (accepted.unwrap().unwrap(), stream.unwrap());
            accepted.write_u8(b'?').await.unwrap();
            accepted.flush().await.unwrap();
            stream.read_u8().await.unwrap();
            let kind = stream.get_ref().1.handshake_kind();
            assert_eq!(kind, Some(rustls::HandshakeKind::Full));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn c_g2_no_issuers_are_named_unless_clients_are_restricted() {
    let ca = Authority::new("ca");
    let required = TlsSettings {
        client_auth_required: true,
        client_roots: vec![ca.root()],
        ..ca.settings("a")
    };
    let required = Tls::new(&required, SystemTime::now()).unwrap();
    let open = ca.tls("a");
    open.replace_channel_roots(|| vec![ca.root()]).unwrap();
    for (tls, named) in [(open, 0), (required, 1)] {
        let hints = Arc::new(std::sync::Mutex::new(None));
        let mut config = Client::showing(ca.issue("x")).config(&ca.root());
        config.client_auth_cert_resolver = Arc::new(Hints {
            seen: hints.clone(),
            inner: config.client_auth_cert_resolver,
        });
        let (net, mut incoming, _closer) = listen(&tls);
        let (_stream, _accepted) = tokio::join!(shake(&net, Arc::new(config)), incoming.next());
        assert_eq!(*hints.lock().unwrap(), Some(named));
    }
}

#[derive(Debug)]
struct Hints {
    seen: Arc<std::sync::Mutex<Option<usize>>>,
    inner: Arc<dyn rustls::client::ResolvesClientCert>,
}

impl rustls::client::ResolvesClientCert for Hints {
    fn resolve(
        &self,
        hints: &[&[u8]],
        schemes: &[rustls::SignatureScheme],
    ) -> Option<Arc<CertifiedKey>> {
        *self.seen.lock().unwrap() = Some(hints.len());
        self.inner.resolve(hints, schemes)
    }

    fn has_certs(&self) -> bool {
        true
    }
}

#[tokio::test(start_paused = true)]
async fn a_silent_peer_holds_up_nobody_and_is_dropped_after_five_seconds() {
    let ca = Authority::new("ca");
    let (net, mut incoming, _closer) = listen(&ca.tls("a"));
    let began = Instant::now();
    let mut silent = net.connect("a:1").unwrap();
    let config = Arc::new(Client::showing(ca.issue("x")).config(&ca.root()));
    let (stream, accepted) = tokio::join!(shake(&net, config.clone()), incoming.next());
    assert!(stream.is_ok() && accepted.unwrap().is_ok());
    assert_eq!(began.elapsed().as_secs(), 0);
    let mut byte = [0; 1];
    tokio::select! {
        end = silent.read(&mut byte) => assert!(matches!(end, Ok(0) | Err(_))),
        _ = incoming.next() => panic!("nobody else came"),
    }
    assert_eq!(began.elapsed().as_secs(), 5);
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_is_silent_after_tls_is_dropped_after_five_seconds() {
    let ca = Authority::new("ca");
    let (net, mut incoming, _closer) = listen(&ca.tls("a"));
    let began = Instant::now();
    let client = async {
        let io = net.connect("a:1").unwrap();
        let config = Arc::new(Client::showing(ca.issue("x")).config(&ca.root()));
        TlsConnector::from(config)
            .connect(ServerName::try_from("a").unwrap(), io)
            .await
    };
    let (_stream, accepted) = tokio::join!(client, incoming.next());
    let ended = accepted.unwrap().unwrap().read_u8().await.unwrap_err();
    assert_eq!(ended.kind(), std::io::ErrorKind::TimedOut);
    assert_eq!(began.elapsed().as_secs(), 5);
}

#[tokio::test(start_paused = true)]
async fn of_too_many_handshakes_the_oldest_gives_way() {
    let ca = Authority::new("ca");
    let (net, mut incoming, _closer) = listen(&ca.tls("a"));
    let began = Instant::now();
    let mut silent: Vec<_> = (0..HANDSHAKES_MAX)
        .map(|_| net.connect("a:1").unwrap())
        .collect();
    let config = Arc::new(Client::showing(ca.issue("x")).config(&ca.root()));
    let (stream, accepted) = tokio::join!(shake(&net, config), incoming.next());
    assert!(stream.is_ok() && accepted.unwrap().is_ok());
    let second = silent.swap_remove(1);
    let mut first = silent.swap_remove(0);
    assert!(matches!(first.read(&mut [0; 1]).await, Ok(0) | Err(_)));
    assert_eq!(
        began.elapsed().as_secs(),
        0,
        "the first was not ended by its time limit"
    );
    drop(second);
}

#[tokio::test(start_paused = true)]
async fn dropping_the_closer_ends_accepting_and_all_connections() {
    let ca = Authority::new("ca");
    let (net, mut incoming, closer) = listen(&ca.tls("a"));
    let config = Arc::new(Client::showing(ca.issue("x")).config(&ca.root()));
    let (_stream, accepted) = tokio::join!(shake(&net, config), incoming.next());
    let mut accepted = accepted.unwrap().unwrap();
    accepted.read_u8().await.unwrap();
    drop(closer);
    let ended = accepted.read_u8().await.unwrap_err();
    assert_eq!(ended.kind(), std::io::ErrorKind::ConnectionAborted);
    assert!(accepted.read_u8().await.is_err(), "it stays ended");
    assert!(incoming.next().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn so_many_connections_are_open_and_more_are_refused() {
    let net = Memory::default();
    let (mut incoming, _closer) = Incoming::new(net.listen("a:1"), None);
    let mut open = Vec::new();
    for _ in 0..CONNECTIONS_MAX {
        let client = net.connect("a:1").unwrap();
        open.push((client, incoming.next().await.unwrap().unwrap()));
    }
    let mut late = net.connect("a:1").unwrap();
    let nobody = tokio::time::timeout(std::time::Duration::from_secs(1), incoming.next()).await;
    assert!(nobody.is_err());
    assert_eq!(late.read(&mut [0]).await.unwrap(), 0, "it is told at once");
    open.pop();
    let _client = net.connect("a:1").unwrap();
    assert!(incoming.next().await.unwrap().is_ok());
}
