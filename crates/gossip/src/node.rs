//! All components of the protocol as one machine.

use crate::{
    Effect, Input,
    config::{Config, Me},
    id::Moment,
    ports::Ports,
};

/// x
#[derive(Debug)]
pub struct Node<P> {
    ports: P,
}
impl<P: Ports> Node<P> {
    /// Starts with an empty memory. `seed` feeds every random choice.
    pub fn new(_me: Me, _config: Config, ports: P, _seed: [u8; 32]) -> Self {
        Self { ports }
    }
    /// x
    pub fn handle(&mut self, _now: Moment, _input: Input, _out: &mut Vec<Effect>) {}
    /// x
    pub fn tick(&mut self, _now: Moment, _out: &mut Vec<Effect>) {}
    /// x
    pub fn deadline(&self) -> Option<Moment> {
        None
    }
    /// The ports.
    pub fn ports(&self) -> &P {
        &self.ports
    }
}
