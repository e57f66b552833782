//! An organization that is in nobody's genesis block: its keys, its part of the configuration, a
//! Go peer of it and a node of ours.

use std::{
    env,
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use serde_json::Value;

use crate::{
    fabnet::{CHANNEL, Fabnet, GoPeer, pki},
    node::Node,
    wait::until,
};

const DOMAIN: &str = "org3.test";

/// A Go peer on a busy machine.
const START_TIME_MAX: Duration = Duration::from_secs(60);

/// The third organization.
pub(crate) struct Newcomers {
    home: PathBuf,
    /// Its Go peer.
    pub(crate) peer: GoPeer,
    child: Option<Child>,
    /// Our node of it.
    pub(crate) node: Node,
}

impl Newcomers {
    /// Makes keys for two peers. Nothing runs yet.
    pub(crate) fn make(network: &Fabnet) -> Self {
        let home = network.home().join("org3");
        fs::create_dir_all(&home).unwrap();
        let sans = "SANS: [localhost, 127.0.0.1]";
        let spec = format!(
            "PeerOrgs:\n  - {{Name: Org3, Domain: {DOMAIN}, EnableNodeOUs: true, \
             Users: {{Count: 1}}, Template: {{Count: 2, {sans}}}}}\n"
        );
        fs::write(home.join("crypto.yaml"), spec).unwrap();
        let (spec, crypto) = (text(&home.join("crypto.yaml")), text(&home.join("crypto")));
        let make = ["generate", "--config", &spec, "--output", &crypto];
        network.program("Org1", "cryptogen", &make);
        let endpoint = |number: u16| format!("127.0.0.1:{}", network.port(300 + 10 * number));
        let identity = |number: u16| identity(&home, number);
        let peer = GoPeer {
            name: "org3-peer0".to_owned(),
            org: "Org3".to_owned(),
            endpoint: endpoint(0),
            operations: format!("127.0.0.1:{}", network.port(302)),
            pki: pki("Org3MSP", &identity(0).join("msp")),
            log: home.join("peer.log"),
        };
        let node = {
            let config = network.config_dir("org1-peer0");
            let mut node = Node::new(
                "org3-extra0",
                &home.join("ours"),
                &config,
                &endpoint(1),
                CHANNEL,
            );
            node.pki = pki("Org3MSP", &identity(1).join("msp"));
            for (variable, value) in variables(&identity(1)) {
                node.set(variable, value);
            }
            node.set("CORE_PEER_GOSSIP_BOOTSTRAP", endpoint(0));
            node
        };
        Self {
            home,
            peer,
            child: None,
            node,
        }
    }

    /// What stands of it in a channel's configuration.
    pub(crate) fn definition(&self, network: &Fabnet) -> Value {
        let msp = text(
            &self
                .home
                .join("crypto/peerOrganizations")
                .join(DOMAIN)
                .join("msp"),
        );
        let rule = |roles: &[&str]| {
            let roles: Vec<_> = roles
                .iter()
                .map(|role| format!("'Org3MSP.{role}'"))
                .collect();
            format!("{{Type: Signature, Rule: \"OR({})\"}}", roles.join(","))
        };
        let spec = format!(
            "Organizations:\n  - {{Name: Org3, ID: Org3MSP, MSPDir: \"{msp}\", Policies: {{Readers: {}, \
             Writers: {}, Admins: {}, Endorsement: {}}}}}\n",
            rule(&["member"]),
            rule(&["admin", "client"]),
            rule(&["admin"]),
            rule(&["peer"]),
        );
        fs::write(self.home.join("configtx.yaml"), spec).unwrap();
        let print = ["-configPath", &text(&self.home), "-printOrg", "Org3"];
        serde_json::from_slice(&network.program("Org1", "configtxgen", &print)).unwrap()
    }

    /// Starts the Go peer and has it join by the genesis block.
    #[track_caller]
    pub(crate) fn start_peer(&mut self, network: &Fabnet) {
        let log = File::create(&self.peer.log).unwrap();
        let (host, port) = self.peer.endpoint.rsplit_once(':').unwrap();
        let port: u16 = port.parse().unwrap();
        let chaincode = format!("{host}:{}", port + 1);
        let program = Path::new(&env::var_os("FABRIC_BIN").unwrap()).join("peer");
        let child = Command::new(&program)
            .args(["node", "start"])
            .current_dir(&self.home)
            .env("FABRIC_CFG_PATH", network.config_dir("org1-peer0"))
            .env("CORE_PEER_ID", &self.peer.name)
            .env("CORE_PEER_ADDRESS", &self.peer.endpoint)
            .env("CORE_PEER_LISTENADDRESS", &self.peer.endpoint)
            .env("CORE_PEER_GOSSIP_ENDPOINT", &self.peer.endpoint)
            .env("CORE_PEER_GOSSIP_EXTERNALENDPOINT", &self.peer.endpoint)
            .env("CORE_PEER_GOSSIP_BOOTSTRAP", &self.peer.endpoint)
            .env("CORE_PEER_CHAINCODELISTENADDRESS", &chaincode)
            .env("CORE_PEER_CHAINCODEADDRESS", &chaincode)
            .env("CORE_PEER_FILESYSTEMPATH", self.home.join("data"))
            .env("CORE_LEDGER_SNAPSHOTS_ROOTDIR", self.home.join("snapshots"))
            .env("CORE_OPERATIONS_LISTENADDRESS", &self.peer.operations)
            .envs(variables(&identity(&self.home, 0)))
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        self.child = Some(child);
        let users = self
            .home
            .join("crypto/peerOrganizations")
            .join(DOMAIN)
            .join("users");
        let admin = users.join(format!("Admin@{DOMAIN}")).join("msp");
        until("the newcomers' Go peer joins", START_TIME_MAX, || {
            let joined = Command::new(&program)
                .args(["channel", "join", "-b", &text(&network.genesis())])
                .env("FABRIC_CFG_PATH", network.config_dir("org1-peer0"))
                .env("CORE_PEER_ADDRESS", &self.peer.endpoint)
                .envs(variables(&identity(&self.home, 0)))
                .env("CORE_PEER_MSPCONFIGPATH", &admin)
                .output()
                .unwrap();
            joined.status.success().then_some(())
        });
    }
}

impl Drop for Newcomers {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn identity(home: &Path, number: u16) -> PathBuf {
    let peers = home
        .join("crypto/peerOrganizations")
        .join(DOMAIN)
        .join("peers");
    peers.join(format!("peer{number}.{DOMAIN}"))
}

/// What makes a program act as one of the organization's peers.
fn variables(identity: &Path) -> [(&'static str, String); 5] {
    let tls = |file: &str| text(&identity.join("tls").join(file));
    [
        ("CORE_PEER_LOCALMSPID", "Org3MSP".to_owned()),
        ("CORE_PEER_MSPCONFIGPATH", text(&identity.join("msp"))),
        ("CORE_PEER_TLS_CERT_FILE", tls("server.crt")),
        ("CORE_PEER_TLS_KEY_FILE", tls("server.key")),
        ("CORE_PEER_TLS_ROOTCERT_FILE", tls("ca.crt")),
    ]
}

fn text(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}
