//! Whether the organizations agreed to a definition.

use bytes::Bytes;
use prost::Message;
use tidings_msp::{
    channel_config::ChannelConfig,
    collection::{Basis, DefinitionRefused, Definitions, check_definition},
    msp::IdentityRefused,
    policy::{PolicyRefused, SIGNED_DATA_MAX},
};
use tidings_proto::{
    block::EndorsedTransaction,
    common::{ConfigGroup, Envelope, implicit_meta_policy::Rule},
};

use crate::{
    draft::{Draft, block, first, of, private, public, write},
    material::{Material, tree},
};

fn config(material: &Material, alter: impl FnOnce(&mut ConfigGroup)) -> ChannelConfig {
    let mut group = material.group();
    alter(&mut group);
    ChannelConfig::from_config_block(&material.genesis(group)).unwrap()
}

fn draft(material: &Material) -> Draft<'_> {
    let writes = first("cc", &of(&["c=Org1MSP"]));
    Draft::of(writes).by(&material.admin1, &[&material.peer1, &material.peer2])
}

fn check(envelope: &Bytes, config: &ChannelConfig) -> Result<(), DefinitionRefused> {
    check_definition(&EndorsedTransaction::parse(envelope).unwrap(), config)
}

/// The verdict on a draft after an alteration.
fn altered<'a>(
    material: &'a Material,
    alter: impl FnOnce(&mut Draft<'a>),
) -> Result<(), DefinitionRefused> {
    let mut draft = draft(material);
    alter(&mut draft);
    check(&draft.envelope(), &config(material, |_| ()))
}

fn unsatisfied(signers: usize) -> Result<(), DefinitionRefused> {
    Err(PolicyRefused::Signature { signers }.into())
}

#[test]
fn most_organizations_must_agree_where_the_channel_says_nothing_else() {
    let material = Material::new();
    assert_eq!(altered(&material, |_| ()), Ok(()));
    let endorsed_by = |endorsers: &[_]| {
        altered(&material, |draft| {
            draft.endorsers = endorsers.to_vec();
        })
    };
    assert_eq!(endorsed_by(&[]), unsatisfied(0));
    assert_eq!(endorsed_by(&[&material.peer1]), unsatisfied(1));
    let one_twice = [&material.peer1, &material.peer1];
    assert_eq!(endorsed_by(&one_twice), unsatisfied(1));
    let one_organization = [&material.peer1, &material.admin1];
    assert_eq!(endorsed_by(&one_organization), unsatisfied(2));
    // Whoever else endorses does not count, and does no harm.
    let stranger = Material::new();
    let with_strangers = [
        &stranger.peer1,
        &material.peer2,
        &material.orderers[0],
        &material.peer1,
    ];
    assert_eq!(endorsed_by(&with_strangers), Ok(()));
}

#[test]
fn the_channel_may_say_who_must_agree() {
    let material = Material::new();
    let any = config(&material, |group| {
        let application = tree::at(group, &["Application"]);
        let policy = tree::implicit(Rule::Any, "Writers");
        tree::put_policy(application, "LifecycleEndorsement", policy);
    });
    let mut draft = draft(&material);
    draft.endorsers = vec![&material.peer2];
    assert_eq!(check(&draft.envelope(), &any), Ok(()));
    draft.endorsers = vec![&material.orderers[0]];
    assert_eq!(
        check(&draft.envelope(), &any),
        Err(PolicyRefused::ImplicitMeta {
            satisfied: 0,
            required: 1,
            sub_policy: "Writers".to_owned()
        }
        .into())
    );
}

#[test]
fn endorsements_are_for_these_results_of_this_proposal() {
    let material = Material::new();
    // Another package under the endorsements of this one.
    let good = draft(&material).envelope();
    let package = of(&["c=Org1MSP"]).encode_to_vec();
    let other = of(&["c=Org2MSP"]).encode_to_vec();
    let at = good
        .windows(package.len())
        .position(|window| window == package)
        .unwrap();
    let mut swapped = good.to_vec();
    swapped[at..at + package.len()].copy_from_slice(&other);
    let swapped = Bytes::from(swapped);
    let config = config(&material, |_| ());
    // The creator's signature catches that already, so he signs again.
    assert!(matches!(
        check(&swapped, &config),
        Err(DefinitionRefused::Signature(_))
    ));
    let mut signed_again = Envelope::decode(swapped).unwrap();
    signed_again.signature = material.admin1.sign(&signed_again.payload);
    assert_eq!(
        check(&signed_again.encode_to_vec().into(), &config),
        unsatisfied(0)
    );
    assert_eq!(
        altered(&material, |draft| draft.endorsed_proposal = b"another"),
        Err(DefinitionRefused::Proposal)
    );
}

