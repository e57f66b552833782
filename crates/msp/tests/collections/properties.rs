//! What holds for all histories of definitions.

use bytes::Bytes;
use proptest::{collection::vec, prelude::*};
use tidings_msp::collection::{Basis, Definitions, Entry, PackageRefused};

use crate::draft::{apply, first, next, of, sequence};

/// Which chaincode a block defines, and whose its collection is; none when that is not said anew.
fn history() -> impl Strategy<Value = Vec<(usize, Option<usize>)>> {
    vec((0_usize..3, proptest::option::of(0_usize..3)), 0..12)
}

const CHAINCODES: [&str; 3] = ["a", "b", "c"];
const ORGANIZATIONS: [&str; 3] = ["x=Org1MSP", "x=Org2MSP", "x=Org3MSP"];

type Found = Option<(String, Basis, Option<u64>)>;

fn found(defined: Result<tidings_msp::collection::Defined, impl Sized>) -> Found {
    let defined = defined.ok()?;
    let policy = format!("{:?}", defined.collection.config());
    Some((policy, defined.basis, defined.block))
}

fn entry() -> impl Strategy<Value = Entry> {
    let refused = prop_oneof![
        Just(PackageRefused::Undecodable),
        Just(PackageRefused::TooLong),
        Just(PackageRefused::TooMany),
        Just(PackageRefused::Full),
        Just(PackageRefused::Unseen),
        Just(PackageRefused::Disputed),
        Just(PackageRefused::NotAChaincode),
    ];
    let basis = prop_oneof![
        Just(Basis::Assumed),
        Just(Basis::Claimed),
        Just(Basis::Endorsed),
        Just(Basis::Implicit),
    ];
    let package = prop_oneof![
        vec(any::<u8>(), 0..20).prop_map(|bytes| Ok(Bytes::from(bytes))),
        refused.prop_map(Err),
    ];
    let place = (".{0,9}", any::<u64>(), any::<u64>());
    (place, basis, any::<Option<i64>>(), package).prop_map(
        |((namespace, block, tx), basis, sequence, package)| Entry {
            namespace,
            block,
            tx,
            basis,
            sequence,
            package,
        },
    )
}

proptest! {
    #[test]
    fn what_held_below_a_block_is_what_was_latest_there(history in history()) {
        let mut definitions = Definitions::new();
        let mut kept = Vec::new();
        let mut latest: Vec<[Found; 3]> = Vec::new();
        let mut numbers = [0_i64; 3];
        for (block, (chaincode, organization)) in (0_u64..).zip(history) {
            latest.push(CHAINCODES.map(|name| found(definitions.latest(name, "x"))));
            numbers[chaincode] += 1;
            let (name, number) = (CHAINCODES[chaincode], numbers[chaincode]);
            let package = of(&ORGANIZATIONS[organization.unwrap_or(0)..][..1]);
            let writes = match organization {
                _ if number == 1 => first(name, &package),
                Some(_) => next(name, number, &package),
                None => vec![sequence(name, number)],
            };
            kept.extend(apply(&mut definitions, block, vec![writes]).entries);
        }
        let restored = Definitions::restore(kept, definitions.height());
        for (block, latest) in (0_u64..).zip(latest) {
            for (name, latest) in CHAINCODES.into_iter().zip(latest) {
                prop_assert_eq!(&found(definitions.at(block, name, "x")), &latest);
                prop_assert_eq!(&found(restored.at(block, name, "x")), &latest);
            }
        }
    }

    #[test]
    fn a_kept_definition_is_read_again(entry in entry()) {
        prop_assert_eq!(Entry::decode(&entry.encode()), Ok(entry));
    }

    #[test]
    fn bytes_of_anything_are_read_or_refused(bytes in vec(any::<u8>(), 0..60)) {
        if let Ok(entry) = Entry::decode(&bytes) {
            let restored = Definitions::restore([entry], 0);
            prop_assert_eq!(restored.len(), 1);
        }
    }
}
