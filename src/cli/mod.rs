//! The command line.

mod ahead;
mod bench;
mod change;
mod check;
mod completion;
mod controller;
mod count;
mod crds;
mod deploy_broker;
mod diagnose;
mod dns;
mod echo;
mod env;
mod export;
mod gather;
mod inspect;
mod join;
mod key;
mod lab;
mod leave;
mod logs;
mod man;
mod node;
mod plugin;
mod reference;
mod run;
mod show;
mod staged;
mod status;
mod token;
mod trace;
mod translate;
mod ui;
mod uninstall;
mod verify;
mod version;
mod why;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand};

use crate::kubectl::contexts::{Contexts, Target, TooMany};
use crate::kubectl::errors::named;
use crate::kubectl::output::print;
use crate::kubectl::speech::Speech;
use crate::kubectl::stage::Shortfall;

/// Wrong use of the command line (`EX_USAGE` of `sysexits.h`).
const EX_USAGE: u8 = 64;
/// Longest time for which joining and leaving are watched, in seconds.
const WAIT_MAX: u64 = 24 * 3600;
/// A command that could not run, of those whose failure means that something else was found to be broken.
const UNABLE: u8 = 2;

/// Arguments that clap takes and that mean nothing.
#[derive(Debug)]
struct Misuse(String);

impl std::fmt::Display for Misuse {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Misuse {}

const ABOUT: &str = "\
Joins Kubernetes clusters, and hosts without Kubernetes, over encrypted tunnels: pods and services of one cluster are \
reached from another by address and by name under clusterset.local.";

const EXAMPLES: &str = "\
Examples:
  Make a key, check a site file, and run it on this node:
    linkspan genkey private.key
    linkspan check --config site.yaml
    linkspan run --config site.yaml

  See peers, names and the last pass:
    linkspan status

  Two joined Kubernetes clusters, the first of which carries the broker:
    linkspan deploy-broker --context paris
    linkspan join paris --context paris --broker-context paris
    linkspan join berlin --context berlin --broker-context paris

  A service of the second one for the first:
    linkspan export web --context berlin

Options that say which clusters, such as --context, may also stand before the command.

Exit codes:
  0   done
  1   failed; the reason is on standard error
  2   of `lab`, `diagnose`, `why`, `trace`, `verify` and `bench`: it could not run; 1 means that
      something failed
  3   of `diagnose`, `why`, `trace`, `verify` and `bench`: something could not be seen or tried
  64  wrong use of the command line

Environment:
  KUBECONFIG                 kubeconfig files, as kubectl has them
  NO_COLOR                   no colour, if it is anything but empty
  LINKSPAN_LOG               as --log
  LINKSPAN_OTLP_ENDPOINT     as --otlp-endpoint
  LINKSPAN_OTLP_CERTIFICATE  as --otlp-certificate
  LINKSPAN_SOCKET            as --socket
  NODE_NAME                  as --node";

const KUBECTL_EXAMPLES: &str = "\
Examples:
  Two joined clusters, the first of which carries the broker:
    linkspan deploy-broker --context paris
    linkspan join paris --context paris --broker-context paris
    linkspan join berlin --context berlin --broker-context paris

  A service of berlin for paris, as web.default.svc.clusterset.local:
    linkspan export web --context berlin

  How it stands:
    linkspan show --context paris,berlin

Options that say which clusters, such as --context, may also stand before the command, as kubectl takes them.

Exit codes:
  0   done
  1   failed in one cluster at least; the reason is on standard error
  2   of `diagnose`, `why`, `trace`, `verify` and `bench`: it could not run; 1 means that
      something is broken
  3   of `diagnose`, `why`, `trace`, `verify` and `bench`: something could not be seen or tried
  64  wrong use of the command line

Environment:
  KUBECONFIG    kubeconfig files, as kubectl has them
  NO_COLOR      no colour, if it is anything but empty
  LINKSPAN_LOG  as --log";

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
    Node(node::Args),
    Controller(controller::Args),
    Dns(dns::Args),
    DeployBroker(deploy_broker::Args),
    Join(join::Join),
    Leave(leave::Leave),
    Token(token::Args),
    Member(token::Member),
    Show(show::Args),
    Ui(ui::Args),
    Gather(gather::Args),
    Export(export::Export),
    Unexport(export::Unexport),
    Check(check::Args),
    Status(status::Args),
    Inspect(inspect::Args),
    Count(count::Args),
    Diagnose(diagnose::Args),
    Why(why::Args),
    Trace(trace::Args),
    Translate(translate::Args),
    Verify(verify::Args),
    Bench(bench::Args),
    Uninstall(uninstall::Args),
    Lab(lab::Args),
    Echo(echo::Echo),
    Call(echo::Call),
    Crds(crds::Args),
    Reference(reference::Args),
    Genkey(key::Genkey),
    Pubkey(key::Pubkey),
    /// Print the JSON Schema of the site file, for editors.
    #[command(after_help = SCHEMA_EXAMPLES)]
    Schema,
    Completion(completion::Args),
    Man(man::Args),
    Version(version::Args),
}

