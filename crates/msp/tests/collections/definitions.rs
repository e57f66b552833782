//! Which collections there are as of which block.

use prost::Message;
use tidings_msp::collection::{
    Applied, Basis, Collection, CollectionRefused, Defined, Definitions, Entry, PackageRefused,
    PassedOver, Reason, Undefined,
};
use tidings_proto::{
    kvrwset::KvWrite,
    protos::{CollectionConfigPackage, StaticCollectionConfig},
};

use crate::draft::{
    Draft, apply, apply_on, block, collection, collections, first, metadata, next, of, package,
    public, sequence, write,
};

/// `Org1MSP from block 5`, `Org1MSP implicit`, or why not.
fn shown(found: Result<Defined, Undefined>) -> String {
    match found {
        Ok(found) => {
            let config = Collection::config(&found.collection);
            let policy = format!("{:?}", config.member_orgs_policy);
            let member = ["Org1MSP", "Org2MSP", "Org3MSP"]
                .into_iter()
                .find(|msp_id| policy.contains(msp_id));
            match found.block {
                Some(block) => format!("{} from block {block}", member.unwrap()),
                None => format!("{} implicit", member.unwrap()),
            }
        }
        Err(why) => why.to_string(),
    }
}

fn at(definitions: &Definitions, block: u64, name: &str) -> String {
    let (namespace, collection) = name.split_once('/').unwrap();
    shown(definitions.at(block, namespace, collection))
}

fn latest(definitions: &Definitions, name: &str) -> String {
    let (namespace, collection) = name.split_once('/').unwrap();
    shown(definitions.latest(namespace, collection))
}

const NOT_DEFINED: &str = "the chaincode is not defined there";
const NO_COLLECTION: &str = "the chaincode has no such collection there";

fn passed_over(applied: &Applied) -> Vec<(u64, &str, Reason)> {
    let each = |passed: &PassedOver| passed.reason;
    let names = applied.passed_over.iter();
    names
        .map(|passed| (passed.tx, passed.namespace.as_str(), each(passed)))
        .collect()
}

fn entry(
    namespace: &str,
    block: u64,
    number: i64,
    package: Result<&CollectionConfigPackage, PackageRefused>,
) -> Entry {
    Entry {
        namespace: namespace.to_owned(),
        block,
        tx: 0,
        basis: Basis::Endorsed,
        sequence: Some(number),
        package: package.map(|package| package.encode_to_vec().into()),
    }
}

#[test]
fn a_definition_holds_from_the_block_after_its_own() {
    let mut definitions = Definitions::new();
    let (one, two) = (of(&["c=Org1MSP"]), of(&["c=Org2MSP", "d=Org1MSP"]));
    let applied = apply(&mut definitions, 5, vec![first("cc", &one)]);
    assert_eq!(
        applied,
        Applied {
            entries: vec![entry("cc", 5, 1, Ok(&one))],
            passed_over: vec![]
        }
    );
    assert_eq!((definitions.height(), definitions.len()), (6, 1));
    let applied = apply(&mut definitions, 9, vec![next("cc", 2, &two)]);
    assert_eq!(applied.entries, [entry("cc", 9, 2, Ok(&two))]);
    for (block, expect) in [
        (0, NOT_DEFINED),
        (5, NOT_DEFINED),
        (6, "Org1MSP from block 5"),
        (9, "Org1MSP from block 5"),
        (10, "Org2MSP from block 9"),
        (u64::MAX, "Org2MSP from block 9"),
    ] {
        assert_eq!(at(&definitions, block, "cc/c"), expect, "{block}");
    }
    assert_eq!(at(&definitions, 9, "cc/d"), NO_COLLECTION);
    assert_eq!(latest(&definitions, "cc/c"), "Org2MSP from block 9");
    assert_eq!(latest(&definitions, "cc/d"), "Org1MSP from block 9");
    assert_eq!(latest(&definitions, "cc/e"), NO_COLLECTION);
    assert_eq!(latest(&definitions, "other/c"), NOT_DEFINED);
}

