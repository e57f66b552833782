//! What is given to whom, and how much of it at a time.

use tidings_gossip::{
    Connection,
    id::{ConnectionId, Ticket},
    message::PrivateDigest,
};
use tidings_msp::policy::SignedDatum;
use tidings_proto::{
    gossip::{Envelope, GossipMessage, gossip_message::Content},
    protos::StaticCollectionConfig,
};

use super::{window::Writer, *};
use crate::{
    material::Member,
    private::{
        PrivateAsk, copy, for_client, response,
        serve::{Door, elements},
        to_go_along,
    },
};

/// Somebody at the other end of a stream, who has signed its handshake.
fn connection(scene: &Scene, member: &Member) -> Connection {
    let payload = Bytes::from_static(b"a handshake");
    Connection {
        id: ConnectionId(1),
        identity: scene.crypto.validate(&member.identity).unwrap(),
        handshake: Envelope {
            signature: member.sign(&payload),
            payload,
            ..Envelope::default()
        },
    }
}

fn digest(block: u64, collection: &str, tx_id: &str) -> PrivateDigest {
    PrivateDigest {
        block,
        seq_in_block: 0,
        namespace: CHAINCODE.to_owned(),
        collection: collection.to_owned(),
        tx_id: tx_id.to_owned(),
    }
}

/// What is answered: the digests as they came back, with their payloads.
fn asked(vault: &Vault, from: &Connection, digests: Vec<PrivateDigest>) -> Vec<(u64, Vec<Bytes>)> {
    let ask = PrivateAsk {
        ticket: Ticket(1),
        from: Arc::new(from.clone()),
        nonce: 7,
        digests: digests.clone(),
    };
    let envelope = response(vault, ask);
    let message: GossipMessage = prost::Message::decode(envelope.payload).unwrap();
    assert_eq!(
        (message.nonce, &message.channel[..]),
        (7, CHANNEL.as_bytes())
    );
    let Some(Content::PrivateRes(response)) = message.content else {
        panic!("a request is answered with something else");
    };
    let given = response.elements.into_iter().map(|element| {
        let echoed = element.digest.unwrap();
        let of = digests.iter().find(|each| echoed == (*each).clone().into());
        (of.expect("as it was asked for").block, element.payload)
    });
    given.collect()
}

/// A block of each of these texts in collection `one`, and then a definition that is no longer
/// for us, if it is to be.
fn holding<'a>(scene: &'a Scene, texts: &[&str], then: Option<&str>) -> Writer<'a> {
    scene.append(vec![scene.definition(1, &["one=Org1MSP"])]);
    let mut writer = Writer::new(scene);
    for text in texts {
        keep(&writer.vault, scene.pushed("one", text), &scene.member());
        writer.take(&scene.block(0, vec![scene.write("one", text)]));
        assert_eq!(writer.write().len(), 1);
    }
    if let Some(collection) = then {
        writer.take(&scene.block(0, vec![scene.definition(2, &[collection])]));
        assert_eq!(writer.write().len(), 1);
    }
    writer
}

fn withheld(vault: &Vault) -> u64 {
    let withheld = &vault.metrics.private_withheld;
    withheld.with_label_values(&[CHANNEL]).get()
}

fn went(vault: &Vault, way: &str) -> u64 {
    let given = &vault.metrics.private_given;
    given.with_label_values(&[CHANNEL, way]).get()
}

#[test]
fn members_are_given_what_is_there_with_their_digests_and_others_nothing() {
    let scene = Scene::new();
    let writer = holding(&scene, &["secret"], None);
    let vault = &writer.vault;
    keep(vault, scene.pushed("one", "later"), &scene.member());
    let later = scene.pushed("one", "later").tx_id;
    let digests = vec![
        digest(9, "one", &later),
        digest(2, "one", ""),
        digest(3, "one", ""),
        digest(2, "unknown", ""),
        digest(1, "one", ""),
    ];
    let member = connection(&scene, &scene.material.org1.member("other", "peer"));
    let given = [(9, vec!["later".into()]), (2, vec!["secret".into()])];
    assert_eq!(asked(vault, &member, digests.clone()), given);
    // Of a collection that nobody knows it is nobody's to have.
    assert_eq!((went(vault, "asked"), withheld(vault)), (2, 1));
    let stranger = connection(&scene, &scene.material.org2.member("other", "peer"));
    assert_eq!(asked(vault, &stranger, digests), []);
    assert_eq!((went(vault, "asked"), withheld(vault)), (2, 5));
    // The certificate of a member without its signature.
    let thief = Connection {
        handshake: stranger.handshake,
        ..member
    };
    assert_eq!(asked(vault, &thief, vec![digest(2, "one", "")]), []);
}

#[test]
fn data_of_an_older_definition_is_for_its_members_too_if_they_ask() {
    let scene = Scene::new();
    let writer = holding(&scene, &["secret"], Some("one=Org2MSP"));
    let vault = &writer.vault;
    let member = connection(&scene, &scene.material.org1.member("other", "peer"));
    let newcomer = connection(&scene, &scene.material.org2.member("other", "peer"));
    for peer in [&member, &newcomer] {
        assert_eq!(asked(vault, peer, vec![digest(2, "one", "")]).len(), 1);
    }
    // Nobody asked: as in Fabric the last definition counts alone.
    assert!(to_go_along(vault, &member, 2, 100).is_empty());
    assert_eq!(to_go_along(vault, &newcomer, 2, 100).len(), 1);
    assert_eq!((went(vault, "asked"), went(vault, "with block")), (2, 1));
}

