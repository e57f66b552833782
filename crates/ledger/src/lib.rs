//! tidings-ledger
