//! Whatever members say, in whatever order: no panic, nothing grows past its limit, and a block that
//! is given whole is here.

use proptest::prelude::*;

use super::{
    parameters::{OPEN_MAX, STRAYS_MAX, VIEWS_MAX},
    steps::LEN,
    *,
};

fn number() -> impl Strategy<Value = u64> {
    prop_oneof![8 => 0..6_u64, 1 => 0..40_u64, 1 => any::<u64>()]
}

fn cut() -> impl Strategy<Value = Cut> {
    let sound = Cut {
        len: LEN as u32,
        k: 4,
        p: 0,
    };
    prop_oneof![
        6 => Just(sound),
        1 => Just(Cut { p: 1, ..sound }),
        1 => (any::<u32>(), any::<u8>(), any::<u8>()).prop_map(|(len, k, p)| Cut { len, k, p }),
    ]
}

fn hash(number: u64, kind: u8) -> Digest {
    match kind {
        0..8 => whole(number.min(100), LEN).1,
        8 => Digest::ANY,
        _ => Digest([kind; 32]),
    }
}

prop_compose! {
    fn chunk()(
        number in number(),
        cut in cut(),
        kind in 0..10_u8,
        stripe in prop_oneof![9 => 0..5_u8, 1 => any::<u8>()],
        epoch in prop_oneof![8 => Just(EPOCH), 1 => Just(0x2_0101), 1 => any::<u64>()],
        shape in prop_oneof![4 => Just(SHAPE), 1 => (any::<u16>(), any::<u8>(), any::<u8>())
            .prop_map(|(cap, root_cap, ratio)| Shape { cap, root_cap, ratio })],
        repair in any::<bool>(),
        resend in any::<bool>(),
        spoil in 0..20_u8,
    ) -> Message {
        let (block, _) = whole(number.min(100), LEN);
        let sound = cut.is_sound(LEN as u32) && cut.len as usize == LEN && stripe < cut.stripes();
        let payload = match sound {
            true if spoil > 0 => parity::stripe(&block.bytes, cut, stripe),
            _ => Bytes::from(vec![spoil; usize::from(stripe) * 7]),
        };
        let hash = hash(number, kind);
        Message::Chunk(Chunk { epoch, number, hash, cut, stripe, shape, repair, resend, payload })
    }
}

fn suspicion() -> impl Strategy<Value = Suspicion> {
    prop_oneof![
        Just(Suspicion::Silent),
        Just(Suspicion::Lost),
        Just(Suspicion::Alive),
        (number(), any::<u8>()).prop_map(|(number, stripe)| Suspicion::Corrupt { number, stripe }),
    ]
}

fn any_view() -> impl Strategy<Value = Message> {
    let list = prop::collection::vec((0..14_u8, 0..3_u32), 0..14);
    (list, 1..4_u64, 1..4_u8, any::<bool>()).prop_map(|(list, count, author, is_right)| {
        let mut list: Vec<_> = list
            .iter()
            .map(|(member, class)| {
                (
                    peer(*member),
                    Class::from_number(*class).expect("below three"),
                )
            })
            .collect();
        if is_right {
            list.sort();
            list.dedup_by_key(|(member, _)| *member);
        }
        let epoch = count << 16 | u64::from(author) << 8 | u64::from(author);
        Message::View(Arc::new(view(epoch, author, list)))
    })
}

