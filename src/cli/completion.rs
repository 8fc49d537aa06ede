//! `linkspan completion`, and what kubectl asks for when a person presses Tab after `kubectl linkspan`.

mod names;

use std::ffi::OsString;

use clap::builder::ValueHint;
use clap::{Arg, Args as ClapArgs, Command, CommandFactory as _};
use clap_complete::Shell;

use self::names::{Question, Wanted};
use super::{Cli, ahead, plugin};
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

For `kubectl linkspan`, kubectl's own completion asks a program kubectl_complete-linkspan on the PATH, which is this one by \
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

pub(super) fn run(args: Args, is_plugin: bool) -> anyhow::Result<()> {
    let (mut command, name) = match is_plugin {
        true => (hinted(plugin::dress(Cli::command())), plugin::FILE),
        false => (hinted(Cli::command()), "linkspan"),
    };
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut command, name, &mut script);
    super::print(&String::from_utf8_lossy(&script))
}

/// Arguments that are no files are not completed with the names of files.
fn hinted(command: Command) -> Command {
    let names: Vec<String> = command.get_subcommands().map(|sub| sub.get_name().to_owned()).collect();
    let command = names.iter().fold(command, |command, name| command.mut_subcommand(name, hinted));
    command.mut_args(|arg| match (arg.get_value_hint(), first_value_name(&arg)) {
        // clap says of every path that it may be any.
        (ValueHint::Unknown | ValueHint::AnyPath, "FILE" | "PATH") => arg.value_hint(ValueHint::FilePath),
        (ValueHint::Unknown | ValueHint::AnyPath, "FOLDER") => arg.value_hint(ValueHint::DirPath),
        (ValueHint::Unknown, _) if arg.get_action().takes_values() => arg.value_hint(ValueHint::Other),
        _ => arg,
    })
}

fn first_value_name(arg: &Arg) -> &str {
    arg.get_value_names().and_then(|names| names.first()).map_or("", |name| name.as_str())
}

/// Answers kubectl: proposals, one a line, for the last of the words that were typed.
pub(super) fn complete(command: Command, words: &[OsString]) -> anyhow::Result<()> {
    let mut command = hinted(command);
    command.build();
    let words: Vec<String> = words.iter().map(|word| word.to_string_lossy().into_owned()).collect();
    let (proposals, directive) = propose(&command, &words, names::ask);
    super::print(&(proposals.into_iter().map(|proposal| proposal + "\n").collect::<String>() + directive))
}

/// What was typed before the last word.
struct Typed<'a> {
    /// Names of the command and those above it, with blanks between.
    path: String,
    command: &'a Command,
    /// The option whose value the last word is.
    pending: Option<&'a Arg>,
    /// How many positional arguments there are already.
    positionals: usize,
    /// After `--` there are no options.
    escaped: bool,
    given: Vec<(&'a Arg, String)>,
}

impl<'a> Typed<'a> {
    fn read(root: &'a Command, of_contexts: &'a Command, words: &[String]) -> Self {
        let mut typed = Self {
            path: String::new(),
            command: root,
            pending: None,
            positionals: 0,
            escaped: false,
            given: Vec::new(),
        };
        for word in words {
            typed.take(of_contexts, word);
        }
        typed
    }

    fn take(&mut self, of_contexts: &'a Command, word: &str) {
        if let Some(option) = self.pending.take() {
            self.given.push((option, word.to_owned()));
            return;
        }
        match word {
            _ if self.escaped || !self.is_option(word) => self.take_positional(word),
            "--" => (self.escaped, self.positionals) = (true, 0),
            _ => {
                let Some(option) = self.find(of_contexts, word) else { return };
                match ahead::attached(word) {
                    Some(value) => self.given.push((option, value.to_owned())),
                    None if option.get_action().takes_values() && !option.is_require_equals_set() => {
                        self.pending = Some(option);
                    }
                    None => self.given.push((option, String::new())),
                }
            }
        }
    }

    /// Arrows begin with a hyphen, too.
    fn is_option(&self, word: &str) -> bool {
        word.starts_with('-')
            && !self.positional().is_some_and(|next| next.is_allow_hyphen_values_set() && word == "->")
    }

