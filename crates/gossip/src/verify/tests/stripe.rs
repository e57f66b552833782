//! Dissemination by stripes: what is sent is what arrives, and what means nothing does not.

use tidings_proto::gossip::{self as on_wire, Stripe, stripe::Content as Spoken};

use super::*;
use crate::dissemination::{
    message::{
        Chunk, Class, Counters, Cut, Digest, Hashes, Have, Message as Said, Shape, Status,
        Suspicion, View,
    },
    parameters::{MEMBERS_MAX, STRIPES_MAX},
    wire::envelope,
};

const CUT: Cut = Cut {
    len: 100_000,
    k: 8,
    p: 1,
};

fn chunk() -> Chunk {
    Chunk {
        epoch: 1 << 40,
        number: 7,
        hash: Digest::of(b"block"),
        cut: CUT,
        stripe: 8,
        shape: Shape {
            cap: 300,
            root_cap: 1,
            ratio: 63,
        },
        repair: true,
        resend: true,
        payload: Bytes::from_static(b"part of it"),
    }
}

fn view(by: &Arc<PeerIdentity>) -> View {
    let added = vec![
        (by.pki_id, Class::Normal),
        (PkiId::new([3; 32]), Class::Slow),
    ];
    let mut view = View {
        epoch: 1 << 16,
        root: by.pki_id,
        author: by.pki_id,
        base: 3,
        digest: View::digest_of(&added),
        added,
        removed: vec![PkiId::new([4; 32])],
        signature: Bytes::new(),
    };
    view.signature = ToyPorts(Arc::clone(by)).sign(&view.to_be_signed(&CH.into()));
    view
}

fn hashes(by: &Arc<PeerIdentity>) -> Hashes {
    let mut hashes = Hashes {
        number: 7,
        hash: Digest::of(b"block"),
        cut: CUT,
        chunks: vec![Digest::of(b"1"), Digest::of(b"2")],
        signer: by.pki_id,
        signature: Bytes::new(),
    };
    hashes.signature = ToyPorts(Arc::clone(by)).sign(&hashes.to_be_signed(&CH.into()));
    hashes
}

fn every_message(by: &Arc<PeerIdentity>) -> Vec<Said> {
    let hash = Digest::of(b"block");
    let suspicions = [
        Suspicion::Silent,
        Suspicion::Lost,
        Suspicion::Alive,
        Suspicion::Corrupt {
            number: 7,
            stripe: 4,
        },
    ];
    let mut all = vec![
        Said::Chunk(chunk()),
        Said::Ack {
            number: 7,
            stripe: 2,
        },
        Said::Have(Have {
            number: 7,
            hash,
            stripes: Have::COMPLETE,
            cut: CUT,
            urgent: true,
        }),
        Said::Request {
            number: 7,
            hash,
            cut: CUT,
            stripes: 0b101,
        },
        Said::Status(Status {
            answer: true,
            height: 9,
            ahead: [0, 1 << 63, 0, 0],
            counters: Counters {
                sent: 1,
                resent: 2,
                served: 3,
            },
        }),
        Said::View(Arc::new(view(by))),
        Said::ViewRequest {
            wanted: 0,
            known: 5,
        },
        Said::HashesRequest { number: 7, hash },
        Said::Hashes(Arc::new(hashes(by))),
    ];
    all.extend(suspicions.map(|kind| Said::Suspect {
        member: PkiId::new([5; 32]),
        kind,
    }));
    all
}

fn spoken(content: Spoken) -> Envelope {
    let content = Content::Stripe(Stripe {
        content: Some(content),
    });
    unsigned(CH, Tag::ChanAndOrg, content)
}

fn spoken_chunk(change: impl FnOnce(&mut on_wire::StripeChunk)) -> Envelope {
    let opened = envelope(&CH.into(), &Said::Chunk(chunk())).open().unwrap();
    let (_, message) = opened.into_parts();
    let Some(Content::Stripe(Stripe {
        content: Some(Spoken::Chunk(mut chunk)),
    })) = message.content
    else {
        panic!("a chunk")
    };
    change(&mut chunk);
    spoken(Spoken::Chunk(chunk))
}

