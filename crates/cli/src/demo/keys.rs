//! The keys and certificates of a demo network, laid out in folders as cryptogen does it.
//!
//! Promises: every certificate is P-256, signed with a low S, carries its role in the OU, and
//! stands in the file where a Fabric program would look for it. An existing file is never
//! overwritten. Knows nothing of channels, ports or blocks.

use std::fs;
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rcgen::{
    BasicConstraints, Certificate, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PublicKeyData, SanType,
    SignatureAlgorithm, SigningKey,
};
use time::{Duration, OffsetDateTime};

/// As long as cryptogen's: nobody renews a demo.
const VALIDITY: Duration = Duration::days(3650);

/// Certificates begin a little in the past, so that a node whose clock is behind takes them.
const BACKDATE: Duration = Duration::minutes(5);

/// A fresh signature has a low S in every second try; 128 misses in a row do not happen.
const SIGN_TRIES_MAX: usize = 128;

/// Half of the order of P-256: the largest S that Fabric takes.
const P256_HALF_ORDER: [u8; 32] = [
    0x7f, 0xff, 0xff, 0xff, 0x80, 0x00, 0x00, 0x00, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
    0xde, 0x73, 0x7d, 0x56, 0xd3, 0x8b, 0xcf, 0x42, 0x79, 0xdc, 0xe5, 0x61, 0x7e, 0x31, 0x92, 0xa8,
];

/// What an organization does on the channel; decides the folder and the role of its nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Runs peers.
    Peers,
    /// Runs orderers.
    Orderers,
}

impl Kind {
    /// The folder of all organizations of the kind, below `crypto`.
    pub(crate) fn folder(self) -> &'static str {
        match self {
            Self::Peers => "peerOrganizations",
            Self::Orderers => "ordererOrganizations",
        }
    }

    /// The folder of the nodes, below the organization.
    pub(crate) fn nodes(self) -> &'static str {
        match self {
            Self::Peers => "peers",
            Self::Orderers => "orderers",
        }
    }

    fn role(self) -> &'static str {
        match self {
            Self::Peers => "peer",
            Self::Orderers => "orderer",
        }
    }
}

/// One organization whose keys are to be made.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// Peers or orderers.
    pub(crate) kind: Kind,
    /// The domain, which names its folder: `org1.demo`.
    pub(crate) domain: String,
    /// Host names of its nodes without the domain: `peer0`.
    pub(crate) hosts: Vec<String>,
}

/// Makes all keys of one organization below `crypto`.
pub(crate) fn make(crypto: &Path, plan: &Plan) -> Result<()> {
    let root = crypto.join(plan.kind.folder()).join(&plan.domain);
    let org = Authorities::make(&root, &plan.domain)?;
    org.write_msp(&root.join("msp"))?;
    for host in &plan.hosts {
        let name = format!("{host}.{}", plan.domain);
        let folder = root.join(plan.kind.nodes()).join(&name);
        org.write_member(&folder, &name, plan.kind.role(), TlsUse::Server(host))?;
    }
    let users: &[(&str, &str)] = match plan.kind {
        Kind::Peers => &[("Admin", "admin"), ("User1", "client")],
        Kind::Orderers => &[("Admin", "admin")],
    };
    for (user, role) in users {
        let name = format!("{user}@{}", plan.domain);
        org.write_member(&root.join("users").join(&name), &name, role, TlsUse::Client)?;
    }
    Ok(())
}

/// What a TLS certificate is shown as; decides file names and alternative names.
#[derive(Clone, Copy)]
enum TlsUse<'a> {
    /// By a node under its host name.
    Server(&'a str),
    /// By a user.
    Client,
}

/// The two certificate authorities of an organization.
struct Authorities {
    domain: String,
    identities: Authority,
    tls: Authority,
}

impl Authorities {
    fn make(root: &Path, domain: &str) -> Result<Self> {
        let identities = Authority::make(&format!("ca.{domain}"), domain)?;
        let tls = Authority::make(&format!("tlsca.{domain}"), domain)?;
        identities.write(&root.join("ca"))?;
        tls.write(&root.join("tlsca"))?;
        Ok(Self {
            domain: domain.to_owned(),
            identities,
            tls,
        })
    }

