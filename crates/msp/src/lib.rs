//! tidings-msp
