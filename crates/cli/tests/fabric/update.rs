//! Config updates as administrators make them: fetch, change, compute, sign, submit.

use std::fs;

use serde_json::{Value, json};

use crate::fabnet::{CHANNEL, Fabnet};

impl Fabnet {
    /// Changes the channel's configuration, in its JSON form, with the signatures of these
    /// organizations' administrators.
    #[track_caller]
    pub(crate) fn reconfigure(&self, signers: &[&str], change: impl FnOnce(&mut Value)) {
        let work = tempfile::tempdir_in(self.home()).unwrap();
        let at = |name: &str| work.path().join(name).to_str().unwrap().to_owned();
        let (last, others) = signers.split_last().unwrap();
        let code = |action: &str, kind: &str, from: &str, to: &str| {
            let kind = format!("--type={kind}");
            let (from, to) = (
                format!("--input={}", at(from)),
                format!("--output={}", at(to)),
            );
            self.program(last, "configtxlator", &[action, &kind, &from, &to]);
        };
        let read =
            |name: &str| -> Value { serde_json::from_slice(&fs::read(at(name)).unwrap()).unwrap() };
        let write = |name: &str, value: &Value| fs::write(at(name), value.to_string()).unwrap();

        let block = at("block.pb");
        let fetch = ["channel", "fetch", "config", &block, "-c", CHANNEL];
        self.program(last, "peer", &[&fetch[..], &self.to_orderer()].concat());
        code("proto_decode", "common.Block", "block.pb", "block.json");
        let mut config = read("block.json")["data"]["data"][0]["payload"]["data"]["config"].take();
        write("old.json", &config);
        change(&mut config);
        write("new.json", &config);
        code("proto_encode", "common.Config", "old.json", "old.pb");
        code("proto_encode", "common.Config", "new.json", "new.pb");
        let channel = format!("--channel_id={CHANNEL}");
        let old = format!("--original={}", at("old.pb"));
        let new = format!("--updated={}", at("new.pb"));
        let update = format!("--output={}", at("update.pb"));
        self.program(
            last,
            "configtxlator",
            &["compute_update", &channel, &old, &new, &update],
        );
        code(
            "proto_decode",
            "common.ConfigUpdate",
            "update.pb",
            "update.json",
        );
        let envelope = json!({"payload": {
            "header": {"channel_header": {"channel_id": CHANNEL, "type": 2}},
            "data": {"config_update": read("update.json")},
        }});
        write("envelope.json", &envelope);
        code(
            "proto_encode",
            "common.Envelope",
            "envelope.json",
            "envelope.pb",
        );
        let envelope = at("envelope.pb");
        for signer in others {
            self.program(
                signer,
                "peer",
                &["channel", "signconfigtx", "-f", &envelope],
            );
        }
        let submit = ["channel", "update", "-c", CHANNEL, "-f", &envelope];
        self.program(last, "peer", &[&submit[..], &self.to_orderer()].concat());
    }
}

/// The organizations that have peers, in a configuration.
pub(crate) fn application(config: &mut Value) -> &mut Value {
    &mut config["channel_group"]["groups"]["Application"]["groups"]
}

/// What the configuration of an organization says of its anchor peers.
pub(crate) fn anchor(endpoint: &str) -> Value {
    let (host, port) = endpoint.rsplit_once(':').unwrap();
    let port: u16 = port.parse().unwrap();
    json!({
        "mod_policy": "Admins",
        "value": {"anchor_peers": [{"host": host, "port": port}]},
    })
}