    /// The verifying MSP: what others need to judge members.
    fn write_msp(&self, folder: &Path) -> Result<()> {
        write(
            &folder.join("cacerts").join(self.identities.file()),
            &self.identities.pem,
        )?;
        write(
            &folder.join("tlscacerts").join(self.tls.file()),
            &self.tls.pem,
        )?;
        write(
            &folder.join("config.yaml"),
            &node_ous(&self.identities.file()),
        )
    }

    /// The folders of one node or user: `msp` with its key, `tls` with another.
    fn write_member(&self, folder: &Path, name: &str, role: &str, tls: TlsUse<'_>) -> Result<()> {
        let msp = folder.join("msp");
        self.write_msp(&msp)?;
        let key = new_key()?;
        let cert = self
            .identities
            .issue(&identity_params(name, role, &self.domain), &key)?;
        write(
            &msp.join("signcerts").join(format!("{name}-cert.pem")),
            &cert.pem(),
        )?;
        write_secret(&msp.join("keystore").join("priv_sk"), &key.serialize_pem())?;

        let (stem, alternatives) = match tls {
            TlsUse::Server(host) => ("server", vec![name, host, "localhost"]),
            TlsUse::Client => ("client", Vec::new()),
        };
        let key = new_key()?;
        let cert = self
            .tls
            .issue(&tls_params(name, &self.domain, &alternatives)?, &key)?;
        let tls = folder.join("tls");
        write(&tls.join("ca.crt"), &self.tls.pem)?;
        write(&tls.join(format!("{stem}.crt")), &cert.pem())?;
        write_secret(&tls.join(format!("{stem}.key")), &key.serialize_pem())
    }
}

/// A self-signed certificate authority.
struct Authority {
    name: String,
    params: CertificateParams,
    key: LowS,
    pem: String,
}

impl Authority {
    fn make(name: &str, domain: &str) -> Result<Self> {
        let mut params = params(name, domain);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![
            KeyUsagePurpose::DigitalSignature,
            KeyUsagePurpose::KeyEncipherment,
            KeyUsagePurpose::KeyCertSign,
            KeyUsagePurpose::CrlSign,
        ];
        let key = LowS(new_key()?);
        let pem = params
            .self_signed(&key)
            .context("sign a CA certificate")?
            .pem();
        Ok(Self {
            name: name.to_owned(),
            params,
            key,
            pem,
        })
    }

    fn file(&self) -> PathBuf {
        PathBuf::from(format!("{}-cert.pem", self.name))
    }

    fn write(&self, folder: &Path) -> Result<()> {
        write(&folder.join(self.file()), &self.pem)?;
        write_secret(&folder.join("priv_sk"), &self.key.0.serialize_pem())
    }

    fn issue(&self, params: &CertificateParams, key: &KeyPair) -> Result<Certificate> {
        let issuer = Issuer::from_params(&self.params, &self.key);
        params.signed_by(key, &issuer).context("sign a certificate")
    }
}

/// Signs until S is low: Fabric normalises other certificates before it hashes or compares
/// them, so only these have one form everywhere.
struct LowS(KeyPair);

impl PublicKeyData for LowS {
    fn der_bytes(&self) -> &[u8] {
        self.0.der_bytes()
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        self.0.algorithm()
    }
}

impl SigningKey for LowS {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        for _ in 0..SIGN_TRIES_MAX {
            let signature = self.0.sign(message)?;
            if s_is_low(&signature) {
                return Ok(signature);
            }
        }
        Err(rcgen::Error::RemoteKeyError)
    }
}

