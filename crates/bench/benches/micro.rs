//! `cargo bench` for workload F: single operations on one thread. The report is the program's.

use std::process::{Command, ExitCode};

fn main() -> ExitCode {
    let status = Command::new(env!("CARGO_BIN_EXE_tidings-bench"))
        .arg("micro")
        .status();
    match status {
        Ok(status) if status.success() => ExitCode::SUCCESS,
        Ok(status) => {
            eprintln!("tidings-bench micro: {status}");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("tidings-bench cannot be run: {error}");
            ExitCode::FAILURE
        }
    }
}
