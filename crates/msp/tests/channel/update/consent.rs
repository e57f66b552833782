//! Who has to agree to an update.

use super::*;

#[test]
fn an_organization_joins_when_most_agree_and_its_members_are_then_valid() {
    let material = Material::new();
    let org3 = Organization::new("Org3");
    let peer3 = org3.member("peer0.org3", "peer");
    let mut next = material.group();
    let application = tree::at(&mut next, &["Application"]);
    let mut group = application.groups[&material.org2.key].clone();
    tree::put(&mut group, "MSP", &tree::msp(&org3.msp()));
    application.groups.insert(org3.key.clone(), group);
    application.version += 1;

    let place = "group /Channel/Application";
    let sub_policy = || "Admins".to_owned();
    let short = |satisfied| {
        let sub_policy = sub_policy();
        not_allowed(
            place,
            PolicyRefused::ImplicitMeta {
                satisfied,
                required: 2,
                sub_policy,
            },
        )
    };
    let (a, b) = (&material.admin1, &material.admin2);
    assert_eq!(judge(&material, &next, &[a]), short(1));
    assert_eq!(judge(&material, &next, &[a, a]), short(1));
    assert_eq!(judge(&material, &next, &[a, &material.peer2]), short(1));
    assert_eq!(judge(&material, &next, &[a, b]), None);

    let before = config(&material, &material.group());
    let block = material.update_block((0, &material.group()), &next, &[a, b]);
    let after = before.apply(&block).unwrap();
    assert!(before.msps().deserialize(&peer3.identity).is_err());
    let identity = after.msps().deserialize(&peer3.identity).unwrap();
    assert_eq!(after.msps().validate(&identity), Ok(()));

    // And it can be put out again.
    let mut last = next.clone();
    let application = tree::at(&mut last, &["Application"]);
    application.groups.remove(&org3.key);
    application.version += 1;
    let block = material.update_block((1, &next), &last, &[a, b]);
    let without = after.apply(&block).unwrap();
    assert!(without.msps().deserialize(&peer3.identity).is_err());
}

#[test]
fn nt_3_8_insufficient_signatures_on_mod_policy() {
    let material = Material::new();
    let next = with_anchors(&material);
    let refused = |signers| {
        let place = "group /Channel/Application/Org1-group";
        not_allowed(place, PolicyRefused::Signature { signers })
    };
    assert_eq!(judge(&material, &next, &[]), refused(0));
    assert_eq!(judge(&material, &next, &[&material.peer1]), refused(1));
    assert_eq!(judge(&material, &next, &[&material.admin2]), refused(1));
    assert_eq!(
        judge(&material, &next, &[&material.peer1, &material.admin2]),
        refused(2)
    );
    assert_eq!(
        judge(&material, &next, &[&material.admin2, &material.admin1]),
        None
    );
    // A signature over another update is none.
    let other = material::update(&material.group(), &with_timeout(&material, "3s"));
    let envelope = material::signed_update(&other, &[&material.admin1]);
    let good = material::signed_update(&material::update(&material.group(), &next), &[]);
    let graft = graft_signatures(&good, &envelope);
    let config_message = Config {
        sequence: 1,
        channel_group: Some(next),
    };
    let envelope = ConfigEnvelope {
        config: Some(config_message),
        last_update: Some(graft),
    };
    let block = material.config_block(1, &envelope);
    let verdict = config(&material, &material.group()).apply(&block).err();
    assert_eq!(verdict, refused(0));
}

/// The first update with the signatures of the second.
fn graft_signatures(update: &Envelope, signed: &Envelope) -> Envelope {
    use tidings_proto::common::{ConfigUpdateEnvelope, Payload};
    let open = |envelope: &Envelope| {
        let payload = Payload::decode(envelope.payload.clone()).unwrap();
        let update = ConfigUpdateEnvelope::decode(payload.data.clone()).unwrap();
        (payload, update)
    };
    let (payload, mut update) = open(update);
    update.signatures = open(signed).1.signatures;
    let payload = Payload {
        data: update.encode_to_vec().into(),
        ..payload
    };
    Envelope {
        payload: payload.encode_to_vec().into(),
        signature: Bytes::new(),
    }
}

