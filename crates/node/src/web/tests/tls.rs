//! Who may read when `http.tls` is on, over sockets.

use super::*;
use crate::{
    operations::tests::tls::{ONLY_13, visit},
    tls::tests::certificates::{Authority, Pair},
};

#[tokio::test]
async fn a_certificate_is_asked_for_where_the_settings_say_so() {
    let (servers, clients) = (Authority::new("servers"), Authority::new("clients"));
    let Pair { certificate, key } = servers.issue("operations");
    let renewing = Authority::new("renewed");
    let (good, stranger) = (clients.issue("a"), Authority::new("clients").issue("a"));
    for (client_auth_required, expected) in [
        (true, ["403", "200", "200", "cut off"]),
        (false, ["200", "200", "200", "cut off"]),
    ] {
        let tls = ListenerTls {
            certificate: certificate.clone(),
            key: key.clone(),
            client_auth_required,
            client_roots: vec![clients.root()],
            ..ListenerTls::default()
        };
        let settings = ListenerSettings {
            listen: ("127.0.0.1".to_owned(), 0),
            tls: Some(tls),
        };
        let door = open(&settings).await.unwrap();
        let mut server = serve(door, &settings, Directory::default());
        let root = servers.root();
        let asked = [
            (None, "GET /v1/channels"),
            (None, "GET /openapi.json"),
            (Some(&good), "GET /v1/channels"),
            (Some(&stranger), "GET /openapi.json"),
        ];
        for ((shown, request), expected) in asked.into_iter().zip(expected) {
            let status = visit(server.address(), &root, &ONLY_13, shown, request).await;
            let status = status.unwrap_or_else(|_error| "cut off".to_owned());
            assert_eq!(status, expected, "{client_auth_required} {request}");
        }
        // As `open` was told, and not as the files say, that nobody must show one.
        let Pair { certificate, key } = renewing.issue("operations");
        let renewed = ListenerTls {
            certificate,
            key,
            ..settings.tls.unwrap()
        };
        let read = [("http", renewed)].into();
        assert!(server.renew(&read).unwrap() && !server.renew(&read).unwrap());
        let (address, request) = (server.address(), "GET /openapi.json");
        let status = visit(address, &renewing.root(), &ONLY_13, None, request).await;
        assert_eq!(status.unwrap(), "200");
        visit(address, &root, &ONLY_13, None, request)
            .await
            .unwrap_err();
        server.stop().await;
    }
}

#[tokio::test]
async fn what_is_no_good_is_named_by_its_key() {
    let settings = ListenerSettings {
        listen: ("127.0.0.1".to_owned(), 0),
        tls: Some(ListenerTls::default()),
    };
    let said = open(&settings).await.unwrap_err().to_string();
    let begin = "TLS for http: http.tls.cert.file holds no certificate";
    assert!(said.starts_with(begin), "{said}");
    let taken = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let listen = ("127.0.0.1".to_owned(), taken.local_addr().unwrap().port());
    let refused = open(&ListenerSettings { listen, tls: None }).await;
    let said = refused.unwrap_err().to_string();
    assert!(said.contains("name another http.listenAddress"), "{said}");
}
