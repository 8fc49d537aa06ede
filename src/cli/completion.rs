//! `linkspan completion`, and what kubectl asks for when a person presses Tab after `kubectl linkspan`.

use std::ffi::OsString;

use clap::builder::ValueHint;
use clap::{Arg, Args as ClapArgs, Command};
use clap_complete::Shell;

use crate::kubectl::contexts;

/// The file name by which kubectl finds completions of the plugin.
pub(super) const FILE: &str = "kubectl_complete-linkspan";
/// What follows the proposals: whether the shell may propose files, too (`ShellCompDirective` of spf13/cobra).
const FILES: &str = ":0\n";
const NO_FILES: &str = ":4\n";

const EXAMPLES: &str = "\
Examples:
  source <(linkspan completion bash)
  linkspan completion zsh > \"${fpath[1]}/_linkspan\"
  linkspan completion fish > ~/.config/fish/completions/linkspan.fish

For `kubectl linkspan`, kubectl's own completion asks a program kubectl_complete-linkspan on the PATH, which is this one by
another name:
  ln -s \"$(command -v linkspan)\" /usr/local/bin/kubectl_complete-linkspan";

/// Print completions for a shell.
#[derive(Debug, ClapArgs)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// The shell.
    #[arg(value_enum, value_name = "SHELL")]
    shell: Shell,
}

pub(super) fn run(args: Args, mut command: Command) -> anyhow::Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut command, "linkspan", &mut script);
    super::print(&String::from_utf8_lossy(&script))
}

/// Answers kubectl: proposals, one a line, for the last of the words that were typed.
pub(super) fn complete(mut command: Command, words: &[OsString]) -> anyhow::Result<()> {
    command.build();
    let words: Vec<String> = words.iter().map(|word| word.to_string_lossy().into_owned()).collect();
    let (proposals, directive) = propose(&command, &words, contexts::known);
    super::print(&(proposals.into_iter().map(|proposal| proposal + "\n").collect::<String>() + directive))
}

/// Proposals for the last word, and what the shell may add.
fn propose(
    command: &Command,
    words: &[String],
    known_contexts: impl Fn() -> Vec<String>,
) -> (Vec<String>, &'static str) {
    let Some((last, before)) = words.split_last() else { return (Vec::new(), NO_FILES) };
    let (mut command, mut option, mut positionals) = (command, None::<&Arg>, 0_usize);
    for word in before {
        option = match (option, word.starts_with('-')) {
            (Some(_), _) => None,
            (None, true) => {
                find(command, word).filter(|option| option.get_action().takes_values() && !word.contains('='))
            }
            (None, false) => {
                match command.find_subcommand(word) {
                    Some(sub) => (command, positionals) = (sub, 0),
                    None => positionals += 1,
                }
                None
            }
        };
    }
    let (argument, begun) = match (option, last.split_once('=')) {
        (Some(option), _) => (Some(option), last.as_str()),
        (None, Some((name, value))) if name.starts_with('-') => (find(command, name), value),
        (None, _) if last.starts_with('-') => return (options(command, last), NO_FILES),
        (None, _) => (command.get_positionals().nth(positionals), last.as_str()),
    };
    let prefix = &last[..last.len() - begun.len()];
    let mut proposals = argument.map(|argument| values(argument, &known_contexts)).unwrap_or_default();
    if option.is_none() && prefix.is_empty() {
        proposals.extend(visible(command));
    }
    proposals.retain(|proposal| proposal.starts_with(begun));
    let is_file = argument.is_some_and(|argument| {
        argument.get_value_hint() != ValueHint::Unknown
            || argument.get_value_names().is_some_and(|names| names[0] == "FILE")
    });
    let proposals = proposals.into_iter().map(|proposal| format!("{prefix}{proposal}")).collect();
    (proposals, if is_file { FILES } else { NO_FILES })
}

fn find<'a>(command: &'a Command, word: &str) -> Option<&'a Arg> {
    let name = word.split('=').next().unwrap_or(word);
    command.get_arguments().find(|argument| {
        argument.get_long().is_some_and(|long| name.strip_prefix("--") == Some(long))
            || argument.get_short().is_some_and(|short| name.strip_prefix('-') == Some(short.to_string().as_str()))
    })
}

fn options(command: &Command, begun: &str) -> Vec<String> {
    let shown = command.get_arguments().filter(|argument| !argument.is_hide_set());
    let names = shown.filter_map(|argument| argument.get_long()).map(|long| format!("--{long}"));
    names.filter(|name| name.starts_with(begun)).collect()
}

fn values(argument: &Arg, known_contexts: &impl Fn() -> Vec<String>) -> Vec<String> {
    if matches!(argument.get_id().as_str(), "contexts" | "broker_context") {
        return known_contexts();
    }
    argument
        .get_possible_values()
        .iter()
        .filter(|value| !value.is_hide_set())
        .map(|value| value.get_name().to_owned())
        .collect()
}

fn visible(command: &Command) -> impl Iterator<Item = String> + '_ {
    command.get_subcommands().filter(|sub| !sub.is_hide_set()).map(|sub| sub.get_name().to_owned())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    fn proposed(words: &[&str]) -> (Vec<String>, &'static str) {
        let mut command = super::super::plugin::dress(super::super::Cli::command());
        command.build();
        let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        propose(&command, &words, || vec!["paris".to_owned(), "berlin".to_owned()])
    }

    #[test]
    fn commands_values_and_contexts_are_proposed() {
        assert_eq!(proposed(&["deploy"]), (vec!["deploy-broker".to_owned()], NO_FILES));
        assert_eq!(proposed(&["token", "c"]), (vec!["create".to_owned()], NO_FILES));
        assert_eq!(proposed(&["show", "ex"]), (vec!["exports".to_owned()], NO_FILES));
        assert_eq!(proposed(&["show", "-o", "j"]), (vec!["json".to_owned()], NO_FILES));
        assert_eq!(proposed(&["show", "--output=n"]), (vec!["--output=name".to_owned()], NO_FILES));
        assert_eq!(proposed(&["join", "rome", "--broker-context", "p"]), (vec!["paris".to_owned()], NO_FILES));
        assert_eq!(proposed(&["leave", "--all"]), (vec!["--all-contexts".to_owned()], NO_FILES));
        assert_eq!(proposed(&["leave", "--kubeconfig", ""]), (Vec::new(), FILES));
        assert_eq!(proposed(&["genk"]).0, [""; 0], "what is for nodes is not proposed");
    }
}