fn message() -> impl Strategy<Value = Message> {
    prop_oneof![
        10 => chunk(),
        2 => (number(), any::<u8>()).prop_map(|(number, stripe)| Message::Ack { number, stripe }),
        3 => (number(), 0..10_u8, cut(), any::<u64>(), any::<bool>()).prop_map(
            |(number, kind, cut, stripes, urgent)| Message::Have(Have {
                number, hash: hash(number, kind), stripes, cut, urgent,
            })
        ),
        3 => (number(), 0..10_u8, cut(), any::<u64>()).prop_map(
            |(number, kind, cut, stripes)| Message::Request {
                number, hash: hash(number, kind), cut, stripes,
            }
        ),
        2 => (number(), any::<[u64; 4]>(), any::<bool>(), any::<u64>()).prop_map(
            |(height, ahead, answer, sent)| Message::Status(message::Status {
                answer, height, ahead,
                counters: Counters { sent, resent: sent, served: sent },
            })
        ),
        2 => any_view(),
        1 => (any::<u64>(), any::<u64>()).prop_map(
            |(wanted, known)| Message::ViewRequest { wanted, known }
        ),
        1 => (0..14_u8, suspicion()).prop_map(
            |(member, kind)| Message::Suspect { member: peer(member), kind }
        ),
        1 => (number(), 0..10_u8).prop_map(
            |(number, kind)| Message::HashesRequest { number, hash: hash(number, kind) }
        ),
        1 => (number(), 0..10_u8, cut(), 0..40_usize, 0..14_u8).prop_map(
            |(number, kind, cut, count, signer)| Message::Hashes(Arc::new(message::Hashes {
                number, hash: hash(number, kind), cut,
                chunks: vec![Digest([1; 32]); count],
                signer: peer(signer),
                signature: Bytes::new(),
            }))
        ),
    ]
}

fn input() -> impl Strategy<Value = Input> {
    prop_oneof![
        20 => (0..14_u8, message()).prop_map(
            |(from, message)| Input::Message { from: peer(from), message }
        ),
        2 => (0..6_u64, any::<bool>()).prop_map(|(number, is_ordered)| {
            let (block, hash) = whole(number, LEN);
            let origin = if is_ordered { Origin::Ordered } else { Origin::Received };
            Input::Block { block, hash, origin }
        }),
        2 => (0..6_u64, 0..3_u8).prop_map(|(number, kind)| {
            let (block, hash) = whole(number, LEN);
            let verdict = match kind {
                0 => Verdict::Good(block),
                1 => Verdict::Corrupt,
                _ => Verdict::Refused,
            };
            Input::Judged { number, hash, verdict }
        }),
        1 => (2..14_u8, 0..20_u64).prop_map(|(count, height)| Input::Members {
            members: members(count, ME),
            plain: vec![PlainPeer { peer: peer(50), height }],
        }),
        1 => prop_oneof![
            Just(Leader::Me),
            Just(Leader::MeAmongOthers),
            Just(Leader::Unknown),
            Just(Leader::Appointed),
            Just(Leader::Peer(peer(50))),
            (1..14_u8).prop_map(|member| Leader::Peer(peer(member))),
        ].prop_map(Input::Leader),
        1 => (0..14_u8, any::<bool>()).prop_map(
            |(member, is_up)| Input::Connection { peer: peer(member), is_up }
        ),
        1 => (0..14_u8, any::<bool>()).prop_map(
            |(member, is_congested)| Input::Congestion { peer: peer(member), is_congested }
        ),
        1 => (0..200_u64).prop_map(|ms| Input::Backlog(Duration::from_millis(ms))),
        1 => (0..8_u64).prop_map(Input::Height),
    ]
}

fn check(t: &Table) {
    let sizes = t.machine.sizes();
    assert!(sizes.open <= OPEN_MAX && sizes.strays <= STRAYS_MAX && sizes.views <= VIEWS_MAX);
    assert!(
        sizes.blocks as u64 <= AHEAD_MAX + parameters::KEPT_MAX,
        "{sizes:?}"
    );
    assert!(
        sizes.open_bytes <= 2 * LEN * AHEAD_MAX as usize,
        "{sizes:?}"
    );
    assert!(t.machine.acks.len() <= sizes.timers);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn anything_may_be_said(steps in prop::collection::vec((input(), 0..300_u64), 0..150)) {
        let mut t = Table::of(12);
        for (input, pause) in steps {
            t.now = t.now + Duration::from_millis(pause);
            let mut out = Vec::new();
            t.machine.tick(t.now, &t.desk, &mut out);
            prop_assert!(t.machine.deadline().is_none_or(|due| due > t.now));
            let given = match &input {
                Input::Block { block, .. } => Some(block.number),
                _ => None,
            };
            out.extend(t.feed(input));
            check(&t);
            if let Some(number) = given {
                prop_assert!(t.machine.blocks.get(&number).is_none_or(|b| b.whole().is_some()));
            }
            for effect in out {
                if let Effect::Send { to, .. } = effect {
                    prop_assert!(to != peer(ME), "we never send to ourselves");
                }
            }
        }
    }
}
