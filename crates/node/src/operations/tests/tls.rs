//! Who may see what when `operations.tls` is on: Fabric's rules.

use std::{io, net::SocketAddr, sync::Arc};

use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion, version};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject as _};
use tokio_rustls::TlsConnector;

use super::*;
use crate::tls::tests::certificates::{Authority, Pair};

static ONLY_12: [&SupportedProtocolVersion; 1] = [&version::TLS12];
pub(crate) static ONLY_13: [&SupportedProtocolVersion; 1] = [&version::TLS13];

/// A server with TLS, and an authority for its clients.
struct Fortress {
    scene: Scene,
    root: Vec<u8>,
    clients: Authority,
}

impl Fortress {
    async fn start(client_auth_required: bool, has_client_roots: bool) -> Self {
        let (servers, clients) = (Authority::new("servers"), Authority::new("clients"));
        let Pair { certificate, key } = servers.issue("operations");
        let client_roots = has_client_roots.then(|| clients.root());
        let settings = OperationsSettings {
            tls: Some(ListenerTls {
                certificate,
                key,
                client_auth_required,
                client_roots: client_roots.into_iter().collect(),
                ..ListenerTls::default()
            }),
            dashboard: true,
            ..plain()
        };
        Self {
            scene: Scene::start(&settings).await,
            root: servers.root(),
            clients,
        }
    }