#[test]
fn what_a_definition_does_not_write_is_as_it_was() {
    let mut definitions = Definitions::new();
    apply(&mut definitions, 1, vec![first("cc", &of(&["c=Org1MSP"]))]);
    let applied = apply(&mut definitions, 2, vec![vec![sequence("cc", 2)]]);
    assert_eq!(
        applied.entries,
        [entry("cc", 2, 2, Ok(&of(&["c=Org1MSP"])))]
    );
    assert_eq!(latest(&definitions, "cc/c"), "Org1MSP from block 2");
    // Without a number it is no definition, as only an approval would be.
    let none = apply(
        &mut definitions,
        3,
        vec![vec![collections("cc", of(&["c=Org2MSP"]).encode_to_vec())]],
    );
    assert_eq!(none, Applied::default());
    // Definitions that we began in the middle of.
    apply(&mut definitions, 4, vec![vec![sequence("late", 7)]]);
    assert_eq!(
        latest(&definitions, "late/c"),
        Undefined::from(PackageRefused::Unseen).to_string()
    );
    apply(
        &mut definitions,
        5,
        vec![next("late", 8, &of(&["c=Org2MSP"]))],
    );
    assert_eq!(latest(&definitions, "late/c"), "Org2MSP from block 5");
}

#[test]
fn only_transactions_that_the_caller_vouches_for_count() {
    let mut definitions = Definitions::new();
    let transaction = |writes| Draft::of(writes).envelope();
    let mut other = Draft::of(vec![]);
    other.namespaces = vec![public("other", first("cc", &of(&["c=Org3MSP"])))];
    let block = block(
        4,
        vec![
            transaction(first("cc", &of(&["c=Org2MSP"]))),
            transaction(vec![write("chaincode-sources/metadata/cc#1", "x")]),
            other.envelope(),
            transaction(first("cc", &of(&["c=Org1MSP"]))),
        ],
    );
    let mut asked = Vec::new();
    let applied = definitions.apply(&block, |tx, transaction| {
        assert_eq!(transaction.channel_id(), "mychannel");
        asked.push(tx);
        (tx == 3).then_some(Basis::Claimed)
    });
    assert_eq!(asked, [0, 3]);
    assert_eq!(passed_over(&applied), [(0, "cc", Reason::NotValid)]);
    assert_eq!(latest(&definitions, "cc/c"), "Org1MSP from block 4");
    let basis = |collection| definitions.latest("cc", collection).unwrap().basis;
    assert_eq!(basis("c"), Basis::Claimed);
    assert_eq!(basis("_implicit_org_Org2MSP"), Basis::Implicit);
}

#[test]
fn only_agreement_and_names_are_proof() {
    let proven = |basis: Basis| basis.is_proven();
    assert!(!proven(Basis::Assumed) && !proven(Basis::Claimed));
    assert!(proven(Basis::Endorsed) && proven(Basis::Implicit));
}

#[test]
fn a_number_below_the_last_is_passed_over() {
    let mut definitions = Definitions::new();
    apply(
        &mut definitions,
        1,
        vec![next("cc", 5, &of(&["c=Org1MSP"]))],
    );
    let applied = apply(
        &mut definitions,
        2,
        vec![next("cc", 4, &of(&["c=Org2MSP"]))],
    );
    assert_eq!(applied.entries, []);
    assert_eq!(passed_over(&applied), [(0, "cc", Reason::Stale)]);
    assert_eq!(latest(&definitions, "cc/c"), "Org1MSP from block 1");
}

#[test]
fn two_definitions_with_one_number_are_believed_only_if_they_agree() {
    let mut definitions = Definitions::new();
    let (one, two) = (of(&["c=Org1MSP"]), of(&["c=Org2MSP"]));
    let both = vec![first("cc", &one), first("cc", &one)];
    let applied = apply(&mut definitions, 1, both);
    assert_eq!(applied.entries, [entry("cc", 1, 1, Ok(&one))]);
    assert_eq!(
        apply(&mut definitions, 2, vec![first("cc", &one)]),
        Applied::default()
    );
    let applied = apply(&mut definitions, 3, vec![first("cc", &two)]);
    let disputed = PackageRefused::Disputed;
    assert_eq!(applied.entries, [entry("cc", 3, 1, Err(disputed))]);
    let unknown = Undefined::from(disputed).to_string();
    assert_eq!(latest(&definitions, "cc/c"), unknown);
    assert_eq!(at(&definitions, 3, "cc/c"), "Org1MSP from block 1");
    assert_eq!(at(&definitions, 4, "cc/c"), unknown);
    assert_eq!(
        latest(&definitions, "cc/_implicit_org_Org1MSP"),
        "Org1MSP implicit"
    );
    // Which of the two the next one keeps is not known either.
    apply(&mut definitions, 4, vec![vec![sequence("cc", 2)]]);
    assert_eq!(latest(&definitions, "cc/c"), unknown);
    apply(&mut definitions, 5, vec![next("cc", 3, &two)]);
    assert_eq!(latest(&definitions, "cc/c"), "Org2MSP from block 5");
    // In one block, too.
    let both = vec![next("cc", 4, &one), next("cc", 4, &two)];
    let applied = apply(&mut definitions, 6, both);
    let expect = Entry {
        tx: 1,
        ..entry("cc", 6, 4, Err(disputed))
    };
    assert_eq!(applied.entries, [expect]);
}

