//! What happens all the time and changes nothing that those who watch a node can see of it.
//!
//! Idle nodes hear such things many times a second; to look at everything after each would cost
//! more than the hearing. Being wrong here makes them see a change later, not never.

use tidings_gossip::{Effect, Input, Message, Notice, message::Pull};

/// Whether this is the passing of time, or a message such as members exchange every few seconds.
pub(crate) fn is_routine(input: Option<&Input>) -> bool {
    let message = match input {
        None => return true,
        Some(Input::Received { message, .. }) => &**message,
        Some(_) => return false,
    };
    match message {
        Message::Alive(_)
        | Message::MembershipRequest { .. }
        | Message::MembershipResponse { .. }
        | Message::StateInfoPullRequest { .. }
        | Message::Ack { .. }
        | Message::IdentityPull(_) => true,
        Message::BlockPull { pull, .. } => !matches!(pull, Pull::Update { .. }),
        _ => false,
    }
}

/// Whether this tells of a change, whatever it came from.
pub(crate) fn tells_of_change(effect: &Effect) -> bool {
    !matches!(
        effect,
        Effect::Send { .. }
            | Effect::Reply { .. }
            | Effect::Probe { .. }
            | Effect::Identify { .. }
            | Effect::Notify(Notice::ChannelMembers { .. } | Notice::Refused { .. })
    )
}

#[cfg(test)]
mod tests {
    use tidings_gossip::id::{ChannelId, PkiId};

    use super::*;

    #[test]
    fn time_passes_without_a_change() {
        assert!(is_routine(None));
        assert!(!is_routine(Some(&Input::Unreachable(PkiId::new([1; 32])))));
        let channel = ChannelId::from("ch");
        assert!(!is_routine(Some(&Input::Committed { channel, height: 2 })));
    }

    #[test]
    fn members_that_come_and_go_are_a_change() {
        let peer = PkiId::new([1; 32]);
        let member = Notice::MemberAlive {
            peer,
            org: None,
            endpoint: String::new(),
        };
        assert!(tells_of_change(&Effect::Notify(member)));
        assert!(tells_of_change(&Effect::Notify(Notice::MemberDead(peer))));
        let count = Notice::ChannelMembers {
            channel: ChannelId::from("ch"),
            count: 1,
        };
        assert!(!tells_of_change(&Effect::Notify(count)));
    }
}
