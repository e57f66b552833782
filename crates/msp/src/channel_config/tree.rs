//! The elements of a configuration tree, each under its place.
//!
//! Names are checked here, and so are depth and size, once, before anything walks the tree by
//! recursion.

use std::{collections::BTreeMap, fmt};

use tidings_proto::common::{ConfigGroup, ConfigPolicy, ConfigValue};

use super::refused::ConfigRefused;

/// Groups inside groups, the channel group counted. The deepest with a meaning is four: channel,
/// consortiums, consortium, organization.
pub const CONFIG_DEPTH_MAX: usize = 8;

/// Elements of one tree: ten for each of some thousand organizations.
pub const CONFIG_ELEMENTS_MAX: usize = 65_536;

/// Bytes of a serialized configuration with its update, which take some ten times as many in
/// memory. An organization needs a few thousand, unless it revokes a great deal.
pub const CONFIG_LEN_MAX: usize = 32 * 1024 * 1024;

/// Characters in the name of a channel or an element.
pub const CONFIG_KEY_LEN_MAX: usize = 249;

/// Where an element is: its names below the channel group, its own last, and what it is. The
/// channel group itself has no names.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) names: Vec<String>,
    pub(super) kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Group,
    Value,
    Policy,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Element<'a> {
    Group(&'a ConfigGroup),
    Value(&'a ConfigValue),
    Policy(&'a ConfigPolicy),
}

impl Place {
    pub(super) fn below(group: &[String], key: &str, kind: Kind) -> Self {
        let mut names = group.to_vec();
        names.push(key.to_owned());
        Self { names, kind }
    }

    /// The group from which a relative policy name of this element starts: a group's own, else
    /// the one the element is in.
    pub(super) fn policy_group(&self) -> &[String] {
        match (self.kind, self.names.split_last()) {
            (Kind::Value | Kind::Policy, Some((_, group))) => group,
            _ => &self.names,
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.kind {
            Kind::Group => "group /Channel",
            Kind::Value => "value /Channel",
            Kind::Policy => "policy /Channel",
        })?;
        self.names.iter().try_for_each(|name| write!(f, "/{name}"))
    }
}

impl<'a> Element<'a> {
    pub(super) fn version(self) -> u64 {
        match self {
            Element::Group(group) => group.version,
            Element::Value(value) => value.version,
            Element::Policy(policy) => policy.version,
        }
    }

    pub(super) fn mod_policy(self) -> &'a str {
        match self {
            Element::Group(group) => &group.mod_policy,
            Element::Value(value) => &value.mod_policy,
            Element::Policy(policy) => &policy.mod_policy,
        }
    }
}

/// All elements of the tree, the channel group among them. Nothing at all for no tree.
pub(super) fn elements(
    root: Option<&ConfigGroup>,
) -> Result<BTreeMap<Place, Element<'_>>, ConfigRefused> {
    let mut elements = BTreeMap::new();
    let Some(root) = root else {
        return Ok(elements);
    };
    let mut groups = vec![(Vec::new(), root)];
    while let Some((names, group)) = groups.pop() {
        if names.len() >= CONFIG_DEPTH_MAX {
            return Err(ConfigRefused::TooDeep);
        }
        let more = 1 + group.values.len() + group.policies.len() + group.groups.len();
        if elements.len() + groups.len() + more > CONFIG_ELEMENTS_MAX {
            return Err(ConfigRefused::TooLarge);
        }
        for (key, value) in &group.values {
            let place = checked(Place::below(&names, key, Kind::Value))?;
            elements.insert(place, Element::Value(value));
        }
        for (key, policy) in &group.policies {
            let place = checked(Place::below(&names, key, Kind::Policy))?;
            elements.insert(place, Element::Policy(policy));
        }
        for (key, below) in &group.groups {
            groups.push((
                checked(Place::below(&names, key, Kind::Group))?.names,
                below,
            ));
        }
        elements.insert(
            Place {
                names,
                kind: Kind::Group,
            },
            Element::Group(group),
        );
    }
    Ok(elements)
}

fn checked(place: Place) -> Result<Place, ConfigRefused> {
    if place.names.last().is_none_or(|key| is_config_key(key)) {
        Ok(place)
    } else {
        Err(ConfigRefused::Key(place.to_string()))
    }
}

/// Whether this may be the name of an element.
pub(super) fn is_config_key(key: &str) -> bool {
    (1..=CONFIG_KEY_LEN_MAX).contains(&key.len())
        && !matches!(key, "." | "..")
        && key
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-'))
}

/// Whether this may be the name of a channel.
pub(super) fn is_channel_id(id: &str) -> bool {
    id.len() <= CONFIG_KEY_LEN_MAX
        && id
            .bytes()
            .next()
            .is_some_and(|first| first.is_ascii_lowercase())
        && id.bytes().all(|byte| {
            byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'.' | b'-')
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nested(depth: usize) -> ConfigGroup {
        (1..depth).fold(ConfigGroup::default(), |inner, _| ConfigGroup {
            groups: [("g".to_owned(), inner)].into(),
            ..Default::default()
        })
    }

    #[test]
    fn depth_is_limited() {
        assert_eq!(
            elements(Some(&nested(CONFIG_DEPTH_MAX))).unwrap().len(),
            CONFIG_DEPTH_MAX
        );
        let refused = elements(Some(&nested(CONFIG_DEPTH_MAX + 1))).map(|all| all.len());
        assert_eq!(refused, Err(ConfigRefused::TooDeep));
    }

    #[test]
    fn size_is_limited() {
        let wide = |values: usize| ConfigGroup {
            values: (0..values)
                .map(|n| (format!("v{n}"), ConfigValue::default()))
                .collect(),
            ..Default::default()
        };
        let at_limit = wide(CONFIG_ELEMENTS_MAX - 1);
        assert_eq!(
            elements(Some(&at_limit)).unwrap().len(),
            CONFIG_ELEMENTS_MAX
        );
        let refused = elements(Some(&wide(CONFIG_ELEMENTS_MAX))).map(|all| all.len());
        assert_eq!(refused, Err(ConfigRefused::TooLarge));
    }

    #[test]
    fn names_follow_the_grammar() {
        for good in ["a", "Org1", "org.1-b", "...", &"x".repeat(249)] {
            assert!(is_config_key(good), "{good}");
        }
        for bad in [
            "",
            ".",
            "..",
            "a b",
            "a/b",
            "a_b",
            "\u{e9}",
            &"x".repeat(250),
        ] {
            assert!(!is_config_key(bad), "{bad}");
        }
        for good in ["a", "my.channel-2", &"x".repeat(249)] {
            assert!(is_channel_id(good), "{good}");
        }
        for bad in ["", "2a", "-a", "A", "aB", "a_b", ".a", &"x".repeat(250)] {
            assert!(!is_channel_id(bad), "{bad}");
        }
    }

    #[test]
    fn a_relative_policy_starts_at_the_group_of_its_element() {
        let place = |kind| Place::below(&["Application".into()], "Org1", kind);
        assert_eq!(place(Kind::Group).policy_group(), ["Application", "Org1"]);
        assert_eq!(place(Kind::Value).policy_group(), ["Application"]);
        assert_eq!(
            Place {
                names: vec![],
                kind: Kind::Group
            }
            .policy_group(),
            [""; 0]
        );
        assert_eq!(
            place(Kind::Value).to_string(),
            "value /Channel/Application/Org1"
        );
    }
}