#[test]
fn weaker_grounds_neither_stand_in_the_way_nor_are_built_upon() {
    let mut definitions = Definitions::new();
    let (good, bad) = (of(&["c=Org1MSP"]), of(&["c=Org3MSP"]));
    apply_on(
        &mut definitions,
        1,
        vec![next("cc", i64::MAX, &bad)],
        Basis::Assumed,
    );
    assert_eq!(latest(&definitions, "cc/c"), "Org3MSP from block 1");
    // The endorsed definition keeps collections of one that nobody has seen.
    apply(&mut definitions, 2, vec![vec![sequence("cc", 2)]]);
    assert_eq!(
        latest(&definitions, "cc/c"),
        Undefined::from(PackageRefused::Unseen).to_string()
    );
    apply(&mut definitions, 3, vec![next("cc", 3, &good)]);
    assert_eq!(latest(&definitions, "cc/c"), "Org1MSP from block 3");
    // A claim of a later one is taken for what it is, and what was agreed to comes back.
    apply_on(
        &mut definitions,
        4,
        vec![next("cc", 9, &good)],
        Basis::Claimed,
    );
    assert_eq!(definitions.latest("cc", "c").unwrap().basis, Basis::Claimed);
    let stale = apply(&mut definitions, 5, vec![next("cc", 2, &bad)]);
    assert_eq!(passed_over(&stale), [(0, "cc", Reason::Stale)]);
    apply(&mut definitions, 6, vec![next("cc", 4, &good)]);
    let now = definitions.latest("cc", "c").unwrap();
    assert_eq!((now.basis, now.block), (Basis::Endorsed, Some(6)));
}

#[test]
fn every_chaincode_since_version_2_has_implicit_collections() {
    let mut definitions = Definitions::new();
    let of_definitions = "_lifecycle/_implicit_org_Org1MSP";
    assert_eq!(at(&definitions, 0, of_definitions), "Org1MSP implicit");
    assert_eq!(latest(&definitions, of_definitions), "Org1MSP implicit");
    assert_eq!(latest(&definitions, "_lifecycle/c"), NOT_DEFINED);
    let ours = "cc/_implicit_org_Org1MSP";
    assert_eq!(latest(&definitions, ours), NOT_DEFINED);
    let nothing = CollectionConfigPackage::default();
    apply(&mut definitions, 3, vec![first("cc", &nothing)]);
    assert_eq!(at(&definitions, 3, ours), NOT_DEFINED);
    assert_eq!(at(&definitions, 4, ours), "Org1MSP implicit");
    assert_eq!(latest(&definitions, ours), "Org1MSP implicit");
    assert_eq!(latest(&definitions, "cc/c"), NO_COLLECTION);
}

#[test]
fn a_definition_without_collections_leaves_those_before_to_old_blocks() {
    let mut definitions = Definitions::new();
    let nothing = CollectionConfigPackage::default();
    apply(&mut definitions, 1, vec![first("cc", &of(&["c=Org1MSP"]))]);
    apply(&mut definitions, 2, vec![next("cc", 2, &nothing)]);
    assert_eq!(latest(&definitions, "cc/c"), NO_COLLECTION);
    // As Fabric, whose history has no entry for it.
    assert_eq!(at(&definitions, 9, "cc/c"), "Org1MSP from block 1");
}

fn legacy(chaincode: &str, package: &CollectionConfigPackage) -> KvWrite {
    write(format!("{chaincode}~collection"), package.encode_to_vec())
}

fn apply_legacy(definitions: &mut Definitions, number: u64, writes: Vec<KvWrite>) -> Applied {
    let mut draft = Draft::of(vec![]);
    draft.namespaces = vec![public("lscc", writes)];
    let block = block(number, vec![draft.envelope()]);
    definitions.apply(&block, |_, _| Some(Basis::Claimed))
}

