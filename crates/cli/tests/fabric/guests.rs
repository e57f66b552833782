//! Our nodes in a network of Go peers: each takes an identity that no Go peer uses and the
//! `core.yaml` of a Go peer of its organization, as an operator would.

use crate::{
    fabnet::{CHANNEL, Fabnet, pki},
    node::Node,
};

impl Fabnet {
    /// A node with an identity of `extra_identities`, which does not run yet.
    pub(crate) fn guest(&self, name: &str) -> Node {
        let extra = self.extra(name);
        let neighbour = self.of(&extra.org).next().unwrap();
        let mut node = Node::new(
            name,
            &self.home().join(name),
            &self.config_dir(&neighbour.name),
            &extra.endpoint,
            CHANNEL,
        );
        let text = |path: &std::path::Path| path.to_str().unwrap().to_owned();
        let tls = |file: &str| text(&extra.tls_dir.join(file));
        node.pki = pki(&extra.msp_id, &extra.msp_dir);
        node.set("CORE_PEER_MSPCONFIGPATH", text(&extra.msp_dir));
        node.set("CORE_PEER_GOSSIP_BOOTSTRAP", extra.bootstrap.join(" "));
        node.set("CORE_PEER_TLS_CERT_FILE", tls("server.crt"));
        node.set("CORE_PEER_TLS_KEY_FILE", tls("server.key"));
        node.set("CORE_PEER_TLS_ROOTCERT_FILE", tls("ca.crt"));
        node
    }

    /// Such a node, running and in the channel.
    #[track_caller]
    pub(crate) fn join(&self, name: &str) -> Node {
        let mut node = self.guest(name);
        node.start(&self.genesis());
        node
    }
}