#[test]
fn modification_policies_are_relative_to_the_group_or_absolute() {
    let material = Material::new();
    let change = |mod_policy: &str, signers: &[&Member]| {
        let mut current = material.group();
        let orderer = tree::at(&mut current, &["Orderer"]);
        orderer.values.get_mut("BatchTimeout").unwrap().mod_policy = mod_policy.into();
        let mut next = current.clone();
        let timeout = BatchTimeout {
            timeout: "3s".into(),
        };
        tree::replace(tree::at(&mut next, &["Orderer"]), "BatchTimeout", &timeout);
        let block = material.update_block((0, &current), &next, signers);
        config(&material, &current).apply(&block).err()
    };
    let place = "value /Channel/Orderer/BatchTimeout";
    let peer = [&material.peer1];
    assert_eq!(change("/Channel/Application/Readers", &peer), None);
    assert_eq!(
        change("OrdererA-group/Readers", &[&material.orderers[2]]),
        None
    );
    let unknown = |name: &str| not_allowed(place, PolicyRefused::Unknown { path: name.into() });
    assert_eq!(
        change("Application/Readers", &peer),
        unknown("Application/Readers")
    );
    assert_eq!(
        change("/Application/Readers", &peer),
        unknown("/Application/Readers")
    );
    assert_eq!(change("Nothing", &peer), unknown("Nothing"));
    for bad in ["", "/", "Ad mins", "a//b", "Admins/"] {
        let mod_policy = bad.to_owned();
        let refused = UpdateRefused::ModPolicy {
            place: place.into(),
            mod_policy,
        };
        assert_eq!(change(bad, &peer), Some(refused), "'{bad}'");
    }
}

#[test]
fn the_transaction_is_signed_by_somebody_of_the_channel() {
    let material = Material::new();
    let (current, next) = (material.group(), with_anchors(&material));
    let before = config(&material, &current);
    let last_update =
        material::signed_update(&material::update(&current, &next), &[&material.admin1]);
    let envelope = ConfigEnvelope {
        config: Some(Config {
            sequence: 1,
            channel_group: Some(next),
        }),
        last_update: Some(last_update),
    };
    let by = |creator: &Member, alter: fn(&mut Envelope)| {
        let data = envelope.encode_to_vec();
        let transaction = material::transaction(HeaderType::Config, CHANNEL, creator, data);
        let mut transaction = Envelope::decode(transaction).unwrap();
        alter(&mut transaction);
        let transaction = transaction.encode_to_vec().into();
        before
            .apply(&material::block(1, &[], [transaction]).encode())
            .err()
    };
    assert_eq!(by(&material.orderers[1], |_| {}), None);
    let refused = |verdict: Option<UpdateRefused>| match verdict {
        Some(UpdateRefused::Envelope(refused)) => refused,
        other => panic!("{other:?}"),
    };
    let stranger = Organization::new("OrdererA").member("orderer0", "orderer");
    let verdict = refused(by(&stranger, |_| {}));
    assert!(matches!(verdict, EnvelopeRefused::Creator(_)), "{verdict}");
    let nobody = Organization::new("Org9").member("orderer0", "orderer");
    let verdict = refused(by(&nobody, |_| {}));
    assert!(matches!(verdict, EnvelopeRefused::Creator(_)), "{verdict}");
    // Recognised by its MSP, but without a role.
    let idle = material.orderer_a.member("somebody", "nothing");
    let verdict = refused(by(&idle, |_| {}));
    assert!(matches!(verdict, EnvelopeRefused::Creator(_)), "{verdict}");
    let verdict = refused(by(&material.orderers[1], |transaction| {
        transaction.signature = Bytes::from_static(b"noise");
    }));
    assert!(
        matches!(verdict, EnvelopeRefused::Signature(_)),
        "{verdict}"
    );
}