#[test]
fn a_response_ends_when_it_is_enough_but_one_write_set_always_fits() {
    let scene = Scene::new();
    let writer = holding(&scene, &["0123456789", "abcdefghij"], None);
    let vault = &writer.vault;
    let member = connection(&scene, &scene.material.org1.member("other", "peer"));
    for (bytes_max, given) in [(20, 2), (19, 1), (10, 1), (1, 1)] {
        let elements = vault.with(|stores| {
            let mut door = Door::new(vault, stores, &member);
            door.bytes_max = bytes_max;
            let digests = vec![digest(2, "one", ""), digest(3, "one", "")];
            Ok(elements(&mut door, digests))
        });
        assert_eq!(elements.unwrap().len(), given, "{bytes_max} bytes");
    }
}

#[test]
fn what_goes_along_with_a_block_has_its_limit() {
    let scene = Scene::new();
    scene.append(vec![scene.definition(1, &["one=Org1MSP"])]);
    let mut writer = Writer::new(&scene);
    let texts = ["0123456789", "abcdefghij"];
    for text in texts {
        keep(&writer.vault, scene.pushed("one", text), &scene.member());
    }
    writer.take(&scene.block(0, texts.map(|text| scene.write("one", text)).to_vec()));
    assert_eq!(writer.write(), [2]);
    let member = connection(&scene, &scene.material.org1.member("other", "peer"));
    for (bytes_max, given) in [(20, 2), (19, 1), (10, 1), (9, 0)] {
        let along = to_go_along(&writer.vault, &member, 2, bytes_max);
        assert_eq!(copy::came_along(&along).len(), given, "{bytes_max} bytes");
    }
    assert_eq!(went(&writer.vault, "with block"), 4);
}

/// A client's signature, as a request for blocks bears it.
fn signed(member: &Member) -> SignedDatum<'_> {
    let message: &[u8] = b"a request for blocks";
    SignedDatum {
        message: message.into(),
        identity: member.identity.as_ref().into(),
        signature: member.sign(message).to_vec().into(),
    }
}

/// The collections of which a client has data of a block.
fn read_by(scene: &Scene, vault: &Vault, client: &SignedDatum<'_>, block: u64) -> Vec<String> {
    let config = scene.crypto.config(&ChannelId::from(CHANNEL)).unwrap();
    let given = for_client(vault, &config, client, block).unwrap();
    let namespaces = given.into_values().flat_map(|sets| sets.ns_pvt_rwset);
    let sets = namespaces.flat_map(|namespace| namespace.collection_pvt_rwset);
    sets.map(|set| set.collection_name).collect()
}

/// A definition of collection `one` with that number, and who agreed to it.
fn definition(scene: &Scene, number: i64, member_only_read: bool, by: &[&Member]) -> Bytes {
    let package = draft::package(&[StaticCollectionConfig {
        member_only_read,
        ..draft::collection("one", &["Org1MSP"])
    }]);
    let writes = match number {
        1 => draft::first(CHAINCODE, &package),
        _ => draft::next(CHAINCODE, number, &package),
    };
    let draft = draft::Draft::of(writes);
    let members: Vec<&Member> = by.to_vec();
    draft.by(&scene.material.admin1, &members).envelope()
}

fn take(scene: &Scene, writer: &mut Writer<'_>, transaction: Bytes) {
    writer.take(&scene.block(0, vec![transaction]));
    assert_eq!(writer.write().len(), 1);
}

fn take_secret(scene: &Scene, writer: &mut Writer<'_>, text: &str) {
    keep(&writer.vault, scene.pushed("one", text), &scene.member());
    take(scene, writer, scene.write("one", text));
}

#[test]
fn clients_read_what_the_definition_of_the_block_lets_them_read() {
    let scene = Scene::new();
    let both = [&scene.material.peer1, &scene.material.peer2];
    scene.append(vec![definition(&scene, 1, true, &both)]);
    let mut writer = Writer::new(&scene);
    take_secret(&scene, &mut writer, "for members");
    take(&scene, &mut writer, definition(&scene, 2, false, &both));
    take_secret(&scene, &mut writer, "for readers");
    let member = scene.material.org1.member("app", "client");
    let other = scene.material.org2.member("app", "client");
    let thief = SignedDatum {
        signature: signed(&other).signature,
        ..signed(&member)
    };
    let vault = &writer.vault;
    let reads =
        |client: &SignedDatum<'_>| [2, 4].map(|block| read_by(&scene, vault, client, block).len());
    assert_eq!(reads(&signed(&member)), [1, 1]);
    assert_eq!(reads(&signed(&other)), [0, 1]);
    // Whoever asks is a reader of the channel: that was checked before.
    assert_eq!(reads(&thief), [0, 1]);
    assert_eq!(read_by(&scene, vault, &signed(&member), 2), ["one"]);
}
