//! Certificates that are replaced while the node runs.

use std::time::SystemTime;

use tokio_stream::StreamExt;

use super::certificates::Authority;
use crate::tls::{Incoming, Tls, TlsSettings, connect, memory::Memory};

const LIMIT: std::time::Duration = std::time::Duration::from_secs(3);

fn renew(tls: &Tls, settings: &TlsSettings) -> Result<bool, String> {
    let renewed = tls.renew(settings, SystemTime::now());
    renewed.map_err(|error| error.to_string())
}

#[test]
fn what_is_new_replaces_what_was_and_what_is_not_changes_nothing() {
    let ca = Authority::new("ca");
    let old = ca.settings("a");
    let tls = Tls::new(&old, SystemTime::now()).unwrap();
    let before = tls.server_certificate_sha256();
    assert_eq!(renew(&tls, &old), Ok(false));
    assert_eq!(tls.server_certificate_sha256(), before);

    let new = ca.settings("a");
    assert_eq!(renew(&tls, &new), Ok(true));
    let after = tls.server_certificate_sha256();
    assert_ne!(after, before);
    assert_eq!(tls.client_certificate_sha256(), after);
    assert_eq!(tls.client_identity().certificate_sha256(), after);
    assert_eq!(renew(&tls, &new), Ok(false));

    let ending = ca.issue_until("a", 3000);
    let ends_sooner = TlsSettings {
        certificate: ending.certificate,
        key: ending.key,
        ..new
    };
    let (end, _) = tls.certificates_end_at();
    assert_eq!(renew(&tls, &ends_sooner), Ok(true));
    assert!(tls.certificates_end_at().0 < end);
}

#[test]
fn a_certificate_of_other_roots_is_taken_and_doubted() {
    let (ca, other) = (Authority::new("ca"), Authority::new("other"));
    let tls = Tls::new(&ca.settings("a"), SystemTime::now()).unwrap();
    assert_eq!(tls.doubt(), None);
    let strange = TlsSettings {
        roots: vec![ca.root()],
        ..other.settings("a")
    };
    let doubt = "the certificate in peer.tls.cert.file is not issued by a root in \
                 peer.tls.rootcert.file: other peers will refuse it";
    assert_eq!(renew(&tls, &strange), Ok(true));
    assert_eq!(tls.doubt().unwrap(), doubt);
    let initial = Tls::new(&strange, SystemTime::now()).unwrap();
    assert_eq!(initial.doubt().unwrap(), doubt);

    // Through an intermediate that is in the file.
    let (chain, key) = ca.issue_through("intermediate", "a");
    let chained = TlsSettings {
        certificate: chain,
        key,
        ..ca.settings("a")
    };
    assert_eq!(renew(&tls, &chained), Ok(true));
    assert_eq!(tls.doubt(), None);
    let named = tls.certificates_named();
    assert!(
        named.starts_with("serial ") && named.contains(", until "),
        "{named}"
    );
    assert!(!named.contains(';'), "there is one for both: {named}");

    let later = ca.issue_from("a", 3000);
    let later = TlsSettings {
        certificate: later.certificate,
        key: later.key,
        ..ca.settings("a")
    };
    let doubt = Tls::new(&later, SystemTime::now())
        .unwrap()
        .doubt()
        .unwrap();
    assert!(doubt.contains("is not valid yet"), "{doubt}");
}

#[test]
fn files_that_do_not_fit_together_change_nothing() {
    let ca = Authority::new("ca");
    let old = ca.settings("a");
    let tls = Tls::new(&old, SystemTime::now()).unwrap();
    let before = tls.server_certificate_sha256();
    let another = ca.issue("a");
    let expired = ca.issue_until("a", 2020);
    let changed = |change: &dyn Fn(&mut TlsSettings)| {
        let mut settings = old.clone();
        change(&mut settings);
        renew(&tls, &settings).unwrap_err()
    };
    let half = changed(&|settings| settings.certificate.clone_from(&another.certificate));
    assert!(half.contains("does not belong"), "{half}");
    let cut = changed(&|settings| settings.key.truncate(100));
    assert!(cut.contains("no unencrypted private key"), "{cut}");
    let old_one = changed(&|settings| {
        settings.certificate.clone_from(&expired.certificate);
        settings.key.clone_from(&expired.key);
    });
    assert!(old_one.contains("expired"), "{old_one}");
    changed(&|settings| settings.roots.clear());
    assert_eq!(tls.server_certificate_sha256(), before);
}

