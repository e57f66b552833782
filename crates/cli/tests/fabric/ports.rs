//! Ports that nobody has, for processes that are killed and come back.
//!
//! Other test targets take this in by its path.

use std::{
    net::TcpListener,
    ops::Range,
    process,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use crate::wait::until;

/// How many shares were given out in this process.
static GIVEN: Mutex<u16> = Mutex::new(0);

/// The first of `len` ports in a row that are free now. Nobody else in this process gets them;
/// other processes begin to look elsewhere. The range is best below what the system gives to
/// clients.
pub(crate) fn free(range: Range<u16>, len: u16) -> u16 {
    let mut given = GIVEN.lock().unwrap_or_else(PoisonError::into_inner);
    let shares = (range.end - range.start) / len;
    let share = |number: u16| range.start + number % shares * len;
    // A prime, so that processes one after the other lie apart.
    let first = u16::try_from(process::id() % 1009).unwrap();
    until("ports", Duration::from_secs(60), || {
        let base = share(first.wrapping_add(*given));
        *given = given.wrapping_add(1);
        let is_free = |port| TcpListener::bind(("127.0.0.1", port)).is_ok();
        (base..base + len).all(is_free).then_some(base)
    })
}
