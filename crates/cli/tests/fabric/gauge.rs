//! Metrics as any scraper reads them, from Go peers and from nodes of ours.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    time::Duration,
};

/// A process that has stopped must not stop the test.
const PATIENCE: Duration = Duration::from_secs(3);

/// Everything that an operations endpoint gives; none while nobody serves it.
pub(crate) fn scrape(endpoint: &str) -> Option<String> {
    let mut stream = TcpStream::connect_timeout(&endpoint.parse().unwrap(), PATIENCE).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(stream, "GET /metrics HTTP/1.0\r\nHost: {endpoint}\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?;
    (status == "200").then(|| body.to_owned())
}

/// The sum over all samples of a metric whose labels hold all of these; none if there is none.
pub(crate) fn sum(text: &str, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
    let samples = text.lines().filter_map(|line| {
        let rest = line.strip_prefix(name)?;
        let (given, value) = rest.rsplit_once(' ')?;
        if !(given.is_empty() || given.starts_with('{')) {
            return None;
        }
        let wanted =
            |(label, value): &(&str, &str)| given.contains(&format!("{label}=\"{value}\""));
        labels
            .iter()
            .all(wanted)
            .then(|| value.parse::<f64>().unwrap())
    });
    let values: Vec<f64> = samples.collect();
    (!values.is_empty()).then(|| values.iter().sum())
}

#[test]
fn a_metric_is_summed_over_the_labels_that_were_not_named() {
    let text = "# TYPE a gauge\na{x=\"1\",y=\"2\"} 3\na{x=\"1\",y=\"3\"} 4\na_b 5\na{x=\"2\"} 6\n";
    assert_eq!(sum(text, "a", &[("x", "1")]), Some(7.0));
    assert_eq!(sum(text, "a_b", &[]), Some(5.0));
    assert_eq!(sum(text, "b", &[]), None);
}