/// Whether the second integer of a P-256 signature in DER is at most half of the order. Only
/// for signatures that our own library made, which are well formed.
fn s_is_low(signature: &[u8]) -> bool {
    let integer = |bytes: &[u8]| -> Option<(Vec<u8>, usize)> {
        let [0x02, len, rest @ ..] = bytes else {
            return None;
        };
        let len = usize::from(*len);
        let digits: Vec<u8> = rest
            .get(..len)?
            .iter()
            .copied()
            .skip_while(|b| *b == 0)
            .collect();
        Some((digits, 2 + len))
    };
    let Some((_, used)) = signature.get(2..).and_then(integer) else {
        return false;
    };
    let Some((s, _)) = signature.get(2 + used..).and_then(integer) else {
        return false;
    };
    s.len() < P256_HALF_ORDER.len()
        || (s.len() == P256_HALF_ORDER.len() && s.as_slice() <= P256_HALF_ORDER.as_slice())
}

fn new_key() -> Result<KeyPair> {
    KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).context("generate a key")
}

fn params(name: &str, domain: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.not_before = OffsetDateTime::now_utc() - BACKDATE;
    params.not_after = params.not_before + VALIDITY;
    params.use_authority_key_identifier_extension = true;
    let subject = &mut params.distinguished_name;
    *subject = rcgen::DistinguishedName::new();
    subject.push(DnType::OrganizationName, domain);
    subject.push(DnType::CommonName, name);
    params
}

/// An identity: no extended key usage, since Fabric would judge it by the rules of servers.
fn identity_params(name: &str, role: &str, domain: &str) -> CertificateParams {
    let mut params = params(name, domain);
    params
        .distinguished_name
        .push(DnType::OrganizationalUnitName, role);
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params
}

fn tls_params(name: &str, domain: &str, alternatives: &[&str]) -> Result<CertificateParams> {
    let mut params = params(name, domain);
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![
        KeyUsagePurpose::DigitalSignature,
        KeyUsagePurpose::KeyEncipherment,
    ];
    params.extended_key_usages = vec![
        ExtendedKeyUsagePurpose::ServerAuth,
        ExtendedKeyUsagePurpose::ClientAuth,
    ];
    for alternative in alternatives {
        let name = (*alternative)
            .try_into()
            .context("a host name for a certificate")?;
        params.subject_alt_names.push(SanType::DnsName(name));
    }
    if !alternatives.is_empty() {
        params
            .subject_alt_names
            .push(SanType::IpAddress(IpAddr::V4(Ipv4Addr::LOCALHOST)));
    }
    Ok(params)
}

/// `config.yaml` of an MSP whose CA `file` certifies all four roles.
fn node_ous(file: &Path) -> String {
    let mut text = String::from("NodeOUs:\n    Enable: true\n");
    for (key, role) in [
        ("ClientOUIdentifier", "client"),
        ("PeerOUIdentifier", "peer"),
        ("AdminOUIdentifier", "admin"),
        ("OrdererOUIdentifier", "orderer"),
    ] {
        text.push_str(&format!(
            "    {key}:\n        Certificate: cacerts/{}\n        \
             OrganizationalUnitIdentifier: {role}\n",
            file.display()
        ));
    }
    text
}

fn write(path: &Path, text: &str) -> Result<()> {
    create(path, text, 0o644)
}

fn write_secret(path: &Path, text: &str) -> Result<()> {
    create(path, text, 0o600)
}

