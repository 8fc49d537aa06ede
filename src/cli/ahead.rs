//! Options that say which clusters, before the command: `kubectl linkspan --context paris show`, as kubectl takes them.

use std::ffi::OsString;

use clap::{Arg, Args as _, Command};

use crate::kubectl::contexts::{Contexts, Namespace};

/// These options.
pub(super) fn options() -> Command {
    Namespace::augment_args(Contexts::augment_args(Command::new("clusters")))
}

/// A word of the command line; what is no UTF-8 is none that is looked for.
pub(super) trait Word: Clone {
    fn text(&self) -> &str;
}

impl Word for String {
    fn text(&self) -> &str {
        self
    }
}

impl Word for OsString {
    fn text(&self) -> &str {
        self.to_str().unwrap_or_default()
    }
}

/// The arguments, the program's name first, as [`moved`] has them.
pub(super) fn arranged(root: &Command, mut arguments: Vec<OsString>) -> Vec<OsString> {
    let words = arguments.split_off(arguments.len().min(1));
    arguments.extend(moved(root, words));
    arguments
}

/// The words, without the program's name, with these options behind the command that they are for. Where no command
/// follows, they are left out, and clap asks for one.
pub(super) fn moved<W: Word>(root: &Command, words: Vec<W>) -> Vec<W> {
    let (movable, mut kept, mut ahead) = (options(), Vec::new(), Vec::new());
    let mut at = 0;
    while let Some(word) = words.get(at).filter(|word| word.text().starts_with('-')) {
        let (place, length) = match (length(&movable, word.text()), length(root, word.text())) {
            (Some(length), _) => (&mut ahead, length),
            (None, length) => (&mut kept, length.unwrap_or(1)),
        };
        // Its value is not there yet.
        let Some(taken) = words.get(at..at + length) else { return words };
        place.extend_from_slice(taken);
        at += length;
    }
    let mut command = root;
    let is_moved = !ahead.is_empty();
    while let Some(sub) = words.get(at).and_then(|word| command.find_subcommand(word.text())) {
        kept.push(words[at].clone());
        (command, at) = (sub, at + 1);
    }
    if is_moved && !std::ptr::eq(command, root) {
        kept.append(&mut ahead);
    }
    kept.extend_from_slice(&words[at..]);
    kept
}

/// The option of this command that a word is, with its value or without.
pub(super) fn find<'a>(command: &'a Command, word: &str) -> Option<&'a Arg> {
    let name = word.split('=').next().unwrap_or(word);
    let is_short = |short: char| name.strip_prefix('-').is_some_and(|rest| rest.starts_with(short));
    command.get_arguments().find(|argument| match name.strip_prefix("--") {
        Some(name) => argument.get_long() == Some(name),
        None => argument.get_short().is_some_and(is_short),
    })
}

/// The value that a word has with its option: `--name=value`, `-n=value` or `-nvalue`.
pub(super) fn attached(word: &str) -> Option<&str> {
    match word.split_once('=') {
        Some((_, value)) => Some(value),
        None => word.get(2..).filter(|value| !word.starts_with("--") && !value.is_empty()),
    }
}

/// How many words an option of this command takes, itself included; none where it has no such option.
fn length(command: &Command, word: &str) -> Option<usize> {
    let takes = find(command, word)?.get_action().takes_values();
    Some(if takes && attached(word).is_none() { 2 } else { 1 })
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    fn line(text: &str) -> String {
        let words: Vec<String> = text.split(' ').map(str::to_owned).collect();
        moved(&super::super::Cli::command(), words).join(" ")
    }

    #[test]
    fn options_of_clusters_go_behind_the_command() {
        for (before, after) in [
            ("--context paris show", "show --context paris"),
            ("--context=paris --as eve show exports -A", "show --context=paris --as eve exports -A"),
            ("-n default export web", "export -n default web"),
            ("-nshop export web -o json", "export -nshop web -o json"),
            ("--log debug --all-contexts token list", "--log debug token list --all-contexts"),
            ("--kubeconfig a --kubeconfig b diagnose", "diagnose --kubeconfig a --kubeconfig b"),
            ("--context x trace a to b -- curl --context y", "trace --context x a to b -- curl --context y"),
        ] {
            assert_eq!(line(before), after);
        }
    }

    #[test]
    fn everything_else_stays() {
        for text in ["show --context paris", "--log debug show", "--help", "-V", "--nonsense show", "--context"] {
            assert_eq!(line(text), text);
        }
        assert_eq!(line("--context paris --help"), "--help", "there is no command that it could be for");
        assert_eq!(line("--context paris rum"), "rum");
    }
}