    fn take_positional(&mut self, word: &str) {
        match self.command.find_subcommand(word) {
            Some(sub) if !self.escaped => {
                self.path = format!("{} {}", self.path, sub.get_name()).trim().to_owned();
                (self.command, self.positionals) = (sub, 0);
            }
            _ => self.positionals += 1,
        }
    }

    fn find(&self, of_contexts: &'a Command, word: &str) -> Option<&'a Arg> {
        ahead::find(self.command, word).or_else(|| ahead::find(of_contexts, word).filter(|_| self.path.is_empty()))
    }

    /// The positional argument that comes next; the last one again where it takes many.
    fn positional(&self) -> Option<&'a Arg> {
        let all: Vec<&Arg> = self.command.get_positionals().filter(|arg| arg.is_last_set() == self.escaped).collect();
        let is_many = |arg: &&&Arg| arg.get_num_args().is_some_and(|count| count.max_values() > 1);
        all.get(self.positionals).or_else(|| all.last().filter(is_many)).copied()
    }

    /// What is asked for the values of an argument that only a kubeconfig or an API server knows.
    fn question(&self, argument: &Arg) -> Option<Question> {
        let wanted = Wanted::of(&self.path, argument.get_id().as_str())?;
        let given = self.given.iter().map(|(arg, value)| (arg.get_id().to_string(), arg.get_long(), value.as_str()));
        Some(Question::new(wanted, given))
    }
}

/// Proposals for the last word, and what the shell may add.
fn propose(command: &Command, words: &[String], ask: impl Fn(&Question) -> Vec<String>) -> (Vec<String>, &'static str) {
    let Some((last, before)) = words.split_last() else { return (Vec::new(), NO_FILES) };
    let before = ahead::moved(command, before.to_vec());
    let of_contexts = ahead::options();
    let typed = Typed::read(command, &of_contexts, &before);
    let (argument, begun) = match (typed.pending, last.split_once('=')) {
        (Some(option), _) => (Some(option), last.as_str()),
        (None, Some((name, value))) if name.starts_with('-') && !typed.escaped => {
            (typed.find(&of_contexts, name), value)
        }
        (None, _) if last.starts_with('-') && !typed.escaped => return (options(&typed, last), NO_FILES),
        (None, _) => (typed.positional(), last.as_str()),
    };
    let is_list = argument.is_some_and(|argument| argument.get_value_delimiter() == Some(','));
    let begun = begun.rsplit_once(',').filter(|_| is_list).map_or(begun, |(_, begun)| begun);
    let prefix = &last[..last.len() - begun.len()];
    let mut proposals = argument.map(|argument| values(argument, &typed, ask)).unwrap_or_default();
    if typed.pending.is_none() && prefix.is_empty() {
        proposals.extend(visible(typed.command));
    }
    let before = prefix.split_once('=').map_or(prefix, |(_, value)| value);
    proposals.retain(|one| one.starts_with(begun) && !before.split(',').any(|before| before == one));
    let is_file =
        argument.is_some_and(|argument| matches!(argument.get_value_hint(), ValueHint::FilePath | ValueHint::DirPath));
    let proposals = proposals.into_iter().map(|proposal| format!("{prefix}{proposal}")).collect();
    (proposals, if is_file { FILES } else { NO_FILES })
}

fn options(typed: &Typed<'_>, begun: &str) -> Vec<String> {
    let shown = typed.command.get_arguments().filter(|argument| !argument.is_hide_set());
    let names = shown.filter_map(|argument| argument.get_long()).map(|long| format!("--{long}"));
    names.filter(|name| name.starts_with(begun)).collect()
}

fn values(argument: &Arg, typed: &Typed<'_>, ask: impl Fn(&Question) -> Vec<String>) -> Vec<String> {
    if let Some(question) = typed.question(argument) {
        return ask(&question);
    }
    if !argument.get_action().takes_values() {
        return Vec::new();
    }
    let possible = argument.get_possible_values();
    possible.iter().filter(|value| !value.is_hide_set()).map(|value| value.get_name().to_owned()).collect()
}

fn visible(command: &Command) -> impl Iterator<Item = String> + '_ {
    command.get_subcommands().filter(|sub| !sub.is_hide_set()).map(|sub| sub.get_name().to_owned())
}

#[cfg(test)]
mod tests;
