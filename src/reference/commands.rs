//! The command line, as clap knows it.

use std::fmt::Write as _;

use clap::{Arg, Command};

/// Longest line of a paragraph, in columns.
const WIDTH: usize = 120;

/// A command with what all below it have in common, and these with their options.
pub fn commands(mut root: Command) -> String {
    root.build();
    let name = root.get_name();
    let mut page =
        format!("# Commands of `{name}`\n\nUnder the name `kubectl-{name}` the program is a plugin of kubectl.\n");
    about(&root, &mut page);
    if root.get_arguments().any(is_common) {
        page.push_str("\nAll commands take:\n");
    }
    options(root.get_arguments().filter(|arg| is_common(arg)), &mut page);
    examples(&root, &mut page);
    below(&root, name, &mut page);
    page
}

fn below(command: &Command, path: &str, page: &mut String) {
    for inner in command.get_subcommands().filter(|inner| inner.get_name() != "help" && !inner.is_hide_set()) {
        let path = format!("{path} {}", inner.get_name());
        // Writing to a String cannot fail.
        let _ = write!(page, "\n## {path}\n");
        about(inner, page);
        options(inner.get_arguments().filter(|arg| !arg.is_global_set()), page);
        examples(inner, page);
        below(inner, &path, page);
    }
}

fn is_common(arg: &Arg) -> bool {
    arg.is_global_set()
}

fn about(command: &Command, page: &mut String) {
    if let Some(text) = command.get_long_about().or(command.get_about()) {
        let _ = write!(page, "\n{}\n", wrapped(&sentence(&text.to_string())));
    }
}

/// What stands below the options: examples, exit codes, environment.
fn examples(command: &Command, page: &mut String) {
    if let Some(help) = command.get_after_help() {
        let _ = write!(page, "\n```text\n{}\n```\n", wrapped(help.to_string().trim()));
    }
}

/// Paragraphs in lines that can be read; indented lines are left as they are.
fn wrapped(text: &str) -> String {
    let mut lines: Vec<String> = Vec::new();
    for line in text.lines() {
        if line.starts_with(' ') {
            lines.push(line.to_owned());
            continue;
        }
        let mut words = line.split(' ');
        let mut current = words.next().unwrap_or_default().to_owned();
        for word in words {
            if current.len() + word.len() < WIDTH {
                current = format!("{current} {word}");
            } else {
                lines.push(std::mem::replace(&mut current, word.to_owned()));
            }
        }
        lines.push(current);
    }
    lines.join("\n")
}

fn options<'a>(arguments: impl Iterator<Item = &'a Arg>, page: &mut String) {
    let is_own = |arg: &&Arg| !["help", "version"].contains(&arg.get_id().as_str()) && !arg.is_hide_set();
    let mut arguments = arguments.filter(is_own).peekable();
    if arguments.peek().is_some() {
        page.push_str("\n| argument | meaning |\n|---|---|\n");
    }
    for arg in arguments {
        let help = arg.get_long_help().or(arg.get_help()).map(ToString::to_string).unwrap_or_default();
        let help = sentence(&help.replace('\n', " ").replace('|', "\\|"));
        let _ = writeln!(page, "| `{}` | {help}{} |", spelling(arg), choices(arg));
    }
}

/// clap takes the last full stop away.
fn sentence(text: &str) -> String {
    let text = text.trim();
    if text.is_empty() || text.ends_with(['.', '?', '!']) { text.to_owned() } else { format!("{text}.") }
}

fn spelling(arg: &Arg) -> String {
    let takes = arg.get_action().takes_values();
    let names = arg.get_value_names().unwrap_or_default();
    let values = names.iter().map(|name| name.to_string()).collect::<Vec<_>>().join(" ");
    let value = if values.is_empty() { arg.get_id().as_str().to_uppercase() } else { values };
    match (arg.get_short(), arg.get_long()) {
        (None, None) => value,
        (short, long) => {
            let short = short.map(|short| format!("-{short}"));
            let long = long.map(|long| format!("--{long}"));
            let flags = short.into_iter().chain(long).collect::<Vec<_>>().join(", ");
            if takes { format!("{flags} {value}") } else { flags }
        }
    }
}

fn choices(arg: &Arg) -> String {
    let defaults = arg.get_default_values().iter().map(|value| value.to_string_lossy().into_owned());
    let defaults = defaults.collect::<Vec<_>>().join(", ");
    let possible = arg.get_possible_values();
    let possible = possible.iter().filter(|value| !value.is_hide_set()).map(|value| value.get_name());
    let possible = possible.collect::<Vec<_>>().join(", ");
    let mut text = String::new();
    if !possible.is_empty() && arg.get_action().takes_values() {
        let _ = write!(text, " One of: {possible}.");
    }
    if !defaults.is_empty() && arg.get_action().takes_values() && !arg.is_hide_default_value_set() {
        let _ = write!(text, " Default: {defaults}.");
    }
    text
}

#[cfg(test)]
mod tests {
    use clap::{Arg, ArgAction, Command};

    use super::*;

    #[test]
    fn paragraphs_become_lines_and_examples_stay() {
        let word = "x".repeat(59);
        let text = format!("{word} {word} {word}\n\nExamples:\n  {word} {word} {word}");
        let lines = format!("{word} {word}\n{word}\n\nExamples:\n  {word} {word} {word}");
        assert_eq!(wrapped(&text), lines);
    }

    #[test]
    fn commands_are_listed_with_their_arguments_and_hidden_ones_are_not() {
        let show = Command::new("show")
            .about("Show it.")
            .arg(Arg::new("what").help("What is\nshown.").value_parser(["all", "one"]).default_value("all"))
            .arg(Arg::new("watch").long("watch").short('w').action(ArgAction::SetTrue).help("Go on"))
            .arg(Arg::new("port").long("port").help("Default: a free one").default_value("0").hide_default_value(true))
            .arg(Arg::new("size").long("size").value_name("BYTES").help("Of each").default_value("64"))
            .after_help("Examples:\n  x show");
        let log = Arg::new("log").long("log").global(true).help("How much").default_value("info");
        let root = Command::new("x").about("Do it.").arg(log).after_help("Exit codes:\n  0  done");
        let root = root.subcommand(show).subcommand(Command::new("secret").hide(true));
        assert_eq!(
            commands(root),
            "# Commands of `x`\n\nUnder the name `kubectl-x` the program is a plugin of kubectl.\n\nDo it.\n\n\
             All commands take:\n\n| argument | meaning |\n|---|---|\n| `--log LOG` | How much. Default: info. |\n\n\
             ```text\nExit codes:\n  0  done\n```\n\n## x show\n\nShow it.\n\n\
             | argument | meaning |\n|---|---|\n| `WHAT` | What is shown. One of: all, one. Default: all. |\n\
             | `-w, --watch` | Go on. |\n| `--port PORT` | Default: a free one. |\n\
             | `--size BYTES` | Of each. Default: 64. |\n\n```text\nExamples:\n  x show\n```\n"
        );
    }
}
