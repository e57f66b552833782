//! A page as a real browser makes it.

use std::process::{Command, Stdio};

/// What Chromium calls itself.
const NAMES: [&str; 3] = ["chromium", "chromium-browser", "google-chrome"];

/// A page after it has asked for news a few times, and what the browser had to say of it.
pub(crate) struct Seen {
    pub(crate) dom: String,
    /// Errors and all else that scripts and the browser put on the console.
    pub(crate) console: Vec<String>,
}

/// Looks at a page. None where there is no Chromium, which is said.
pub(crate) async fn look(url: String) -> Option<Seen> {
    let looked = tokio::task::spawn_blocking(move || look_now(&url)).await;
    looked.unwrap()
}

fn look_now(url: &str) -> Option<Seen> {
    let is_there = |name: &&&str| {
        let mut asked = Command::new(name);
        let asked = asked.arg("--version").stdout(Stdio::null());
        asked.stderr(Stdio::null()).status().is_ok()
    };
    let Some(name) = NAMES.iter().find(is_there) else {
        eprintln!("SKIPPED: there is no chromium in PATH, so no browser has looked at {url}");
        return None;
    };
    let profile = tempfile::tempdir().unwrap();
    let output = Command::new(name)
        .args([
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
        ])
        .args([
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
        ])
        .args(["--disable-component-update", "--disable-sync"])
        .args(["--enable-logging=stderr", "--v=0", "--window-size=1280,800"])
        // Of the page's own time, which stands still while it waits for an answer and else flies:
        // a second of it, in which it asks once, takes 5 to 15 ms. A view serves all who ask within
        // 0.8 s of ours, so it takes hundreds of such seconds until it sees the next.
        .args(["--virtual-time-budget=300000", "--dump-dom"])
        .arg(format!("--user-data-dir={}", profile.path().display()))
        .arg(url)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let console = said.lines().filter(|line| line.contains("CONSOLE"));
    Some(Seen {
        dom: String::from_utf8_lossy(&output.stdout).into_owned(),
        console: console.map(str::to_owned).collect(),
    })
}
