//! What an endorsed transaction tells a reader: the call, its event, and what it writes for
//! everybody to see.
//!
//! Promises slices of the transaction and nothing that its bytes size. The proposal and the event
//! are not among what Go peers check in a block: of those, what does not parse is absent.

use super::{
    endorsed::{EndorsedTransaction, TouchedNamespace, flag, name, parts, public_set},
    names::text,
};

/// The event that a chaincode left in its transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Event<'a> {
    /// Its name.
    pub name: &'a str,
    /// What the chaincode put there.
    pub payload: &'a [u8],
}

impl EndorsedTransaction {
    /// Name and version of the chaincode that was called, as its endorsers say.
    pub fn chaincode(&self) -> (&str, &str) {
        let of = |number| {
            let ids = parts(self.extension(), 4);
            text(ids.flat_map(|id| parts(id, number)).last())
        };
        (of(2), of(3))
    }

    /// The arguments of the call; the first is the function as a rule.
    pub fn arguments(&self) -> impl Iterator<Item = &[u8]> {
        let invocation = parts(self.proposal(), 1).last().unwrap_or_default();
        parts(invocation, 1)
            .flat_map(|spec| parts(spec, 3))
            .flat_map(|input| parts(input, 1))
    }

    /// Its event, if it has one.
    pub fn event(&self) -> Option<Event<'_>> {
        let event = parts(self.extension(), 2).last()?;
        let of = |number| parts(event, number).last();
        // One without chaincode is none, as in Fabric's filtered blocks.
        of(1).filter(|chaincode| !chaincode.is_empty())?;
        Some(Event {
            name: text(of(3)),
            payload: of(4).unwrap_or_default(),
        })
    }

    /// `protos.ChaincodeAction`.
    fn extension(&self) -> &[u8] {
        parts(self.response_payload(), 2).last().unwrap_or_default()
    }
}

impl<'a> TouchedNamespace<'a> {
    /// What it writes for everybody to see, in order: key and value, none when it is deleted.
    pub fn writes(&self) -> impl Iterator<Item = (&'a str, Option<&'a [u8]>)> {
        parts(public_set(self.part), 3).map(|write| {
            let value = parts(write, 3).last().filter(|value| !value.is_empty());
            (name(write), value.filter(|_| !flag(write, 2)))
        })
    }

    /// The collections that it reads or writes.
    pub fn collections(&self) -> impl Iterator<Item = &'a str> {
        parts(self.part, 3).map(name)
    }
}