fn create(path: &Path, text: &str, mode: u32) -> Result<()> {
    let folder = path
        .parent()
        .expect("every path here lies below the folder of the demo");
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, mode);
    #[cfg(not(unix))]
    let _ = mode;
    options
        .open(path)
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn plan(kind: Kind, domain: &str, hosts: &[&str]) -> Plan {
        Plan {
            kind,
            domain: domain.into(),
            hosts: hosts.iter().map(|h| (*h).into()).collect(),
        }
    }

    fn files(root: &Path) -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        let mut open = vec![root.to_owned()];
        while let Some(folder) = open.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    open.push(path);
                } else {
                    found.insert(path.strip_prefix(root).unwrap().display().to_string());
                }
            }
        }
        found
    }

    #[test]
    fn the_layout_is_that_of_cryptogen() {
        let dir = tempfile::tempdir().unwrap();
        make(
            dir.path(),
            &plan(
                Kind::Peers,
                "org1.test",
                &["peer0", "peer1", "peer2", "peer3"],
            ),
        )
        .unwrap();
        make(
            dir.path(),
            &plan(Kind::Orderers, "orderer.test", &["orderer"]),
        )
        .unwrap();
        let made = files(dir.path());
        for file in [
            "peerOrganizations/org1.test/ca/ca.org1.test-cert.pem",
            "peerOrganizations/org1.test/tlsca/priv_sk",
            "peerOrganizations/org1.test/msp/config.yaml",
            "peerOrganizations/org1.test/peers/peer0.org1.test/msp/signcerts/peer0.org1.test-cert.pem",
            "peerOrganizations/org1.test/peers/peer0.org1.test/msp/keystore/priv_sk",
            "peerOrganizations/org1.test/peers/peer0.org1.test/tls/server.crt",
            "peerOrganizations/org1.test/users/User1@org1.test/tls/client.key",
            "ordererOrganizations/orderer.test/orderers/orderer.orderer.test/tls/ca.crt",
        ] {
            assert!(made.contains(file), "{file} is missing in {made:#?}");
        }

        let shared = Path::new(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../../../shared/fixtures/crypto"
        ));
        if !shared.exists() {
            let _ = Write::write_fmt(
                &mut std::io::stderr(),
                format_args!(
                    "SKIPPED: ../shared is not here: layout compared with real cryptogen output\n"
                ),
            );
            return;
        }
        let real: BTreeSet<String> = files(shared)
            .into_iter()
            .filter(|file| !file.contains("org2"))
            .collect();
        assert_eq!(made, real);
    }

    #[test]
    fn a_second_run_never_replaces_a_key() {
        let dir = tempfile::tempdir().unwrap();
        let plan = plan(Kind::Orderers, "orderer.test", &["orderer"]);
        make(dir.path(), &plan).unwrap();
        let key = dir
            .path()
            .join("ordererOrganizations/orderer.test/ca/priv_sk");
        let before = fs::read(&key).unwrap();
        let error = format!("{:#}", make(dir.path(), &plan).unwrap_err());
        assert!(error.contains("cannot write"), "{error}");
        assert_eq!(fs::read(&key).unwrap(), before);
    }

    #[cfg(unix)]
    #[test]
    fn only_the_owner_reads_private_keys() {
        use std::os::unix::fs::PermissionsExt;

        let dir = tempfile::tempdir().unwrap();
        make(
            dir.path(),
            &plan(Kind::Orderers, "orderer.test", &["orderer"]),
        )
        .unwrap();
        for file in files(dir.path()) {
            if file.ends_with("priv_sk") || file.ends_with(".key") {
                let mode = fs::metadata(dir.path().join(&file))
                    .unwrap()
                    .permissions()
                    .mode();
                assert_eq!(mode & 0o077, 0, "{file} is readable by others");
            }
        }
    }

    #[test]
    fn all_signatures_of_an_authority_have_a_low_s() {
        let key = LowS(new_key().unwrap());
        for round in 0..64_u8 {
            assert!(s_is_low(&key.sign(&[round]).unwrap()));
        }
    }

    #[test]
    fn s_is_compared_with_half_the_order() {
        let signature = |s: &[u8]| {
            let mut der = vec![
                0x30,
                0,
                0x02,
                0x01,
                0x05,
                0x02,
                u8::try_from(s.len()).unwrap(),
            ];
            der.extend_from_slice(s);
            der
        };
        let mut above = P256_HALF_ORDER;
        above[31] += 1;
        let padded = [&[0_u8][..], &[0xff; 32]].concat();
        assert!(s_is_low(&signature(&P256_HALF_ORDER)));
        assert!(!s_is_low(&signature(&above)));
        assert!(!s_is_low(&signature(&padded)));
        assert!(s_is_low(&signature(&[1])));
        assert!(!s_is_low(&[0x30]));
    }
}
