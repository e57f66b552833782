//! Findings for a person, and for a program.
//!
//! Promises: no foreign byte reaches the terminal as a control character; what is ok takes a line,
//! what is not says what to change.

use std::fmt::Write as _;

use serde::Serialize;

use super::finding::{Finding, Severity};
use crate::commands::outline::{plural, visible};

/// Columns of text; a terminal has them, and a mail.
const WIDTH: usize = 100;

/// Columns before what was found.
const INDENT: usize = 29;

/// All that was found.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    /// Whether there is no fault.
    good: bool,
    faults: usize,
    warnings: usize,
    /// What was looked at.
    subject: String,
    findings: Vec<Finding>,
}

impl Report {
    pub(super) fn of(subject: String, findings: Vec<Finding>) -> Self {
        let count = |severity| {
            let of = findings.iter().filter(|each| each.severity == severity);
            of.count()
        };
        let (faults, warnings) = (count(Severity::Fault), count(Severity::Warning));
        Self {
            good: faults == 0,
            faults,
            warnings,
            subject,
            findings,
        }
    }

    /// Whether there is no fault.
    pub(crate) fn is_good(&self) -> bool {
        self.good
    }

    /// Lines for a person; in colour if that is wanted.
    pub(crate) fn text(&self, colour: bool) -> String {
        let mut text = format!("{}\n\n", visible(&self.subject));
        for finding in &self.findings {
            let word = match finding.severity {
                Severity::Ok => "ok",
                Severity::Warning => "warning",
                Severity::Fault => "FAULT",
            };
            let (on, off) = match finding.severity {
                Severity::Fault if colour => ("\u{1b}[1;31m", "\u{1b}[0m"),
                Severity::Warning if colour => ("\u{1b}[33m", "\u{1b}[0m"),
                _ => ("", ""),
            };
            let check = finding.check;
            // A String takes whatever is written to it.
            let _ = write!(text, "{on}{word:<9}{off}{check:<20}");
            wrap(&mut text, &visible(&finding.found), INDENT);
            let change = finding.setting.as_ref().map(|setting| {
                let advice = finding.advice.as_deref().unwrap_or_default();
                format!("{setting}: {advice}")
            });
            for (label, value) in [
                ("where", finding.place.as_ref()),
                ("why", finding.why.as_ref()),
                ("change", change.as_ref()),
            ] {
                // What is well needs no reason.
                let is_told = finding.severity != Severity::Ok;
                if let Some(value) = value.filter(|_| is_told) {
                    let _ = write!(text, "{:>INDENT$}", format!("{label:<7} "));
                    wrap(&mut text, &visible(value), INDENT);
                }
            }
        }
        let ok = self.findings.len() - self.faults - self.warnings;
        let (faults, warnings) = (
            plural(self.faults, "fault"),
            plural(self.warnings, "warning"),
        );
        let _ = writeln!(text, "\n{faults}, {warnings}, {ok} ok");
        text
    }
}

/// Words in lines that begin at a column, the first of which is there already.
fn wrap(text: &mut String, words: &str, indent: usize) {
    let mut column = indent;
    for (number, word) in words.split_whitespace().enumerate() {
        let len = word.chars().count();
        if number > 0 && column + 1 + len > WIDTH {
            let _ = write!(text, "\n{:indent$}", "");
            column = indent;
        } else if number > 0 {
            text.push(' ');
            column += 1;
        }
        text.push_str(word);
        column += len;
    }
    text.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_well_takes_a_line_and_the_rest_says_what_to_change() {
        let findings = vec![
            Finding::ok("identity", "peer0 of Org1MSP").at("/msp"),
            Finding::fault("bootstrap", "127.0.0.1:7061 is of Org2MSP")
                .at("127.0.0.1:7061")
                .because("peers of other organizations never tell this node of its own, and so it stays alone")
                .change("peer.gossip.bootstrap", "name peers of Org1MSP"),
        ];
        let report = Report::of("core.yaml".into(), findings);
        assert!(!report.is_good());
        let expected = "\
core.yaml

ok       identity            peer0 of Org1MSP
FAULT    bootstrap           127.0.0.1:7061 is of Org2MSP
                     where   127.0.0.1:7061
                     why     peers of other organizations never tell this node of its own, and so it
                             stays alone
                     change  peer.gossip.bootstrap: name peers of Org1MSP

1 fault, 0 warnings, 1 ok
";
        assert_eq!(report.text(false), expected);
        assert!(
            report
                .text(true)
                .contains("\u{1b}[1;31mFAULT    \u{1b}[0mbootstrap")
        );
        let json = serde_json::to_value(&report).unwrap();
        assert_eq!(json["faults"], 1);
        assert_eq!(json["findings"][1]["setting"], "peer.gossip.bootstrap");
    }

    #[test]
    fn what_others_say_cannot_steer_the_terminal() {
        let finding = Finding::warning("orderer", "says \u{1b}[2J\nno");
        let text = Report::of("x\ny".into(), vec![finding]).text(false);
        assert!(text.contains("says \\u{1b}[2J\\nno"), "{text}");
        assert!(text.starts_with("x\\ny\n"), "{text}");
    }
}
