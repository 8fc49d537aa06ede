//! The same program by its other name: as `kubectl-linkspan` on the PATH it is a plugin of kubectl.

use std::ffi::OsString;
use std::path::Path;

use clap::Command;

/// The file name by which kubectl finds it.
pub(super) const FILE: &str = "kubectl-linkspan";
/// What people type.
const NAME: &str = "kubectl linkspan";
/// Commands of nodes, which nobody means who speaks through kubectl. They work nevertheless.
const OF_NODES: [&str; 13] = [
    "reference",
    "inspect",
    "echo",
    "call",
    "run",
    "node",
    "controller",
    "dns",
    "check",
    "status",
    "genkey",
    "pubkey",
    "schema",
];

/// Whether the program was started by this file name.
pub(super) fn is_called(program: Option<&OsString>, name: &str) -> bool {
    program.and_then(|program| Path::new(program).file_name()).is_some_and(|file| file == name)
}

/// The command line as it is to be told to users of kubectl.
pub(super) fn dress(command: Command) -> Command {
    let command = command.bin_name(NAME).override_usage(format!("{NAME} [OPTIONS] <COMMAND>"));
    let command = OF_NODES.iter().fold(command, |command, name| command.mut_subcommand(name, |sub| sub.hide(true)));
    rename(command.about(ABOUT).long_about(ABOUT).after_help(super::KUBECTL_EXAMPLES))
}

const ABOUT: &str = "\
Joins Kubernetes clusters over encrypted tunnels, and shows and mends what joins them.";

/// Says `kubectl linkspan` wherever help says `linkspan`.
fn rename(command: Command) -> Command {
    let names: Vec<String> = command.get_subcommands().map(|sub| sub.get_name().to_owned()).collect();
    let command = names.iter().fold(command, |command, name| command.mut_subcommand(name, rename));
    let said = command.get_after_help().map(|help| spoken(&help.to_string()));
    match said {
        Some(help) => command.after_help(help),
        None => command,
    }
}

/// Lines and quotes that begin with the program's name.
fn spoken(help: &str) -> String {
    let said = help.replace("`linkspan ", "`kubectl linkspan ").replace("&& linkspan ", "&& kubectl linkspan ");
    let line = |line: &str| match line.strip_prefix("  ").map(|rest| (rest, rest.trim_start())) {
        Some((rest, text)) if text.starts_with("linkspan ") => {
            format!("  {}kubectl {text}", &rest[..rest.len() - text.len()])
        }
        _ => line.to_owned(),
    };
    said.lines().map(line).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_a_plugin_by_its_file_name_alone() {
        for (program, plugin) in [("kubectl-linkspan", true), ("/usr/bin/kubectl-linkspan", true), ("linkspan", false)]
        {
            assert_eq!(is_called(Some(&program.into()), FILE), plugin, "{program}");
        }
        assert!(!is_called(None, FILE));
    }

    #[test]
    fn examples_are_told_as_they_are_typed() {
        let help = "Examples:\n  linkspan leave\n    linkspan export web\n  see `linkspan token`; linkspan stays\n  systemctl stop linkspan";
        assert_eq!(
            spoken(help),
            "Examples:\n  kubectl linkspan leave\n    kubectl linkspan export web\n  see `kubectl linkspan token`; linkspan \
             stays\n  systemctl stop linkspan"
        );
    }
}
