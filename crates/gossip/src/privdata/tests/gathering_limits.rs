//! What gatherings may ask, hold and try, at the limits.

use super::*;

#[test]
fn no_more_copies_are_tried_than_the_limit() {
    let mut t = Table::among(&[]);
    for n in 0..30 {
        t.meet("B", &format!("b{n}"), 9);
    }
    let mut out = t.want(8, vec![wanted(8, 0)]);
    let mut tried = 0;
    while let Some(asked) = t.asked(&out).pop() {
        tried += 1;
        out = t.answer(&asked, vec![wrong(&digest(8, 0))]);
    }
    assert_eq!(tried, gather::WRONG_MAX);
    let missing = vec![(digest(8, 0), Missing::Differs)];
    assert_eq!(out.last(), Some(&gathered(8, vec![], missing)));
}

#[test]
fn no_more_peers_are_asked_in_a_round_than_the_limit() {
    let mut t = Table::among(&[]);
    for n in 0..gather::ASKED_MAX + 10 {
        t.meet("B", &format!("b{n}"), 9);
    }
    let mut out = t.want(8, vec![wanted(8, 0)]);
    let mut asked = BTreeSet::new();
    while let Some(one) = t.asked(&out).pop() {
        assert!(asked.insert(one.whom.clone()));
        out = t.answer(&one, vec![]);
    }
    assert_eq!(asked.len(), gather::ASKED_MAX);
    let out = t.until(1000);
    assert_eq!(t.asked(&out).len(), 1, "others may be chosen now");
}

#[test]
fn pd_s11_gatherings_are_bounded() {
    let mut t = Table::among(&[]);
    for number in 0..GATHERS_MAX as u64 {
        assert_eq!(t.want(number, vec![wanted(number, 0)]), []);
    }
    let missing = |number| vec![(digest(number, 0), Missing::NoRoom)];
    let ended = gathered(999, vec![], missing(999));
    assert_eq!(t.want(999, vec![wanted(999, 0)]), [ended]);
    assert_eq!(t.private.sizes().gathers, GATHERS_MAX);
}

#[test]
fn pd_s11_what_one_block_can_want_is_bounded() {
    let mut t = Table::among(&[]);
    let most = WANTED_MAX as u64;
    let items = (0..most + 2).map(|seq| wanted(8, seq)).collect();
    assert_eq!(t.want(8, items), []);
    let out = t.until(60_000);
    let [Effect::Gathered { missing, .. }] = out.as_slice() else {
        panic!("one gathering expected");
    };
    assert_eq!(missing.len(), WANTED_MAX + 2);
    let no_room = missing.iter().filter(|(_, why)| *why == Missing::NoRoom);
    let no_room: Vec<u64> = no_room.map(|(digest, _)| digest.seq_in_block).collect();
    assert_eq!(no_room, [most, most + 1]);
}

#[test]
fn pd_s11_what_all_blocks_together_can_want_is_bounded_and_each_has_some_room() {
    let mut t = Table::among(&[("b", 9)]);
    let all = |block| {
        (0..WANTED_MAX as u64)
            .map(move |seq| wanted(block, seq))
            .collect()
    };
    let out = t.want(7, all(7));
    assert!(!t.asked(&out).is_empty());
    t.want(8, all(8));
    let out = t.until(60_000);
    let room: Vec<usize> = out
        .iter()
        .filter_map(|effect| match effect {
            Effect::Gathered { missing, .. } => Some(missing),
            _ => None,
        })
        .map(|missing| {
            missing
                .iter()
                .filter(|(_, why)| *why != Missing::NoRoom)
                .count()
        })
        .collect();
    assert_eq!(room, [WANTED_MAX, WANTED_EACH_MIN]);
}

#[test]
fn pd_s11_a_request_names_so_many_and_a_peer_has_so_many_requests() {
    let mut t = Table::among(&[("b", 9)]);
    let items = (0..DIGESTS_ASKED_MAX as u64 + 1).map(|seq| wanted(8, seq));
    let out = t.want(8, items.collect());
    let first = t.the_one_asked(&out);
    assert_eq!(first.digests.len(), DIGESTS_ASKED_MAX);
    let out = t.answer(&first, first.digests.iter().map(element).collect());
    assert_eq!(
        t.asked(&out)[0].digests,
        [digest(8, DIGESTS_ASKED_MAX as u64)]
    );
    let mut asked = t.private.sizes().asked;
    for number in 20..40 {
        asked += t.want(number, vec![wanted(number, 0)]).len();
    }
    assert_eq!(asked, gather::REQUESTS_PER_PEER_MAX);
}

#[test]
fn pd_s11_requests_are_bounded_in_all_and_wait_for_their_turn() {
    let mut t = Table::among(&[]);
    for n in 0..40 {
        t.meet("B", &format!("b{n}"), 9);
    }
    let mut last = Vec::new();
    for number in 100..100 + GATHERS_MAX as u64 {
        // Each of another endorser, so that many are asked for one block.
        let items = (0..5).map(|seq| {
            let endorser = toy::identity("B", &format!("b{}", (number + seq) % 40));
            Wanted {
                endorsers: vec![endorser.serialized.clone()],
                ..wanted(number, seq)
            }
        });
        let out = t.want(number, items.collect());
        last.extend(t.asked(&out));
    }
    assert_eq!(t.private.sizes().asked, gather::REQUESTS_MAX);
    assert_eq!(last.len(), gather::REQUESTS_MAX);
    let out = t.answer(&last[0], vec![]);
    assert!(!t.asked(&out).is_empty(), "the next in turn");
    assert_eq!(t.private.sizes().asked, gather::REQUESTS_MAX);
}

#[test]
fn pd_s11_bytes_that_were_found_are_bounded_but_one_set_always_fits() {
    let mut t = Table::among(&[("b", 9)]);
    let big = Bytes::from(vec![7; 60 << 20]);
    let hash: [u8; DIGEST_LEN] = Sha256::digest(&big).into();
    let items = (0..6).map(|seq| Wanted {
        hash,
        ..wanted(8, seq)
    });
    let out = t.want(8, items.collect());
    let asked = t.the_one_asked(&out);
    let elements = asked.digests.iter().map(|digest| PrivateElement {
        digest: digest.clone(),
        payloads: vec![PrivatePayload {
            bytes: big.clone(),
            hash,
        }],
    });
    let out = t.answer(&asked, elements.collect());
    let Some(Effect::Gathered { found, missing, .. }) = out.last() else {
        panic!("a gathering expected");
    };
    assert_eq!(found.len(), FOUND_BYTES_MAX / big.len());
    let rest: Vec<_> = missing.iter().map(|(_, why)| *why).collect();
    assert_eq!(rest, [Missing::NoRoom; 2]);
    let out = t.want(
        9,
        vec![Wanted {
            hash,
            ..wanted(9, 0)
        }],
    );
    let asked = t.the_one_asked(&out);
    let large = PrivateElement {
        digest: digest(9, 0),
        payloads: vec![PrivatePayload { bytes: big, hash }],
    };
    let out = t.answer(&asked, vec![large]);
    assert!(matches!(out.last(), Some(Effect::Gathered { found, .. }) if found.len() == 1));
}