/// One connection, and what each side knows of the certificates on it.
async fn meet(net: &Memory, server: &Tls, client: &Tls) -> Result<[[u8; 32]; 4], String> {
    let (mut incoming, _closer) = Incoming::new(net.listen("a:1"), Some(server.clone()));
    let accepted = async {
        loop {
            if let Some(Ok(stream)) = incoming.next().await {
                use tonic::transport::server::Connected as _;
                break stream.connect_info();
            }
        }
    };
    let (info, dialed) = tokio::select! {
        both = async { tokio::join!(accepted, connect(net, "a:1", Some(client), LIMIT)) } => both,
        () = tokio::time::sleep(2 * LIMIT) => return Err("no connection".to_owned()),
    };
    let dialed = dialed.map_err(|error| error.to_string())?;
    let known = [
        info.own_certificate_sha256,
        dialed.peer_certificate_sha256,
        dialed.own_certificate_sha256,
        info.peer_certificate_sha256,
    ];
    Ok(known.map(Option::unwrap))
}

#[tokio::test(start_paused = true)]
async fn both_ends_of_a_connection_mean_the_certificates_that_it_was_made_with() {
    let ca = Authority::new("ca");
    let (net, server, client) = (Memory::default(), ca.tls("a"), ca.tls("b"));
    let mut all = Vec::new();
    for _ in 0..2 {
        let [own, seen, dialler, dialler_seen] = meet(&net, &server, &client).await.unwrap();
        assert_eq!((own, dialler), (seen, dialler_seen));
        assert_eq!(own, server.server_certificate_sha256());
        assert_eq!(dialler, client.client_certificate_sha256());
        all.extend([own, dialler]);
        renew(&server, &ca.settings("a")).unwrap();
        renew(&client, &ca.settings("b")).unwrap();
    }
    all.sort_unstable();
    all.dedup();
    assert_eq!(all.len(), 4, "each time others");
}

#[tokio::test(start_paused = true)]
async fn roots_are_renewed_and_those_of_the_channels_stay() {
    let (ca, other, third) = (
        Authority::new("ca"),
        Authority::new("other"),
        Authority::new("third"),
    );
    let (net, client) = (Memory::default(), ca.tls("b"));
    client.replace_channel_roots(|| vec![other.root()]).unwrap();
    assert!(meet(&net, &other.tls("a"), &client).await.is_ok());
    assert!(meet(&net, &third.tls("a"), &client).await.is_err());
    let settings = TlsSettings {
        roots: vec![third.root()],
        ..ca.settings("b")
    };
    assert_eq!(renew(&client, &settings), Ok(true));
    assert!(meet(&net, &other.tls("a"), &client).await.is_ok());
    assert!(meet(&net, &third.tls("a"), &client).await.is_ok());
    assert!(meet(&net, &ca.tls("a"), &client).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn whose_certificates_clients_must_show_is_not_renewed() {
    let (ca, other) = (Authority::new("ca"), Authority::new("other"));
    let with = |client_auth_required| TlsSettings {
        client_auth_required,
        client_roots: vec![ca.root()],
        ..ca.settings("a")
    };
    let (net, stranger) = (
        Memory::default(),
        TlsSettings {
            roots: vec![ca.root()],
            ..other.settings("b")
        },
    );
    let stranger = Tls::new(&stranger, SystemTime::now()).unwrap();
    for required in [false, true] {
        let tls = Tls::new(&with(required), SystemTime::now()).unwrap();
        for _ in 0..2 {
            assert_eq!(meet(&net, &tls, &stranger).await.is_err(), required);
            assert_eq!(renew(&tls, &with(!required)), Ok(true));
        }
    }
}

#[test]
fn what_is_not_good_yet_takes_the_place_of_nothing() {
    let ca = Authority::new("ca");
    let (old, new) = (ca.settings("a"), ca.issue_from("a", 2100));
    let tls = Tls::new(&old, SystemTime::now()).unwrap();
    let settings = TlsSettings {
        certificate: new.certificate,
        key: new.key,
        ..old
    };
    let early = renew(&tls, &settings).unwrap_err();
    assert!(early.contains("is good from"), "{early}");
    let later = SystemTime::now() + std::time::Duration::from_secs(80 * 366 * 86_400);
    assert!(tls.renew(&settings, later).unwrap());
}
