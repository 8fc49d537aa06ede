//! The command line.

mod check;
mod key;
mod lab;
mod logs;
mod run;
mod status;
mod uninstall;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{Parser, Subcommand};

/// Wrong use of the command line (`EX_USAGE` of `sysexits.h`).
const EX_USAGE: u8 = 64;
/// A lab that could not run, as opposed to one in which something failed.
const LAB_UNABLE: u8 = 2;

const ABOUT: &str = "\
Joins Kubernetes clusters, and hosts without Kubernetes, over encrypted tunnels: pods and services of one cluster are
reached from another by address and by name under clusterset.local.";

const EXAMPLES: &str = "\
Examples:
  Make a key, check a site file, and run it on this node:
    linkspan genkey private.key
    linkspan check --config site.yaml
    linkspan run --config site.yaml

  See peers, names and the last pass:
    linkspan status

Exit codes:
  0   done
  1   failed; the reason is on standard error
  2   only `linkspan lab`: it could not run; 1 means that something in it failed
  64  wrong use of the command line

Environment:
  LINKSPAN_LOG     as --log
  LINKSPAN_SOCKET  as --socket
  NODE_NAME        as --node";

/// The program's arguments.
#[derive(Debug, Parser)]
#[command(name = "linkspan", version, about = ABOUT, long_about = ABOUT, after_help = EXAMPLES, max_term_width = 100)]
struct Cli {
    #[command(flatten)]
    logs: logs::Logs,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Run(run::Args),
    Check(check::Args),
    Status(status::Args),
    Uninstall(uninstall::Args),
    Lab(lab::Args),
    Genkey(key::Genkey),
    Pubkey(key::Pubkey),
    /// Print the JSON Schema of the site file, for editors.
    #[command(after_help = SCHEMA_EXAMPLES)]
    Schema,
    /// Print the version.
    Version,
}

const SCHEMA_EXAMPLES: &str = "\
Examples:
  Let an editor with a YAML language server know the fields of a site file:
    linkspan schema > site.schema.json
    # first line of site.yaml:
    # yaml-language-server: $schema=site.schema.json";

/// Runs the program with these arguments, the program's name first.
pub fn main(arguments: impl Iterator<Item = OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => {
            // Nothing can be done about a closed terminal.
            let _ = error.print();
            return match error.kind() {
                ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => ExitCode::SUCCESS,
                _ => ExitCode::from(EX_USAGE),
            };
        }
    };
    if let Err(error) = cli.logs.start() {
        eprintln!("linkspan: {error:#}");
        return ExitCode::from(EX_USAGE);
    }
    let failure = match &cli.command {
        Command::Lab(_) => ExitCode::from(LAB_UNABLE),
        _ => ExitCode::FAILURE,
    };
    dispatch(cli.command).unwrap_or_else(|error| {
        eprintln!("linkspan: {error:#}");
        failure
    })
}

fn dispatch(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Run(args) => run::run(args),
        Command::Check(args) => check::run(args),
        Command::Status(args) => status::run(args),
        Command::Uninstall(args) => uninstall::run(args),
        Command::Genkey(args) => key::genkey(args),
        Command::Pubkey(args) => key::pubkey(args),
        Command::Lab(args) => return runtime()?.block_on(lab::run(args)),
        Command::Schema => print(&format!("{:#}\n", serde_json::to_value(crate::site::schema())?)),
        Command::Version => print(&format!("linkspan {}\n", crate::status::VERSION)),
    }?;
    Ok(ExitCode::SUCCESS)
}

/// Writes to standard output. That a reader such as `head` went away is no failure.
fn print(text: &str) -> anyhow::Result<()> {
    use std::io::Write as _;
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        written => Ok(written?),
    }
}

/// A runtime for the control tasks. Packets are not its business: lanes are threads of their own.
fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    use anyhow::Context as _;
    tokio::runtime::Builder::new_multi_thread().enable_all().build().context("failed to start threads")
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent_and_each_command_has_help() {
        let mut command = Cli::command();
        command.build();
        command.clone().debug_assert();
        for sub in command.get_subcommands().filter(|sub| sub.get_name() != "help") {
            assert!(sub.get_about().is_some(), "{} says what it does", sub.get_name());
        }
    }
}
