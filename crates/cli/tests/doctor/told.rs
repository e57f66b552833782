//! What the doctor tells.

use std::path::Path;

use serde_json::Value;

use crate::node::Node;

/// A report.
pub(crate) struct Told {
    pub(crate) code: Option<i32>,
    pub(crate) json: Value,
}

impl Told {
    /// Has a node looked at, with genesis blocks.
    #[track_caller]
    pub(crate) fn of(node: &Node, genesis: &[&Path]) -> Self {
        let mut arguments = vec!["doctor", "--json"];
        for path in genesis {
            arguments.extend(["--genesis", path.to_str().unwrap()]);
        }
        let output = node.tidings(&arguments);
        let json = serde_json::from_slice(&output.stdout);
        let json = json.unwrap_or_else(|error| panic!("{error}: {output:?}"));
        let code = output.status.code();
        Self { code, json }
    }

    fn findings(&self) -> &[Value] {
        self.json["findings"].as_array().unwrap()
    }

    /// Everything that is not ok.
    pub(crate) fn complaints(&self) -> Vec<&Value> {
        let findings = self.findings().iter();
        findings
            .filter(|finding| finding["severity"] != "ok")
            .collect()
    }

    /// The only fault of a check must say this, and name this setting.
    #[track_caller]
    pub(crate) fn fault(&self, check: &str, says: &str, setting: &str) {
        let of_check = self
            .findings()
            .iter()
            .filter(|finding| finding["severity"] == "fault" && finding["check"] == check);
        let of_check: Vec<_> = of_check.collect();
        let [fault] = of_check[..] else {
            panic!("{} faults of {check}: {:#}", of_check.len(), self.json);
        };
        let found = fault["found"].as_str().unwrap();
        assert!(found.contains(says), "{found}");
        let named = fault["setting"].as_str().unwrap();
        assert!(named.contains(setting), "{named}");
        for part in ["why", "advice"] {
            assert!(
                fault[part].as_str().is_some_and(|text| !text.is_empty()),
                "{fault:#}"
            );
        }
        assert_eq!(self.code, Some(1));
        assert_eq!(self.json["good"], false);
    }

    /// As [`Self::fault`], and there is no other.
    #[track_caller]
    pub(crate) fn only_fault(&self, check: &str, says: &str, setting: &str) {
        self.fault(check, says, setting);
        assert_eq!(self.json["faults"], 1, "{:#?}", self.complaints());
    }
}
