//! How much definitions may take, and what happens there.

use prost::Message;
use tidings_msp::collection::{
    Basis, COLLECTIONS_MAX, DEFINITIONS_COST_MAX, DEFINITIONS_MAX, Definitions, PACKAGE_LEN_MAX,
    PackageRefused, Reason, UNPROVEN_COST_MAX, UNPROVEN_MAX, Undefined,
};
use tidings_proto::{
    ELEMENTS_MAX,
    kvrwset::KvWrite,
    protos::{CollectionConfig, CollectionConfigPackage, StaticCollectionConfig},
};

use crate::draft::{
    apply, apply_on, collection, collections, first, metadata, next, of, package, sequence,
};

/// A package of exactly that many bytes with one good collection `c`.
fn long(len: usize) -> CollectionConfigPackage {
    let of = |padding: usize| {
        let padded = StaticCollectionConfig {
            name: "x".repeat(padding),
            ..StaticCollectionConfig::default()
        };
        package(&[collection("c", &["Org1MSP"]), padded])
    };
    let around = of(1 << 16).encoded_len() - (1 << 16);
    (len - around - 4..=len - around + 4)
        .map(of)
        .find(|package| package.encoded_len() == len)
        .unwrap()
}

fn verdict(writes: Vec<KvWrite>) -> Result<(), Undefined> {
    let mut definitions = Definitions::new();
    apply(&mut definitions, 1, vec![writes]);
    definitions.latest("cc", "c").map(drop)
}

#[test]
fn a_package_is_taken_up_to_its_limits() {
    let refused = |refused: PackageRefused| Err(Undefined::Package(refused));
    assert_eq!(verdict(first("cc", &long(PACKAGE_LEN_MAX))), Ok(()));
    assert_eq!(
        verdict(first("cc", &long(PACKAGE_LEN_MAX + 1))),
        refused(PackageRefused::TooLong)
    );
    let wide = |len: usize| {
        let mut package = of(&["c=Org1MSP"]);
        package.config.resize(len, CollectionConfig::default());
        package
    };
    assert_eq!(verdict(first("cc", &wide(COLLECTIONS_MAX))), Ok(()));
    assert_eq!(
        verdict(first("cc", &wide(COLLECTIONS_MAX + 1))),
        refused(PackageRefused::TooMany)
    );
    // One collection, one rule, one principal, and empty principals behind it.
    let many = |elements: usize| {
        let mut config = collection("c", &["Org1MSP"]);
        let policy = config.member_orgs_policy.as_mut().unwrap();
        let Some(tidings_proto::protos::collection_policy_config::Payload::SignaturePolicy(policy)) =
            &mut policy.payload
        else {
            panic!("a signature policy")
        };
        policy.identities.resize(elements - 2, Default::default());
        package(&[config])
    };
    assert_eq!(verdict(first("cc", &many(ELEMENTS_MAX))), Ok(()));
    assert_eq!(
        verdict(first("cc", &many(ELEMENTS_MAX + 1))),
        refused(PackageRefused::TooMany)
    );
}

#[test]
fn metadata_is_read_up_to_its_limit() {
    let with_metadata = |len: usize| {
        let around = metadata("cc", "ChaincodeDefinition").value.len();
        // An unknown field with a length of two bytes.
        let padding = len - around - 3;
        let field = [
            vec![0x1a, u8::try_from(padding & 0x7f).unwrap() | 0x80],
            vec![u8::try_from(padding >> 7).unwrap()],
            vec![0; padding],
        ];
        let mut writes = first("cc", &of(&["c=Org1MSP"]));
        let value = [writes[2].value.to_vec(), field.concat()].concat();
        assert_eq!(value.len(), len);
        writes[2].value = value.into();
        verdict(writes)
    };
    assert_eq!(with_metadata(4096), Ok(()));
    assert_eq!(
        with_metadata(4097),
        Err(Undefined::Package(PackageRefused::NotAChaincode))
    );
}

#[test]
fn all_packages_together_are_taken_up_to_their_limit() {
    let mut definitions = Definitions::new();
    let large = long(PACKAGE_LEN_MAX);
    let fits = DEFINITIONS_COST_MAX / (PACKAGE_LEN_MAX + 8 * 256);
    for n in 0..=fits {
        let number = u64::try_from(n).unwrap();
        apply(
            &mut definitions,
            number,
            vec![first(&format!("cc{n}"), &large)],
        );
    }
    let verdict = |n: usize| definitions.latest(&format!("cc{n}"), "c").map(drop);
    assert_eq!(verdict(fits - 1), Ok(()));
    assert_eq!(verdict(fits), Err(Undefined::Package(PackageRefused::Full)));
    // What is there already takes no more room when it is defined again.
    let again = vec![vec![sequence("cc0", 2)], next("cc1", 2, &large)];
    apply(&mut definitions, 1000, again);
    assert!(definitions.latest("cc0", "c").is_ok());
    assert!(definitions.latest("cc1", "c").is_ok());
    // A small one still fits.
    let small = first("small", &of(&["c=Org1MSP"]));
    apply(&mut definitions, 1001, vec![small]);
    assert!(definitions.latest("small", "c").is_ok());
}