const SCHEMA_EXAMPLES: &str = "\
Examples:
  Let an editor with a YAML language server know the fields of a site file:
    linkspan schema > site.schema.json
    # first line of site.yaml:
    # yaml-language-server: $schema=site.schema.json";

/// Whether the program would take these arguments, the program's name first; nothing is run.
///
/// # Errors
/// What clap says is wrong with them.
pub fn parses(arguments: impl Iterator<Item = OsString>) -> Result<(), String> {
    match Cli::try_parse_from(ahead::arranged(&Cli::command(), arguments.collect())) {
        Err(error) if error.kind() != ErrorKind::DisplayHelp => Err(error.to_string()),
        _ => Ok(()),
    }
}

/// Runs the program with these arguments, the program's name first.
pub fn main(arguments: impl Iterator<Item = OsString>) -> ExitCode {
    let arguments: Vec<OsString> = arguments.collect();
    if plugin::is_called(arguments.first(), completion::FILE) {
        let words = arguments.get(1..).unwrap_or_default();
        return ended(
            completion::complete(plugin::dress(Cli::command()), words).map(|()| ExitCode::SUCCESS),
            ExitCode::FAILURE,
            true,
        );
    }
    let is_plugin = plugin::is_called(arguments.first(), plugin::FILE);
    let command = if is_plugin { plugin::dress(Cli::command()) } else { Cli::command() };
    let arguments = ahead::arranged(&command, arguments);
    let parsed = command.try_get_matches_from(arguments).and_then(|matches| Cli::from_arg_matches(&matches));
    let mut cli = match parsed {
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
    if let (true, Command::Uninstall(args)) = (is_plugin, &mut cli.command) {
        args.by_kubectl();
    }
    let failure = match &cli.command {
        Command::Lab(_) | Command::Diagnose(_) | Command::Trace(_) | Command::Why(_) => ExitCode::from(UNABLE),
        Command::Verify(_) | Command::Bench(_) => ExitCode::from(UNABLE),
        _ => ExitCode::FAILURE,
    };
    ended(dispatch(cli.command, is_plugin), failure, is_plugin)
}

/// The exit code of what ended so; a failure is told.
fn ended(result: anyhow::Result<ExitCode>, failure: ExitCode, is_plugin: bool) -> ExitCode {
    result.unwrap_or_else(|error| {
        eprintln!("linkspan: {}", speech(is_plugin).spoken(&format!("{error:#}")));
        match error.downcast_ref::<Shortfall>() {
            Some(shortfall) => ExitCode::from(shortfall.code),
            None if error.is::<Misuse>() || error.is::<TooMany>() => ExitCode::from(EX_USAGE),
            None => failure,
        }
    })
}

/// How the person calls the program.
fn speech(is_plugin: bool) -> Speech {
    if is_plugin { plugin::speech(&Cli::command()) } else { Speech::default() }
}

fn dispatch(command: Command, is_plugin: bool) -> anyhow::Result<ExitCode> {
    match command {
        Command::Run(args) => run::run(args),
        Command::Node(args) => node::run(args),
        Command::Controller(args) => controller::run(args),
        Command::Dns(args) => dns::run(args),
        Command::DeployBroker(args) => runtime()?.block_on(deploy_broker::run(args)),
        Command::Token(args) => runtime()?.block_on(token::run(args)),
        Command::Member(args) => runtime()?.block_on(token::member(args)),
        Command::Join(args) => runtime()?.block_on(join::join(args)),
        Command::Leave(args) => runtime()?.block_on(leave::leave(args)),
        Command::Crds(args) => crds::run(args),
        Command::Show(args) => runtime()?.block_on(show::run(args, speech(is_plugin))),
        Command::Ui(args) => runtime()?.block_on(ui::run(args, speech(is_plugin))),
        Command::Gather(args) => runtime()?.block_on(gather::run(args)),
        Command::Export(args) => runtime()?.block_on(export::export(args)),
        Command::Unexport(args) => runtime()?.block_on(export::unexport(args)),
        Command::Check(args) => check::run(args),
        Command::Status(args) => status::run(args),
        Command::Inspect(args) => runtime()?.block_on(inspect::run(args)),
        Command::Count(args) => runtime()?.block_on(count::run(args)),
        Command::Diagnose(args) => return runtime()?.block_on(diagnose::run(args, speech(is_plugin))),
        Command::Why(args) => return runtime()?.block_on(why::run(args, speech(is_plugin))),
        Command::Trace(args) => return runtime()?.block_on(trace::run(args, speech(is_plugin))),
        Command::Translate(args) => runtime()?.block_on(translate::run(args, is_plugin)),
        Command::Bench(args) => runtime()?.block_on(bench::run(args)),
        Command::Reference(args) => reference::run(args),
        Command::Verify(args) => runtime()?.block_on(verify::run(args)),
        Command::Echo(args) => echo::echo(args),
        Command::Call(args) => runtime()?.block_on(echo::call(args)),
        Command::Uninstall(args) => uninstall::run(args),
        Command::Genkey(args) => key::genkey(args),
        Command::Pubkey(args) => key::pubkey(args),
        Command::Lab(args) => return runtime()?.block_on(lab::run(args)),
        Command::Schema => print(&format!("{:#}\n", serde_json::to_value(crate::site::schema())?)),
        Command::Completion(args) => completion::run(args, is_plugin),
        Command::Man(args) => man::run(args, [Cli::command(), plugin::dress(Cli::command()).name(plugin::FILE)]),
        Command::Version(args) => version::run(args, is_plugin),
    }?;
    Ok(ExitCode::SUCCESS)
}

/// Works on the one cluster of a command, which is named where it is not reached.
async fn on_one(contexts: &Contexts, work: impl AsyncFnOnce(Target) -> anyhow::Result<()>) -> anyhow::Result<()> {
    let target = contexts.one().await?;
    work(target.clone()).await.map_err(|error| named(&target, error))
}

/// A runtime for the control tasks. Packets are not its business: lanes are threads of their own.
fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    use anyhow::Context as _;
    tokio::runtime::Builder::new_multi_thread().enable_all().build().context("failed to start threads")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Longest line that is as it is on a terminal of 100 columns, and of most others.
    const WIDTH: usize = 96;

    /// Says what is wrong with the line breaks of a text: prose is left to clap, which knows the terminal.
    fn broken(text: &str) -> Vec<String> {
        let is_prose = |line: &str| !line.is_empty() && !line.starts_with(' ');
        let lines: Vec<&str> = text.lines().collect();
        let halves = lines.windows(2).filter(|pair| pair.iter().all(|line| is_prose(line)));
        let halves = halves.map(|pair| format!("a paragraph of two lines: {pair:?}"));
        let long = lines.iter().filter(|line| !is_prose(line) && line.chars().count() > WIDTH);
        halves.chain(long.map(|line| format!("too long: {line}"))).collect()
    }

    fn each(command: &clap::Command, see: &mut impl FnMut(&clap::Command)) {
        see(command);
        command.get_subcommands().for_each(|sub| each(sub, see));
    }

    #[test]
    fn help_is_broken_where_the_terminal_ends_and_nowhere_else() {
        for command in [Cli::command(), plugin::dress(Cli::command())] {
            each(&command, &mut |command| {
                for text in [command.get_long_about(), command.get_after_help()].into_iter().flatten() {
                    assert_eq!(broken(&text.to_string()), [""; 0], "help of {}", command.get_name());
                }
            });
        }
        assert_eq!(broken("One.\n\nTwo:\n  three\n  four\n\nFive."), [""; 0]);
        assert_eq!(broken("One\ntwo."), ["a paragraph of two lines: [\"One\", \"two.\"]"]);
        assert_eq!(broken(&format!("{0}\n  {0}", "x".repeat(95))), [format!("too long:   {}", "x".repeat(95))]);
    }

    #[test]
    fn help_says_of_no_color_what_is_done() {
        for command in [Cli::command(), plugin::dress(Cli::command())] {
            let help = command.get_after_help().expect("examples").to_string();
            let line = help.lines().find(|line| line.starts_with("  NO_COLOR ")).expect("it is told");
            assert!(line.ends_with("  no colour, if it is anything but empty"), "{line}");
        }
    }

    #[test]
    fn options_of_logs_stand_behind_all_others_and_a_plugin_sends_nothing_to_a_collector() {
        let help = |mut command: clap::Command| {
            command.build();
            command.find_subcommand_mut("join").expect("a command").render_long_help().to_string()
        };
        let join = help(Cli::command());
        let (others, logs) = join.split_once("\nLogs:\n").expect("a heading");
        assert!(others.contains("--upgrade") && others.contains("--clusterset") && !others.contains("--log"), "{join}");
        for option in ["--log <LEVEL>", "--log-format <FORMAT>", "--otlp-endpoint <URL>"] {
            assert!(logs.contains(option), "{join}");
        }
        let plugin = help(plugin::dress(Cli::command()));
        assert!(plugin.contains("--log-format") && !plugin.contains("--otlp-"), "{plugin}");
    }

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
