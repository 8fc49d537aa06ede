//! The same program by its other name: as `kubectl-linkspan` on the PATH it is a plugin of kubectl.

use std::ffi::OsString;
use std::path::Path;

use clap::Command;
use clap::builder::StyledStr;

use crate::kubectl::speech::Speech;

/// The file name by which kubectl finds it.
pub(super) const FILE: &str = "kubectl-linkspan";
/// What people type.
const NAME: &str = "kubectl linkspan";
/// Commands of nodes, which nobody means who speaks through kubectl. They work nevertheless.
const OF_NODES: [&str; 14] = [
    "reference",
    "inspect",
    "count",
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
    // They are for pods, whose collector has a name in their cluster.
    let command = ["otlp_endpoint", "otlp_certificate"]
        .into_iter()
        .fold(command, |command, option| command.mut_arg(option, |arg| arg.hide(true)));
    let command = command.mut_subcommand("completion", |sub| sub.after_help(COMPLETION));
    let speech = speech(&command);
    renamed(&speech, command.about(ABOUT).long_about(ABOUT).after_help(super::KUBECTL_EXAMPLES))
}

const ABOUT: &str = "\
Joins Kubernetes clusters over encrypted tunnels, and shows and mends what joins them.";

const COMPLETION: &str = "\
Examples:
  kubectl's completion asks kubectl_complete-linkspan, which is this program by another name:
    ln -s \"$(command -v kubectl-linkspan)\" /usr/local/bin/kubectl_complete-linkspan

  What is printed is for who types kubectl-linkspan, with a hyphen:
    source <(linkspan completion bash)";

/// How users of kubectl speak of the whole command line. What nodes do, they do under the program's own name.
pub(super) fn speech(command: &Command) -> Speech {
    let names = command.get_subcommands().map(Command::get_name).filter(|name| !OF_NODES.contains(name));
    Speech::through_kubectl(names.map(str::to_owned))
}

/// Says `kubectl linkspan` wherever help says `linkspan`.
fn renamed(speech: &Speech, command: Command) -> Command {
    let names: Vec<String> = command.get_subcommands().map(|sub| sub.get_name().to_owned()).collect();
    let command = names.iter().fold(command, |command, name| command.mut_subcommand(name, |sub| renamed(speech, sub)));
    let said = |text: Option<&StyledStr>| text.map(|text| speech.spoken(&text.to_string()));
    let mut command = command.mut_args(|arg| {
        let (short, long) = (said(arg.get_help()), said(arg.get_long_help()));
        let arg = match short {
            Some(text) => arg.help(text),
            None => arg,
        };
        match long {
            Some(text) => arg.long_help(text),
            None => arg,
        }
    });
    if let Some(text) = said(command.get_about()) {
        command = command.about(text);
    }
    if let Some(text) = said(command.get_long_about()) {
        command = command.long_about(text);
    }
    match said(command.get_after_help()) {
        Some(text) => command.after_help(text),
        None => command,
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

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
    fn calls_are_told_as_they_are_typed_and_names_stay() {
        let speech = speech(&super::super::Cli::command());
        for (text, expected) in [
            ("Examples:\n  linkspan leave\n", "Examples:\n  kubectl linkspan leave\n"),
            ("made by `linkspan token create` there", "made by `kubectl linkspan token create` there"),
            ("source <(linkspan completion bash)", "source <(kubectl linkspan completion bash)"),
            ("systemctl stop linkspan && linkspan uninstall", "systemctl stop linkspan && kubectl linkspan uninstall"),
            ("X=1 linkspan show | linkspan export", "X=1 kubectl linkspan show | kubectl linkspan export"),
        ] {
            assert_eq!(speech.spoken(text), expected);
        }
        for text in [
            "see `kubectl linkspan token`",
            "ConfigMap linkspan in namespace linkspan-system",
            "`linkspan run` must have been stopped",
            "kubectl exec linkspan-node-x7k2p -- linkspan version",
            "deploy/linkspan version",
        ] {
            assert_eq!(speech.spoken(text), text);
        }
    }

    fn each(command: &mut Command, see: &mut impl FnMut(&str)) {
        see(&command.render_long_help().to_string());
        command.get_subcommands_mut().for_each(|sub| each(sub, see));
    }

    #[test]
    fn no_help_names_a_program_that_a_plugin_does_not_need() {
        let speech = speech(&super::super::Cli::command());
        let mut command = dress(super::super::Cli::command());
        command.build();
        let mut count = 0;
        each(&mut command, &mut |help| {
            count += 1;
            // Where a terminal breaks a line is no matter.
            let help = help.split_whitespace().collect::<Vec<_>>().join(" ");
            assert_eq!(speech.spoken(&help), help);
            assert!(!help.contains("command -v linkspan"), "{help}");
        });
        assert!(count > 40, "{count}");
        let help = command.render_long_help().to_string();
        assert!(!help.contains("\n  count "), "{help}");
        let unseen =
            "\n  3   of `diagnose`, `why`, `trace`, `verify` and `bench`: something could not be seen or tried\n";
        assert!(help.contains(unseen), "{help}");
    }
}
