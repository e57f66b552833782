//! tidings-sim
