//! What a configuration may say of an organization.

use super::*;

#[test]
fn anchors_that_nobody_could_reach_are_left_out() {
    let anchors = [("", 7051), ("a", 0), ("b", -1), ("c", 65536), ("d", 7051)];
    let config = accept(|material, root| {
        let group = tree::at(root, &["Application", &material.org1.key]);
        tree::put(group, "AnchorPeers", &tree::anchors(&anchors));
    });
    let anchors = &config.application_organizations()["Org1-group"].anchors;
    assert_eq!(
        anchors[..],
        [AnchorPeer {
            host: "d".into(),
            port: 7051
        }]
    );
}

#[test]
fn nt_3_8_msp_with_two_contents_is_refused() {
    check(
        |material, root| {
            // The second organization claims the first one's name with its own authority.
            let mut stolen = material.org2.msp();
            stolen.name = material.org1.msp_id.clone();
            let group = tree::at(root, &["Application", &material.org2.key]);
            tree::put(group, "MSP", &tree::msp(&stolen));
        },
        "MSP Org1MSP is defined twice with different content",
    );
    // An organization that runs peers and orderers is one organization.
    accept(|material, root| {
        let group = tree::at(root, &["Application", &material.org2.key]);
        tree::put(group, "MSP", &tree::msp(&material.orderer_a.msp()));
    });
}

#[test]
fn nt_3_8_org_with_empty_msp_id_is_refused() {
    check(
        |material, root| {
            let mut nameless = material.org1.msp();
            nameless.name.clear();
            let group = tree::at(root, &["Application", &material.org1.key]);
            tree::put(group, "MSP", &tree::msp(&nameless));
        },
        "MSP of /Channel/Application/Org1-group has an empty id",
    );
    // The same holds for an organization that is only announced.
    check(
        |material, root| {
            let group = tree::at(root, &["Application", &material.org1.key]);
            group.values.remove("MSP");
        },
        "MSP of /Channel/Application/Org1-group has an empty id",
    );
}

#[test]
fn an_msp_that_cannot_be_set_up_is_refused() {
    let material = Material::new();
    let mut group = material.group();
    let mut rootless = material.org1.msp();
    rootless.root_certs.clear();
    let organization = tree::at(&mut group, &["Application", &material.org1.key]);
    tree::put(organization, "MSP", &tree::msp(&rootless));
    let refused = read(&material, group).map(|_| ()).unwrap_err();
    assert!(
        matches!(&refused, ConfigRefused::Msp { path, .. } if path.ends_with("/Org1-group")),
        "{refused}"
    );
    check(
        |material, root| {
            let group = tree::at(root, &["Application", &material.org1.key]);
            let mut idemix = tree::msp(&material.org1.msp());
            idemix.r#type = 1;
            tree::put(group, "MSP", &idemix);
        },
        "MSP of /Channel/Application/Org1-group has type 1; only type 0 (X.509) is supported",
    );
}
