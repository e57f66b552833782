//! tidings-node