#[test]
fn definitions_are_taken_up_to_their_limit() {
    let mut definitions = Definitions::new();
    apply(&mut definitions, 0, vec![first("old", &of(&["c=Org1MSP"]))]);
    apply(
        &mut definitions,
        1,
        vec![next("old", 2, &of(&["c=Org2MSP"]))],
    );
    // All others in one block, a thousand in a transaction.
    let others: Vec<_> = (0..DEFINITIONS_MAX - 2)
        .map(|n| {
            let name = format!("cc{n}");
            vec![sequence(&name, 1), metadata(&name, "ChaincodeDefinition")]
        })
        .collect();
    let transactions = others.chunks(1000).map(<[_]>::concat).collect();
    let applied = apply(&mut definitions, 2, transactions);
    assert_eq!(applied.entries.len(), DEFINITIONS_MAX - 2);
    assert_eq!(definitions.len(), DEFINITIONS_MAX);
    assert!(definitions.at(1, "old", "c").is_ok());

    let applied = apply(
        &mut definitions,
        3,
        vec![
            first("one too many", &of(&["c=Org1MSP"])),
            next("old", 3, &of(&["c=Org1MSP"])),
        ],
    );
    let passed: Vec<_> = applied
        .passed_over
        .iter()
        .map(|passed| (passed.namespace.as_str(), passed.reason))
        .collect();
    assert_eq!(passed, [("one too many", Reason::Full)]);
    assert_eq!(definitions.len(), DEFINITIONS_MAX);
    assert!(definitions.latest("one too many", "c").is_err());
    assert_eq!(definitions.latest("old", "c").unwrap().block, Some(3));
    assert_eq!(
        definitions.at(1, "old", "c").map(drop),
        Err(Undefined::Chaincode),
        "the oldest is forgotten"
    );
    assert_eq!(definitions.at(2, "old", "c").unwrap().block, Some(1));
    // A chaincode with one definition has the new one in its place.
    apply(
        &mut definitions,
        4,
        vec![vec![sequence("cc7", 2), collections("cc7", "")]],
    );
    assert_eq!(definitions.len(), DEFINITIONS_MAX);

    let restored = Definitions::restore(definitions.entries(), 5);
    assert_eq!(restored.len(), DEFINITIONS_MAX);
}

/// Definitions of that many chaincodes, on the word of whoever gave us the block.
fn claim(definitions: &mut Definitions, number: u64, names: std::ops::Range<usize>) -> Vec<Reason> {
    let package = of(&["c=Org1MSP"]);
    let claimed = names.map(|n| first(&format!("claimed{n}"), &package));
    let claimed: Vec<_> = claimed.collect();
    let claimed = claimed.chunks(1000).map(<[_]>::concat).collect();
    let applied = apply_on(definitions, number, claimed, Basis::Claimed);
    applied
        .passed_over
        .into_iter()
        .map(|over| over.reason)
        .collect()
}

#[test]
fn what_is_claimed_leaves_room_for_what_is_proven() {
    let mut definitions = Definitions::new();
    assert_eq!(claim(&mut definitions, 0, 0..UNPROVEN_MAX), []);
    let more = UNPROVEN_MAX..DEFINITIONS_MAX + 1;
    let refused = claim(&mut definitions, 1, more.clone());
    assert_eq!(refused, vec![Reason::Full; more.len()]);
    assert_eq!(definitions.len(), UNPROVEN_MAX);
    let proven = first("proven", &of(&["c=Org1MSP"]));
    assert_eq!(apply(&mut definitions, 2, vec![proven]).passed_over, []);
    // Of one that is known already the oldest claim goes, and nothing that is proven.
    let package = of(&["c=Org2MSP"]);
    let again = |name: &str| vec![next(name, 2, &package)];
    let applied = apply_on(&mut definitions, 3, again("claimed0"), Basis::Claimed);
    assert_eq!(
        (applied.passed_over.len(), definitions.len()),
        (0, UNPROVEN_MAX + 1)
    );
    let applied = apply_on(&mut definitions, 4, again("proven"), Basis::Claimed);
    assert_eq!(applied.passed_over.len(), 1);
    assert!(definitions.latest("proven", "c").unwrap().basis.is_proven());
    // One that is proven takes the place of a claim.
    apply(&mut definitions, 5, vec![first("claimed1", &package)]);
    assert!(
        definitions
            .latest("claimed1", "c")
            .unwrap()
            .basis
            .is_proven()
    );
}

#[test]
fn what_is_claimed_has_a_part_of_the_memory() {
    let mut definitions = Definitions::new();
    let large = long(PACKAGE_LEN_MAX);
    let fits = UNPROVEN_COST_MAX / (PACKAGE_LEN_MAX + 8 * 256);
    for n in 0..=fits {
        let writes = vec![first(&format!("cc{n}"), &large)];
        apply_on(
            &mut definitions,
            u64::try_from(n).unwrap(),
            writes,
            Basis::Claimed,
        );
    }
    let full = Err(Undefined::Package(PackageRefused::Full));
    let verdict = |definitions: &Definitions, name: &str| definitions.latest(name, "c").map(drop);
    assert_eq!(verdict(&definitions, &format!("cc{}", fits - 1)), Ok(()));
    assert_eq!(verdict(&definitions, &format!("cc{fits}")), full);
    apply(&mut definitions, 1000, vec![first("proven", &large)]);
    assert_eq!(verdict(&definitions, "proven"), Ok(()));
}
