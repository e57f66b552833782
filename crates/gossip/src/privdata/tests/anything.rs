//! Whatever comes in: nothing breaks, nothing grows beyond its limit, every gathering ends once.

use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug)]
enum Step {
    Want(u64, u64),
    Answer(usize, u8),
    Noise(u8, u64),
    Wait(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        2 => (0..6_u64, 0..5_u64).prop_map(|(block, items)| Step::Want(block, items)),
        4 => (0..40_usize, 0..5_u8).prop_map(|(which, how)| Step::Answer(which, how)),
        3 => (0..9_u8, 0..6_u64).prop_map(|(what, n)| Step::Noise(what, n)),
        2 => (0..3000_u64).prop_map(Step::Wait),
    ]
}

fn noise(what: u8, n: u64) -> Input {
    let peer = toy::identity("B", &format!("b{}", n % 3)).pki_id;
    let from = toy::connection(n, &toy::identity("B", &format!("b{}", n % 3)));
    let message = match what {
        0 => return Input::Unreachable(peer),
        1 => return Input::Forgotten(peer),
        2 => {
            return Input::Disconnected {
                connection: from.id,
                peer,
            };
        }
        3 => return Input::Height(n),
        4 => return Input::Verified(n),
        5 => {
            return Input::Stored {
                push: n,
                result: Ok(()),
            };
        }
        6 => return Input::Served { request: n },
        7 => pushing::push(n),
        _ => serving::request(n, n),
    };
    Input::Received { from, message }
}

/// An answer to what was asked, in one of the ways in which there are answers.
fn answer(asked: &Asked, how: u8) -> (Arc<Connection>, Message) {
    let from = |name: &str| connection(name);
    let right = || asked.digests.iter().map(element).collect::<Vec<_>>();
    match how {
        0 => (from(&asked.whom), response(asked.nonce, right())),
        1 => (from(&asked.whom), response(asked.nonce, vec![])),
        2 => {
            let wrong = asked.digests.iter().map(wrong).collect();
            (from(&asked.whom), response(asked.nonce, wrong))
        }
        3 => (from("b9"), response(asked.nonce, right())),
        _ => {
            let first = right().into_iter().take(1).collect();
            (from(&asked.whom), response(asked.nonce, first))
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn every_gathering_ends_once_with_everything_in_one_list(
        steps in prop::collection::vec(step(), 1..120),
        repeats in any::<bool>(),
    ) {
        let mut t = Table::among(&[("b0", 9), ("b1", 3), ("b2", 100)]);
        let mut asked = Vec::new();
        let (mut begun, mut ended) = (0, 0);
        let mut due: BTreeMap<GatherKey, usize> = BTreeMap::new();
        for step in steps {
            let out = match step {
                Step::Want(number, items) => {
                    begun += 1;
                    let key = if repeats {
                        GatherKey::Block(number)
                    } else {
                        GatherKey::Reconcile(number)
                    };
                    let items: Vec<Wanted> = (0..items).map(|seq| Wanted {
                        may_differ: seq == 3,
                        block_to_live: seq * 20,
                        ..wanted(number, seq)
                    }).collect();
                    let len = items.len();
                    let patience = Duration::from_secs(number * 2);
                    let out = t.feed(Input::Wanted { key, items, patience });
                    // What was under way for it ends first.
                    let ends = |e: &&Effect| matches!(e, Effect::Gathered { key: k, .. } if *k == key);
                    if let (Some(before), Some(Effect::Gathered { found, missing, .. })) =
                        (due.insert(key, len), out.iter().find(ends))
                    {
                        prop_assert_eq!(found.len() + missing.len(), before);
                        let ends = out.iter().filter(ends).count();
                        ended += ends;
                        if ends == 2 {
                            due.remove(&key);
                        }
                        asked.extend(t.asked(&out));
                        continue;
                    }
                    out
                }
                Step::Answer(which, how) if !asked.is_empty() => {
                    let one = &asked[which % asked.len()];
                    let (from, message) = answer(one, how);
                    t.receive(&from, message)
                }
                Step::Answer(..) => Vec::new(),
                Step::Noise(what, n) => t.feed(noise(what, n)),
                Step::Wait(ms) => {
                    let now = u64::try_from(t.now.since_start().as_millis()).unwrap();
                    t.until(now + ms)
                }
            };
            for effect in &out {
                if let Effect::Gathered { key, found, missing } = effect {
                    ended += 1;
                    let len = due.remove(key);
                    let digests = found.iter().map(|found| &found.digest);
                    let digests: BTreeSet<_> = digests.collect();
                    prop_assert_eq!(len, Some(digests.len() + missing.len()));
                    for found in found {
                        let is_right = found.payload == rwset(&found.digest);
                        prop_assert_eq!(found.is_verified, is_right);
                        prop_assert!(is_right || found.digest.seq_in_block == 3);
                    }
                }
            }
            asked.extend(t.asked(&out));
            let sizes = t.private.sizes();
            prop_assert!(sizes.gathers <= GATHERS_MAX);
            prop_assert!(sizes.asked <= gather::REQUESTS_MAX);
            prop_assert_eq!(begun - ended, sizes.gathers);
        }
        t.until(10_000_000);
        prop_assert_eq!(t.private.sizes().gathers, 0);
        prop_assert_eq!(t.private.sizes().asked, 0);
    }
}