    async fn visit(
        &self,
        versions: &[&'static SupportedProtocolVersion],
        shown: Option<&Pair>,
        request: &str,
    ) -> Result<String, io::Error> {
        visit(
            self.scene.server.address(),
            &self.root,
            versions,
            shown,
            request,
        )
        .await
    }

    async fn status(&self, shown: Option<&Pair>, request: &str) -> String {
        let visit = self.visit(&ONLY_13, shown, request).await;
        visit.unwrap_or_else(|_error| "cut off".to_owned())
    }
}

/// The status of the answer, or how the connection failed.
pub(crate) async fn visit(
    address: SocketAddr,
    root: &[u8],
    versions: &[&'static SupportedProtocolVersion],
    shown: Option<&Pair>,
    request: &str,
) -> Result<String, io::Error> {
    let mut roots = RootCertStore::empty();
    let root = CertificateDer::from_pem_slice(root).unwrap();
    roots.add(root).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(roots);
    let mut config = match shown {
        None => builder.with_no_client_auth(),
        Some(pair) => {
            let certificate = CertificateDer::from_pem_slice(&pair.certificate).unwrap();
            let key = PrivateKeyDer::from_pem_slice(&pair.key).unwrap();
            builder
                .with_client_auth_cert(vec![certificate], key)
                .unwrap()
        }
    };
    // Those who prefer another protocol are served by this one.
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let stream = TcpStream::connect(address).await?;
    let name = ServerName::try_from("operations").unwrap();
    let connector = TlsConnector::from(Arc::new(config));
    let mut stream = connector.connect(name, stream).await?;
    let request = format!("{request} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    let (head, _) = answer.split_once("\r\n\r\n").unwrap();
    if head.contains(" 401 ") {
        assert!(answer.ends_with("\r\n\r\n"), "a body: {answer}");
        assert!(!head.contains("X-Request-Id"), "{head}");
    }
    Ok(head.split(' ').nth(1).unwrap().to_owned())
}

#[tokio::test]
async fn what_tells_or_changes_much_needs_a_client_certificate() {
    let fortress = Fortress::start(false, true).await;
    let good = fortress.clients.issue("somebody");
    for (request, without, with) in [
        ("GET /healthz", "200", "200"),
        ("GET /version", "200", "200"),
        ("GET /nothing", "404", "404"),
        ("GET /logspec", "401", "200"),
        ("POST /logspec", "401", "400"),
        ("PUT /logspec", "401", "400"),
        ("GET /metrics", "401", "200"),
        ("GET /dashboard", "401", "200"),
        ("GET /dashboard/state", "401", "200"),
    ] {
        assert_eq!(fortress.status(None, request).await, without, "{request}");
        assert_eq!(
            fortress.status(Some(&good), request).await,
            with,
            "{request}"
        );
        let older = fortress.visit(&ONLY_12, Some(&good), request).await;
        assert_eq!(older.unwrap(), with, "{request} with TLS 1.2");
    }
}

#[tokio::test]
async fn a_certificate_that_is_not_good_is_worse_than_none() {
    let fortress = Fortress::start(false, true).await;
    let stranger = Authority::new("clients").issue("somebody");
    let expired = fortress.clients.issue_until("somebody", 2020);
    for bad in [&stranger, &expired] {
        let status = fortress.status(Some(bad), "GET /healthz").await;
        assert_eq!(status, "cut off");
    }
    let unrooted = Fortress::start(false, false).await;
    let good = unrooted.clients.issue("somebody");
    let request = "GET /healthz";
    assert_eq!(unrooted.status(Some(&good), request).await, "cut off");
    assert_eq!(unrooted.status(None, request).await, "200");
    assert_eq!(unrooted.status(None, "GET /metrics").await, "401");
}

#[tokio::test]
async fn with_client_authentication_nobody_comes_in_without_certificate() {
    let fortress = Fortress::start(true, true).await;
    let good = fortress.clients.issue("somebody");
    let request = "GET /healthz";
    assert_eq!(fortress.status(None, request).await, "cut off");
    assert_eq!(fortress.status(Some(&good), request).await, "200");
    let plain = fortress.scene.ask("GET", "/healthz", "").await;
    assert!(!plain.contains("HTTP"), "{plain}");
}

#[tokio::test]
async fn material_that_is_no_good_is_named_by_its_key() {
    let ca = Authority::new("ca");
    let Pair { certificate, key } = ca.issue("a");
    let fine = ListenerTls {
        certificate,
        key,
        client_auth_required: true,
        client_roots: vec![ca.root()],
        files: [("operations.tls.cert.file", vec!["/etc/ops.crt".into()])].into(),
    };
    let old = ca.issue_until("a", 2020);
    for (tls, named) in [
        (
            ListenerTls {
                certificate: Vec::new(),
                ..fine.clone()
            },
            "operations.tls.cert.file (/etc/ops.crt) holds no certificate",
        ),
        (
            ListenerTls {
                key: ca.issue("b").key,
                ..fine.clone()
            },
            "operations.tls.key.file does not belong",
        ),
        (
            ListenerTls {
                certificate: old.certificate,
                key: old.key,
                ..fine.clone()
            },
            "operations.tls.cert.file (/etc/ops.crt) expired",
        ),
        (
            ListenerTls {
                client_roots: vec![b"nothing".to_vec()],
                ..fine
            },
            "operations.tls.clientRootCAs.files holds no certificate",
        ),
    ] {
        let settings = OperationsSettings {
            tls: Some(tls),
            ..plain()
        };
        let (logging, _subscriber, _) = to_memory("info");
        let vitals = Vitals::default();
        let refused = start(&settings, shown(vitals, logging)).await;
        let said = refused.unwrap_err().to_string();
        assert!(said.contains(named), "{said}");
    }
}

#[tokio::test]
async fn renewed_certificates_are_shown_without_restart() {
    let mut fortress = Fortress::start(false, true).await;
    let (servers, clients) = (Authority::new("new servers"), Authority::new("new clients"));
    let Pair { certificate, key } = servers.issue("operations");
    let good = ListenerTls {
        certificate,
        key,
        client_roots: vec![clients.root()],
        ..ListenerTls::default()
    };
    let bad = ListenerTls {
        key: servers.issue("operations").key,
        ..good.clone()
    };
    let server = &mut fortress.scene.server;
    let said = server.renew(&[("operations", bad)].into()).unwrap_err();
    let names = "operations.tls.key.file";
    assert!(said.to_string().contains(names), "{said}");
    let elsewhere = [("http", good.clone())].into();
    assert!(!server.renew(&elsewhere).unwrap(), "of another section");
    let before = fortress.clients.issue("somebody");
    let metrics = "GET /metrics";
    assert_eq!(fortress.status(Some(&before), metrics).await, "200");
    let read = [("operations", good)].into();
    let server = &mut fortress.scene.server;
    assert!(server.renew(&read).unwrap() && !server.renew(&read).unwrap());
    assert_eq!(fortress.status(None, "GET /version").await, "cut off");
    fortress.root = servers.root();
    assert_eq!(fortress.status(Some(&before), metrics).await, "cut off");
    let after = clients.issue("somebody");
    assert_eq!(fortress.status(Some(&after), metrics).await, "200");
}
