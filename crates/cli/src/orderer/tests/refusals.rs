//! Requests that are not served, and with which status.

use super::*;

#[tokio::test]
async fn requests_are_refused_with_fabrics_statuses() {
    let scene = Scene::ordering().await;
    let good = || Ask::new(OLDEST, FOR_EVER);
    let at = |number| Position::Specified(SeekSpecified { number });
    let with = |change| Ask { change, ..good() };
    let cases: Vec<(&str, Ask, Status)> = vec![
        (
            "no start",
            Ask {
                start: None,
                ..good()
            },
            Status::BadRequest,
        ),
        (
            "no stop",
            Ask {
                stop: None,
                ..good()
            },
            Status::BadRequest,
        ),
        (
            "start above stop",
            Ask::new(NEWEST, at(0)).shifted(),
            Status::NotFound,
        ),
        (
            "start above height",
            Ask::new(at(2), FOR_EVER),
            Status::NotFound,
        ),
        (
            "no time",
            with(|header, _| header.timestamp = None),
            Status::BadRequest,
        ),
        (
            "old",
            with(|header, _| shift(header, -16 * 60)),
            Status::BadRequest,
        ),
        (
            "from the future",
            with(|header, _| shift(header, 16 * 60)),
            Status::BadRequest,
        ),
        (
            "other channel",
            with(|header, _| header.channel_id = "x".into()),
            Status::NotFound,
        ),
        (
            "not ready",
            Ask {
                start: Some(at(1)),
                change: |_, info| info.behavior = 1,
                ..good()
            },
            Status::NotFound,
        ),
        (
            "no payload",
            Ask {
                spoil: |e| e.payload = Bytes::from_static(b"\xff"),
                ..good()
            },
            Status::BadRequest,
        ),
        (
            "no header",
            Ask {
                spoil: |e| e.payload = Bytes::new(),
                ..good()
            },
            Status::BadRequest,
        ),
        (
            "bad signature",
            Ask {
                spoil: |e| e.signature = Bytes::from_static(b"x"),
                ..good()
            },
            Status::Forbidden,
        ),
        (
            "no signature",
            Ask {
                spoil: |e| e.signature = Bytes::new(),
                ..good()
            },
            Status::Forbidden,
        ),
        (
            "outsider",
            Ask {
                signer: |material| {
                    let (_dir, other) = sample::network(1);
                    signer::read(&other.orgs[0].peers[0].msp, &material.orgs[0].msp_id).unwrap()
                },
                ..good()
            },
            Status::Forbidden,
        ),
    ];
    for (name, ask, status) in cases {
        assert_eq!(scene.refused(ask).await, status, "{name}");
    }
}

impl Ask {
    /// Starts one above the end.
    fn shifted(mut self) -> Self {
        self.start = Some(Position::Specified(SeekSpecified { number: 7 }));
        self
    }
}

fn shift(header: &mut ChannelHeader, seconds: i64) {
    let time = header.timestamp.as_mut().unwrap();
    time.seconds += seconds;
}

#[tokio::test]
async fn with_mutual_tls_a_request_is_bound_to_its_connection() {
    let scene = Scene::with(true, false).await;
    let own = scene.client.client_certificate_sha256();
    let bound = |hash: Option<[u8; 32]>| {
        let mut ask = Ask::new(OLDEST, OLDEST);
        ask.change = |_, _| {};
        let mut envelope = ask.sign(&scene);
        if let Some(hash) = hash {
            envelope = rebind(&scene, &envelope, &hash);
        }
        envelope
    };
    let answer = async |show, hash| {
        let client = scene.dial(show).await;
        next(&mut deliver_on(client, vec![bound(hash)]).await).await
    };
    assert_eq!(answer(true, Some(own)).await, Answer::Block(0));
    let refused = Answer::Status(Status::BadRequest);
    assert_eq!(answer(true, None).await, refused, "no hash");
    assert_eq!(
        answer(true, Some([7; 32])).await,
        refused,
        "the hash of another certificate"
    );
    assert_eq!(
        answer(false, Some(own)).await,
        refused,
        "no certificate shown"
    );
}

/// The same request with a TLS hash, signed again.
fn rebind(scene: &Scene, envelope: &Envelope, hash: &[u8]) -> Envelope {
    let mut payload = Payload::decode(envelope.payload.clone()).unwrap();
    let header = payload.header.as_mut().unwrap();
    let mut channel = ChannelHeader::decode(header.channel_header.clone()).unwrap();
    channel.tls_cert_hash = Bytes::copy_from_slice(hash);
    header.channel_header = channel.encode_to_vec().into();
    let org = &scene.material.orgs[0];
    let signer = signer::read(&org.peers[0].msp, &org.msp_id).unwrap();
    let payload = Bytes::from(payload.encode_to_vec());
    let signature = signer.sign(&payload).unwrap().into();
    Envelope { payload, signature }
}