#[test]
fn what_is_sent_is_what_arrives() {
    let stage = Stage::new();
    for said in every_message(&stage.peer) {
        let heard = stage.accepted(envelope(&CH.into(), &said));
        let expected = Message::Stripe {
            channel: CH.into(),
            message: said,
        };
        assert_eq!(heard, expected);
    }
}

#[test]
fn st_s1_what_means_nothing_is_refused() {
    let stage = Stage::new();
    stage.refused(spoken_chunk(|chunk| chunk.hash.truncate(31)), "ST-S1");
    stage.refused(spoken_chunk(|chunk| chunk.cut = None), "ST-S1");
    stage.refused(spoken_chunk(|chunk| chunk.stripe = 256), "ST-S1");
    stage.refused(spoken_chunk(|chunk| chunk.cap = 1 << 16), "ST-S1");
    let suspect = on_wire::StripeSuspect {
        pki_id: pki(&stage.peer),
        kind: 9,
        ..Default::default()
    };
    stage.refused(spoken(Spoken::Suspect(suspect)), "ST-S1");
    let nothing = Content::Stripe(Stripe { content: None });
    stage.refused(unsigned(CH, Tag::ChanAndOrg, nothing), "ST-S1");
}

#[test]
fn st_s1_lists_are_bounded() {
    let stage = Stage::new();
    let mut long = view(&stage.peer);
    long.removed = vec![PkiId::new([4; 32]); MEMBERS_MAX - long.added.len()];
    let view = |view: &View| envelope(&CH.into(), &Said::View(Arc::new(view.clone())));
    stage.accepted(view(&long));
    long.removed.push(PkiId::new([4; 32]));
    stage.refused(view(&long), "ST-S1");

    let mut many = hashes(&stage.peer);
    many.chunks = vec![Digest::of(b"1"); usize::from(STRIPES_MAX)];
    many.signature = ToyPorts(Arc::clone(&stage.peer)).sign(&many.to_be_signed(&CH.into()));
    let hashes = |hashes: &Hashes| envelope(&CH.into(), &Said::Hashes(Arc::new(hashes.clone())));
    stage.accepted(hashes(&many));
    many.chunks.push(Digest::of(b"1"));
    stage.refused(hashes(&many), "ST-S1");
}

#[test]
fn st_s2_views_and_hashes_are_signed_by_one_of_the_senders_organization() {
    let stage = Stage::new();
    let of = |view: View| envelope(&CH.into(), &Said::View(Arc::new(view)));
    stage.refused(of(view(&stage.other)), "ST-S2");
    stage.refused(of(view(&toy::identity("A", "unknown"))), "ST-S2");
    let mut altered = view(&stage.peer);
    altered.epoch += 1;
    stage.refused(of(altered), "ST-S2");

    let of = |hashes: Hashes| envelope(&CH.into(), &Said::Hashes(Arc::new(hashes)));
    stage.refused(of(hashes(&stage.other)), "ST-S2");
    let mut altered = hashes(&stage.peer);
    altered.chunks[0] = Digest::of(b"another");
    stage.refused(of(altered), "ST-S2");
}

#[test]
fn an_extension_is_read_and_what_is_none_says_nothing() {
    let stage = Stage::new();
    let of = |extension: Bytes| {
        let mut info = state_info(&stage.peer);
        info.properties.as_mut().unwrap().extension = extension;
        match stage.accepted(info_envelope(&stage.peer, info)) {
            Message::StateInfo(info) => {
                let said = info.extension;
                (said.stripe, said.slow, said.relay, said.supplied)
            }
            other => panic!("{other:?}"),
        }
    };
    let said = on_wire::Extension {
        stripe: 1,
        slow: true,
        relay: 7,
        supplied: true,
    };
    assert_eq!(of(said.encode_to_vec().into()), (1, true, 7, true));
    assert_eq!(of(Bytes::new()), (0, false, 0, false));
    assert_eq!(of(Bytes::from(vec![0xff; 200])), (0, false, 0, false));
}
