//! Keys that a Go peer understands and that mean nothing here: nobody needs to be told of them.

/// Lower case. What ends in a dot stands for everything below it.
const ELSEWHERE: &[&str] = &[
    "chaincode.",
    "http.tls.cert.file",
    "http.tls.clientauthrequired",
    "http.tls.clientrootcas.files",
    "http.tls.key.file",
    "ledger.blockchain.",
    "ledger.history.",
    "ledger.pvtdatastore.",
    "ledger.snapshots.",
    "ledger.state.",
    "metrics.statsd.",
    "operations.tls.cert.file",
    "operations.tls.clientauthrequired",
    "operations.tls.clientrootcas.files",
    "operations.tls.key.file",
    "peer.address",
    "peer.addressautodetect",
    "peer.bccsp.",
    "peer.chaincodeaddress",
    "peer.chaincodelistenaddress",
    "peer.client.",
    "peer.connectiontimeout",
    "peer.discovery.authcacheenabled",
    "peer.discovery.authcachemaxsize",
    "peer.discovery.authcachepurgeretentionratio",
    "peer.gateway.",
    "peer.gossip.maxconnectionattempts",
    "peer.gossip.nonblockingcommitmode",
    "peer.gossip.recvbuffsize",
    "peer.gossip.skipblockverification",
    "peer.gossip.stateinforetentioninterval",
    "peer.handlers.",
    "peer.id",
    "peer.keepalive.",
    "peer.limits.concurrency.endorserservice",
    "peer.limits.concurrency.gatewayservice",
    "peer.localmsptype",
    "peer.maxrecvmsgsize",
    "peer.maxsendmsgsize",
    "peer.networkid",
    "peer.profile.",
    "peer.tls.cert.file",
    "peer.tls.clientauthrequired",
    "peer.tls.clientcert.file",
    "peer.tls.clientkey.file",
    "peer.tls.clientrootcas.files",
    "peer.tls.key.file",
    "peer.tls.rootcert.file",
    "peer.validatorpoolsize",
    "vm.",
];

/// Whether a key is one of them; `separator` stands between its parts.
pub(super) fn elsewhere(key: &str, separator: char) -> bool {
    ELSEWHERE.iter().any(|entry| {
        let entry = entry.replace('.', &separator.to_string());
        match entry.strip_suffix(separator) {
            // A mapping without anything in it is a leaf.
            Some(bare) => key == bare || key.starts_with(&entry),
            None => key == entry,
        }
    })
}
