//! Certificates for tests. Made anew in each run; nothing depends on their bytes.

use std::time::SystemTime;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, IsCa, KeyPair,
    KeyUsagePurpose,
};

use crate::tls::{Tls, TlsSettings};

/// A certificate and its key, in PEM.
#[derive(Clone)]
pub(crate) struct Pair {
    pub(crate) certificate: Vec<u8>,
    pub(crate) key: Vec<u8>,
}

/// An authority for TLS certificates.
pub(crate) struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    pub(crate) fn new(name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        Self {
            issuer: CertifiedIssuer::self_signed(authority(name), key).unwrap(),
        }
    }

    /// The root, in PEM.
    pub(crate) fn root(&self) -> Vec<u8> {
        self.issuer.pem().into_bytes()
    }

    /// A certificate for a host name or address.
    pub(crate) fn issue(&self, host: &str) -> Pair {
        self.issue_until(host, 4000)
    }

    /// A certificate that ends with the start of a year.
    pub(crate) fn issue_until(&self, host: &str, year: i32) -> Pair {
        let mut params = CertificateParams::new(vec![host.to_owned()]).unwrap();
        params.not_after = rcgen::date_time_ymd(year, 1, 1);
        self.sign(host, params)
    }

    /// A certificate that is good from the start of a year on.
    pub(crate) fn issue_from(&self, host: &str, year: i32) -> Pair {
        let mut params = CertificateParams::new(vec![host.to_owned()]).unwrap();
        params.not_before = rcgen::date_time_ymd(year, 1, 1);
        self.sign(host, params)
    }

    /// A certificate by an authority that this one vouches for, followed by that one's; and the key.
    pub(crate) fn issue_through(&self, intermediate: &str, host: &str) -> (Vec<u8>, Vec<u8>) {
        let key = KeyPair::generate().unwrap();
        let params = authority(intermediate);
        let between = Self {
            issuer: CertifiedIssuer::signed_by(params, key, &self.issuer).unwrap(),
        };
        let leaf = between.issue(host);
        let chain = [leaf.certificate, between.root()].concat();
        (chain, leaf.key)
    }

    fn sign(&self, host: &str, mut params: CertificateParams) -> Pair {
        params.distinguished_name = named(host);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Pair {
            certificate: certificate.pem().into(),
            key: key.serialize_pem().into(),
        }
    }

    /// Settings with one pair for both roles.
    pub(crate) fn settings(&self, host: &str) -> TlsSettings {
        let pair = self.issue(host);
        TlsSettings {
            certificate: pair.certificate,
            key: pair.key,
            roots: vec![self.root()],
            ..TlsSettings::default()
        }
    }

    /// The TLS of a node with a certificate for each role, which tells the roles apart (C-G1).
    pub(crate) fn tls(&self, host: &str) -> Tls {
        let client = self.issue(&format!("client-of-{host}"));
        let settings = TlsSettings {
            client_certificate: Some(client.certificate),
            client_key: Some(client.key),
            ..self.settings(host)
        };
        Tls::new(&settings, SystemTime::now()).unwrap()
    }
}

fn authority(name: &str) -> CertificateParams {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name = named(name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![
        KeyUsagePurpose::KeyCertSign,
        KeyUsagePurpose::DigitalSignature,
    ];
    params
}

/// A certificate that nobody vouches for.
pub(crate) fn self_signed(host: &str) -> Pair {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec![host.to_owned()]).unwrap();
    params.distinguished_name = named(host);
    let certificate = params.self_signed(&key).unwrap();
    Pair {
        certificate: certificate.pem().into(),
        key: key.serialize_pem().into(),
    }
}

fn named(name: &str) -> DistinguishedName {
    let mut distinguished = DistinguishedName::new();
    distinguished.push(DnType::CommonName, name);
    distinguished
}
