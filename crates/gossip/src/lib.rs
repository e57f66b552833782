//! tidings-gossip
