//! The `tidings` program: reads the command line, runs one command, turns the outcome into one
//! clear line and an exit status. Knows nothing of Fabric itself.

mod admin;
mod commands;
mod complaint;
mod demo;
mod doctor;
mod orderer;
mod signals;
mod signer;

use std::io::Write as _;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

/// A gossip node for Hyperledger Fabric.
///
/// Joins a channel as a peer of an organization, verifies, stores and spreads its blocks,
/// together with Go peers or alone.
#[derive(Debug, Parser)]
#[command(
    name = "tidings",
    version,
    propagate_version = false,
    after_help = "\
Start here:
  tidings demo                      a network of six nodes on this machine, with a web page
  tidings node start                a node beside Go peers, from their core.yaml
  tidings doctor                    what is wrong with a node, and what to change
  tidings block show genesis.block  what a block says
  tidings help COMMAND              more about a command

Exit status: 0 done or good, 1 failed or refused, 2 wrong use of the command line."
)]
struct CommandLine {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Demo(demo::Arguments),
    /// Run a node of an organization.
    #[command(subcommand)]
    Node(commands::node::Command),
    Channel(commands::channel::Arguments),
    Privdata(commands::privdata::Arguments),
    Peers(commands::peers::Arguments),
    Watch(commands::watch::Arguments),
    Doctor(commands::doctor::Arguments),
    Orderer(demo::alone::Arguments),
    /// Look at blocks and judge them.
    #[command(subcommand)]
    Block(commands::block::Command),
    /// Look at gossip envelopes.
    #[command(subcommand)]
    Envelope(commands::envelope::Command),
    /// Look after the ledger folder of a node.
    #[command(subcommand)]
    Ledger(commands::ledger::Command),
    /// Print the version and the Fabric line whose rules are followed.
    Version,
}

fn main() -> ExitCode {
    let CommandLine { command } = CommandLine::parse();
    match run(command) {
        Ok(status) => status,
        Err(error) => {
            let _ = writeln!(
                std::io::stderr(),
                "tidings: {}",
                complaint::in_one_line(&error)
            );
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<ExitCode> {
    match command {
        Command::Demo(arguments) => return demo::run(&arguments),
        Command::Node(command) => return command.run(),
        Command::Channel(arguments) => arguments.run()?,
        Command::Privdata(arguments) => arguments.run()?,
        Command::Peers(arguments) => arguments.run()?,
        Command::Watch(arguments) => arguments.run()?,
        Command::Doctor(arguments) => return arguments.run(),
        Command::Orderer(arguments) => return demo::alone::run(&arguments),
        Command::Block(command) => return command.run(),
        Command::Envelope(command) => command.run()?,
        Command::Ledger(command) => return command.run(),
        Command::Version => commands::print(concat!(
            "tidings ",
            env!("CARGO_PKG_VERSION"),
            "\nspeaks the gossip protocol of Hyperledger Fabric 2.5 and 3.1\n"
        ))?,
    }
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        CommandLine::command().debug_assert();
    }

    #[test]
    fn every_command_has_help_worth_reading() {
        fn check(command: &clap::Command, path: &str) {
            let path = format!("{path} {}", command.get_name());
            let about = command.get_long_about().or_else(|| command.get_about());
            assert!(
                about.is_some_and(|about| about.to_string().len() > 20),
                "{path}: no about"
            );
            for argument in command.get_arguments().filter(|a| !a.is_hide_set()) {
                let help = argument
                    .get_help()
                    .map(ToString::to_string)
                    .unwrap_or_default();
                assert!(help.len() > 8, "{path}: {} has no help", argument.get_id());
            }
            for sub in command.get_subcommands() {
                check(sub, &path);
            }
        }
        let mut command = CommandLine::command();
        command.build();
        for sub in command
            .get_subcommands()
            .filter(|sub| sub.get_name() != "help")
        {
            check(sub, "tidings");
        }
    }
}
