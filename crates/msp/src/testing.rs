//! Certificates for tests: small organizations made on the spot.

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SerialNumber,
};
use tidings_proto::Message;
use tidings_proto::msp::{FabricMspConfig, FabricNodeOUs, FabricOuIdentifier, SerializedIdentity};

use crate::certificate::Certificate;
use crate::crypto::{PrivateKey, PublicKey};
use crate::der;

/// The algorithm identifier of ECDSA with SHA-256.
pub(crate) const ECDSA_SHA256: [u8; 12] = [
    0x30, 0x0a, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02,
];

/// A certificate and its key.
pub(crate) struct Made {
    pub(crate) params: CertificateParams,
    pub(crate) key: KeyPair,
    pub(crate) pem: String,
}

impl Made {
    /// A self-signed CA.
    pub(crate) fn root(name: &str) -> Self {
        let key = KeyPair::generate().expect("a key");
        Self::self_signed(ca_params(name), key)
    }

    /// Any self-signed certificate.
    pub(crate) fn self_signed(params: CertificateParams, key: KeyPair) -> Self {
        let pem = params.self_signed(&key).expect("a certificate").pem();
        Self { params, key, pem }
    }

    /// A CA below this one.
    pub(crate) fn intermediate(&self, name: &str) -> Self {
        self.issue(ca_params(name))
    }

    /// A member with organizational units.
    pub(crate) fn member(&self, name: &str, units: &[&str]) -> Self {
        self.issue(member_params(name, units))
    }

    /// Any certificate issued by this one.
    pub(crate) fn issue(&self, params: CertificateParams) -> Self {
        self.issue_for(params, KeyPair::generate().expect("a key"))
    }

    /// Any certificate issued by this one, for a key that exists.
    pub(crate) fn issue_for(&self, params: CertificateParams, key: KeyPair) -> Self {
        let issuer = Issuer::from_params(&self.params, &self.key);
        let pem = params
            .signed_by(&key, &issuer)
            .expect("a certificate")
            .pem();
        Self { params, key, pem }
    }

    pub(crate) fn certificate(&self) -> Certificate {
        Certificate::from_pem(self.pem.as_bytes()).expect("our own certificate")
    }

    pub(crate) fn private_key(&self) -> PrivateKey {
        PrivateKey::from_pem(self.key.serialize_pem().as_bytes()).expect("our own key")
    }

    pub(crate) fn serialized(&self, msp_id: &str) -> Vec<u8> {
        serialized(msp_id, self.pem.as_bytes())
    }
}

pub(crate) fn serialized(msp_id: &str, id_bytes: &[u8]) -> Vec<u8> {
    let id_bytes = id_bytes.to_vec().into();
    SerializedIdentity {
        mspid: msp_id.to_owned(),
        id_bytes,
    }
    .encode_to_vec()
}

pub(crate) fn ca_params(name: &str) -> CertificateParams {
    let mut params = member_params(name, &[]);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

/// A member as cryptogen makes one: not a CA, no alternative names, no extended key usage.
pub(crate) fn member_params(name: &str, units: &[&str]) -> CertificateParams {
    let mut params = CertificateParams::new(Vec::new()).expect("no names");
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    // A name here holds one attribute of each kind, and there are two spellings of this kind.
    assert!(units.len() <= 2, "no more than two organizational units");
    let spellings = [
        DnType::OrganizationalUnitName,
        DnType::CustomDnType(vec![2, 5, 4, 11]),
    ];
    for (unit, spelling) in units.iter().zip(spellings) {
        params.distinguished_name.push(spelling, *unit);
    }
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.use_authority_key_identifier_extension = true;
    params.not_before = rcgen::date_time_ymd(2026, 1, 1);
    params.not_after = rcgen::date_time_ymd(2036, 1, 1);
    params.serial_number = Some(SerialNumber::from_slice(&serial_of(name)));
    params
}

fn serial_of(name: &str) -> [u8; 8] {
    let hash = crate::crypto::sha256(name.as_bytes());
    let mut serial = [0x11; 8];
    serial[1..].copy_from_slice(&hash[..7]);
    serial
}

/// An organization with all four roles by organizational unit, vouched for by any CA.
pub(crate) fn config(msp_id: &str, roots: &[&Made]) -> FabricMspConfig {
    let unit = |name: &str| {
        let organizational_unit_identifier = name.to_owned();
        Some(FabricOuIdentifier {
            organizational_unit_identifier,
            ..Default::default()
        })
    };
    FabricMspConfig {
        name: msp_id.to_owned(),
        root_certs: roots.iter().map(|root| root.pem.clone().into()).collect(),
        fabric_node_ous: Some(FabricNodeOUs {
            enable: true,
            client_ou_identifier: unit("client"),
            peer_ou_identifier: unit("peer"),
            admin_ou_identifier: unit("admin"),
            orderer_ou_identifier: unit("orderer"),
        }),
        ..FabricMspConfig::default()
    }
}

/// A revocation list with exactly these parts, signed by `signer` with ECDSA and SHA-256.
pub(crate) fn crl(
    issuer_der: &[u8],
    authority_key_id: Option<&[u8]>,
    serials: &[&[u8]],
    signer: &PrivateKey,
) -> Vec<u8> {
    const TIME: &[u8] = b"\x17\x0d260201000000Z";
    let nested = |tag, content: &[u8]| {
        let mut out = Vec::new();
        der::write(tag, content, &mut out);
        out
    };
    let entries = serials.iter().flat_map(|serial| {
        let mut number = Vec::new();
        der::write_positive(serial, &mut number);
        nested(der::SEQUENCE, &[&number, TIME].concat())
    });
    let mut body = vec![0x02, 0x01, 0x01];
    body.extend_from_slice(&ECDSA_SHA256);
    body.extend_from_slice(issuer_der);
    body.extend_from_slice(TIME);
    body.extend_from_slice(&nested(der::SEQUENCE, &entries.collect::<Vec<_>>()));
    if let Some(id) = authority_key_id {
        let value = nested(der::SEQUENCE, &nested(0x80, id));
        let oid = [0x06, 0x03, 0x55, 0x1d, 0x23].as_slice();
        let one = nested(
            der::SEQUENCE,
            &[oid, &nested(der::OCTET_STRING, &value)].concat(),
        );
        body.extend_from_slice(&nested(0xa0, &nested(der::SEQUENCE, &one)));
    }
    let body = nested(der::SEQUENCE, &body);
    let signature = signer.sign(&body).expect("a signature");
    assemble(&body, &ECDSA_SHA256, &signature)
}

/// The other twin of an ECDSA signature on P-256.
pub(crate) fn twin(signature: &[u8]) -> Vec<u8> {
    let parts = crate::crypto::EcdsaParts::from_certificate(signature).expect("a signature");
    parts
        .twin(crate::crypto::Curve::P256)
        .expect("below the order")
}

pub(crate) fn public_key(hex_spki: &str) -> PublicKey {
    PublicKey::from_spki_der(&hex::decode(hex_spki).expect("hex")).expect("a key")
}

/// A certificate of these parts.
pub(crate) fn assemble(tbs: &[u8], algorithm: &[u8], signature: &[u8]) -> Vec<u8> {
    let mut content = [tbs, algorithm].concat();
    der::write(der::BIT_STRING, &[&[0], signature].concat(), &mut content);
    let mut out = Vec::new();
    der::write(der::SEQUENCE, &content, &mut out);
    out
}