#[test]
fn definitions_before_version_2_hold_until_there_is_one_since() {
    let mut definitions = Definitions::new();
    let (one, two) = (of(&["c=Org1MSP"]), of(&["c=Org2MSP"]));
    let writes = vec![write("cc", "data"), legacy("cc", &one)];
    let applied = apply_legacy(&mut definitions, 1, writes);
    let expect = Entry {
        sequence: None,
        basis: Basis::Claimed,
        ..entry("cc", 1, 0, Ok(&one))
    };
    assert_eq!(applied.entries, [expect]);
    assert_eq!(latest(&definitions, "cc/c"), "Org1MSP from block 1");
    let implicit = "cc/_implicit_org_Org1MSP";
    assert_eq!(latest(&definitions, implicit), NO_COLLECTION);
    assert_eq!(
        apply_legacy(&mut definitions, 2, vec![legacy("cc", &one)]),
        Applied::default()
    );
    apply_legacy(&mut definitions, 3, vec![legacy("cc", &two)]);
    assert_eq!(latest(&definitions, "cc/c"), "Org2MSP from block 3");
    let deletion = KvWrite {
        is_delete: true,
        ..legacy("cc", &two)
    };
    apply_legacy(&mut definitions, 4, vec![deletion]);
    assert_eq!(latest(&definitions, "cc/c"), NO_COLLECTION);
    assert_eq!(at(&definitions, 9, "cc/c"), "Org2MSP from block 3");
    let nothing = CollectionConfigPackage::default();
    apply(&mut definitions, 5, vec![first("cc", &nothing)]);
    assert_eq!(latest(&definitions, implicit), "Org1MSP implicit");
    assert_eq!(at(&definitions, 9, "cc/c"), "Org2MSP from block 3");
    let applied = apply_legacy(&mut definitions, 6, vec![legacy("cc", &two)]);
    assert_eq!(passed_over(&applied), [(0, "cc", Reason::Superseded)]);
    assert_eq!(latest(&definitions, "cc/c"), NO_COLLECTION);
}

#[test]
fn a_transaction_may_define_several_chaincodes_and_a_block_one_several_times() {
    let mut definitions = Definitions::new();
    let both = [
        first("a", &of(&["c=Org1MSP"])),
        first("b", &of(&["c=Org2MSP"])),
    ]
    .concat();
    let applied = apply(
        &mut definitions,
        1,
        vec![both, next("a", 2, &of(&["c=Org3MSP"]))],
    );
    let names: Vec<_> = applied
        .entries
        .iter()
        .map(|entry| (entry.namespace.as_str(), entry.tx, entry.sequence))
        .collect();
    assert_eq!(names, [("a", 1, Some(2)), ("b", 0, Some(1))]);
    assert_eq!(latest(&definitions, "a/c"), "Org3MSP from block 1");
    assert_eq!(at(&definitions, 1, "a/c"), NOT_DEFINED);
    assert_eq!(definitions.len(), 2);
}

#[test]
fn keys_that_are_no_definition_are_passed_over() {
    let mut definitions = Definitions::new();
    let long = "x".repeat(513);
    let keys = vec![
        sequence("", 1),
        sequence("a/b", 1),
        sequence("a~b", 1),
        sequence(&long, 1),
        metadata("", "ChaincodeDefinition"),
        write("namespaces/fields/a/Sequence/", "x"),
        write("namespaces/fields/a", "x"),
        write("namespaces/fields/b/Sequence", "not state data \u{ff}"),
        write("namespaces/fields/c/Sequence", ""),
        KvWrite {
            key: "namespaces/fields/d/Sequence".to_owned(),
            ..collections("d", "bytes and no number")
        },
        write("elsewhere/fields/a/Sequence", sequence("a", 1).value),
    ];
    let applied = apply(&mut definitions, 1, vec![keys]);
    assert_eq!(applied, Applied::default());
    let longest = &long[..512];
    apply(&mut definitions, 2, vec![vec![sequence(longest, 1)]]);
    assert_eq!(definitions.len(), 1);
}