#[test]
fn a_definition_writes_nowhere_else() {
    let material = Material::new();
    let with = |namespace| altered(&material, |draft| draft.namespaces.push(namespace));
    let elsewhere = |name: &str| Err(DefinitionRefused::OtherNamespace(name.to_owned()));
    assert_eq!(with(public("read", vec![])), Ok(()));
    assert_eq!(
        with(public("other", vec![write("k", "v")])),
        elsewhere("other")
    );
    assert_eq!(with(private("other", "c")), elsewhere("other"));
    assert_eq!(
        with(public("_lifecycle", vec![])),
        Err(DefinitionRefused::Repeated)
    );
    let legacy = public("lscc", vec![write("cc~collection", "v")]);
    assert_eq!(with(legacy), elsewhere("lscc"));
}

#[test]
fn headers_and_creator_are_judged_as_those_of_any_transaction() {
    let material = Material::new();
    assert_eq!(
        altered(&material, |draft| draft.channel = "yourchannel"),
        Err(DefinitionRefused::OtherChannel("yourchannel".to_owned()))
    );
    assert_eq!(
        altered(&material, |draft| draft.actions = 2),
        Err(DefinitionRefused::Actions(2))
    );
    assert_eq!(
        altered(&material, |draft| draft.tx_id = Some("1234")),
        Err(DefinitionRefused::Id)
    );
    assert_eq!(
        altered(&material, |draft| draft.creator = None),
        Err(DefinitionRefused::Headers)
    );
    let stranger = Material::new();
    assert!(matches!(
        altered(&material, |draft| draft.creator = Some(&stranger.admin1)),
        Err(DefinitionRefused::Creator(IdentityRefused::Chain(_)))
    ));
    let unsigned = {
        let envelope = draft(&material).envelope();
        let mut envelope = Envelope::decode(envelope).unwrap();
        envelope.signature = Bytes::new();
        envelope.encode_to_vec().into()
    };
    assert!(matches!(
        check(&unsigned, &config(&material, |_| ())),
        Err(DefinitionRefused::Signature(_))
    ));
}

#[test]
fn there_are_such_definitions_from_application_capability_v2_0_on() {
    let material = Material::new();
    let envelope = draft(&material).envelope();
    for (capability, expect) in [
        ("V1_4_2", Err(DefinitionRefused::Capability)),
        ("V2_0", Ok(())),
        ("V2_5", Ok(())),
    ] {
        let config = config(&material, |group| {
            let application = tree::at(group, &["Application"]);
            let capabilities = tree::capabilities(&[capability]);
            tree::put(application, "Capabilities", &capabilities);
        });
        assert_eq!(check(&envelope, &config), expect, "{capability}");
    }
}

#[test]
fn endorsements_are_looked_at_up_to_the_limit() {
    let material = Material::new();
    let endorsed_by = |strangers: usize| {
        altered(&material, |draft| {
            // Repetitions of one who is known cost no verification.
            let mut endorsers = vec![&material.peer1; strangers];
            endorsers.push(&material.peer2);
            draft.endorsers = endorsers;
        })
    };
    assert_eq!(endorsed_by(SIGNED_DATA_MAX - 1), Ok(()));
    assert_eq!(
        endorsed_by(SIGNED_DATA_MAX),
        Err(DefinitionRefused::TooMany)
    );
}

#[test]
fn the_check_is_what_definitions_are_fed_with() {
    let material = Material::new();
    let config = config(&material, |_| ());
    let forged = Draft::of(first("cc", &of(&["c=Org2MSP"])))
        .by(&material.admin1, &[&material.peer1])
        .envelope();
    let block = block(7, vec![forged, draft(&material).envelope()]);
    let mut definitions = Definitions::new();
    let applied = definitions.apply(&block, |_, transaction| {
        check_definition(transaction, &config)
            .is_ok()
            .then_some(Basis::Endorsed)
    });
    assert_eq!(applied.entries.len(), 1);
    assert_eq!((applied.entries[0].tx, applied.passed_over[0].tx), (1, 0));
    let found = definitions.at(8, "cc", "c").unwrap();
    assert!(found.basis.is_proven());
    assert!(found.collection.entitles(&material.peer1.identity, &config));
    assert!(!found.collection.entitles(&material.peer2.identity, &config));
}