#[test]
fn what_cannot_be_read_hides_what_was_before() {
    let good = of(&["c=Org1MSP"]);
    let unknown = |refused: PackageRefused| Undefined::from(refused).to_string();
    let collections_key = |writes: KvWrite| vec![sequence("cc", 2), writes];
    let cases = [
        (
            collections_key(collections("cc", "no package")),
            PackageRefused::Undecodable,
        ),
        (
            collections_key(write("namespaces/fields/cc/Collections", "no state data")),
            PackageRefused::Undecodable,
        ),
        (
            collections_key(write(
                "namespaces/fields/cc/Collections",
                sequence("cc", 1).value,
            )),
            PackageRefused::Undecodable,
        ),
        (
            collections_key(metadata("cc", "SomethingElse")),
            PackageRefused::NotAChaincode,
        ),
        (
            collections_key(write("namespaces/metadata/cc", "")),
            PackageRefused::NotAChaincode,
        ),
        (
            collections_key(metadata("cc", &"ChaincodeDefinition".repeat(1000))),
            PackageRefused::NotAChaincode,
        ),
    ];
    for (writes, refused) in cases {
        let mut definitions = Definitions::new();
        apply(&mut definitions, 1, vec![first("cc", &good)]);
        let applied = apply(&mut definitions, 2, vec![writes]);
        assert_eq!(applied.entries, [entry("cc", 2, 2, Err(refused))]);
        assert_eq!(latest(&definitions, "cc/c"), unknown(refused));
        assert_eq!(at(&definitions, 3, "cc/c"), unknown(refused));
        assert_eq!(at(&definitions, 2, "cc/c"), "Org1MSP from block 1");
        let implicit = latest(&definitions, "cc/_implicit_org_Org1MSP");
        let gone = refused == PackageRefused::NotAChaincode;
        assert_eq!(implicit == "Org1MSP implicit", !gone, "{refused}");
        let again = first("cc", &good)[1..].to_vec();
        apply(
            &mut definitions,
            3,
            vec![[vec![sequence("cc", 3)], again].concat()],
        );
        assert_eq!(latest(&definitions, "cc/c"), "Org1MSP from block 3");
    }
}

#[test]
fn a_collection_that_cannot_be_used_does_not_spoil_the_others() {
    let mut definitions = Definitions::new();
    let broken = StaticCollectionConfig {
        name: "broken".to_owned(),
        ..StaticCollectionConfig::default()
    };
    let mut package = package(&[
        broken,
        collection("c", &["Org1MSP"]),
        collection("c", &["Org2MSP"]),
    ]);
    package.config.push(Default::default());
    apply(&mut definitions, 1, vec![first("cc", &package)]);
    assert_eq!(latest(&definitions, "cc/c"), "Org1MSP from block 1");
    assert_eq!(
        latest(&definitions, "cc/broken"),
        Undefined::from(CollectionRefused::NoPolicy).to_string()
    );
}

#[test]
fn a_block_that_was_taken_is_not_taken_again() {
    let mut definitions = Definitions::new();
    apply(&mut definitions, 5, vec![first("cc", &of(&["c=Org1MSP"]))]);
    for number in [4, 5] {
        let again = vec![next("cc", 2, &of(&["c=Org2MSP"]))];
        assert_eq!(apply(&mut definitions, number, again), Applied::default());
    }
    assert_eq!(definitions.height(), 6);
    assert_eq!(latest(&definitions, "cc/c"), "Org1MSP from block 5");
}

#[test]
fn what_was_kept_is_restored_in_any_order() {
    let mut definitions = Definitions::new();
    let mut kept = Vec::new();
    let blocks = [
        (1, vec![first("a", &of(&["c=Org1MSP"]))]),
        (2, vec![first("b", &of(&["c=Org2MSP"]))]),
        (4, vec![next("a", 2, &of(&["c=Org2MSP"]))]),
        (
            6,
            vec![vec![sequence("a", 3)], first("b", &of(&["c=Org3MSP"]))],
        ),
    ];
    for (number, transactions) in blocks {
        kept.extend(apply(&mut definitions, number, transactions).entries);
    }
    let decoded = |entry: &Entry| Entry::decode(&entry.encode()).unwrap();
    let restored = Definitions::restore(kept.iter().rev().map(decoded), 8);
    assert_eq!(restored.height(), 8);
    assert_eq!(restored.len(), definitions.len());
    let all = |definitions: &Definitions| definitions.entries().collect::<Vec<_>>();
    assert_eq!(all(&restored), all(&definitions));
    for name in ["a/c", "b/c"] {
        assert_eq!(latest(&restored, name), latest(&definitions, name));
        for block in 0..8 {
            assert_eq!(at(&restored, block, name), at(&definitions, block, name));
        }
    }
}
