//! The command line, as clap knows it.

use std::fmt::Write as _;

use clap::{Arg, Command};

/// All commands below this one, with their options.
pub fn commands(mut root: Command) -> String {
    root.build();
    let name = root.get_name().to_owned();
    let mut page =
        format!("# Commands of `{name}`\n\nUnder the name `kubectl-{name}` the program is a plugin of kubectl.\n");
    section(&root, "", &mut page);
    page
}

fn section(command: &Command, above: &str, page: &mut String) {
    let path = format!("{above}{}", command.get_name());
    if !above.is_empty() {
        let about = command.get_long_about().or(command.get_about()).map(ToString::to_string).unwrap_or_default();
        // Writing to a String cannot fail.
        let _ = write!(page, "\n## {path}\n\n{}\n", about.trim());
        options(command, page);
        if let Some(help) = command.get_after_help() {
            let _ = write!(page, "\n```text\n{}\n```\n", help.to_string().trim());
        }
    }
    for inner in command.get_subcommands().filter(|inner| inner.get_name() != "help" && !inner.is_hide_set()) {
        section(inner, &format!("{path} "), page);
    }
}

fn options(command: &Command, page: &mut String) {
    let of_all = ["help", "version"];
    let own = |arg: &&Arg| !of_all.contains(&arg.get_id().as_str()) && !arg.is_hide_set() && !arg.is_global_set();
    let mut arguments = command.get_arguments().filter(own).peekable();
    if arguments.peek().is_some() {
        page.push_str("\n| argument | meaning |\n|---|---|\n");
    }
    for arg in arguments {
        let help = arg.get_long_help().or(arg.get_help()).map(ToString::to_string).unwrap_or_default();
        let help = help.replace('\n', " ").replace('|', "\\|");
        let _ = writeln!(page, "| `{}` | {}{} |", spelling(arg), help.trim(), choices(arg));
    }
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
    if !defaults.is_empty() && arg.get_action().takes_values() {
        let _ = write!(text, " Default: {defaults}.");
    }
    text
}

#[cfg(test)]
mod tests {
    use clap::{Arg, ArgAction, Command};

    use super::*;

    #[test]
    fn commands_are_listed_with_their_arguments_and_hidden_ones_are_not() {
        let show = Command::new("show")
            .about("Show it.")
            .arg(Arg::new("what").help("What is\nshown.").value_parser(["all", "one"]).default_value("all"))
            .arg(Arg::new("watch").long("watch").short('w').action(ArgAction::SetTrue).help("Go on."))
            .after_help("Examples:\n  x show");
        let root = Command::new("x").subcommand(show).subcommand(Command::new("secret").hide(true));
        assert_eq!(
            commands(root),
            "# Commands of `x`\n\nUnder the name `kubectl-x` the program is a plugin of kubectl.\n\n## x show\n\nShow it.\n\n\
             | argument | meaning |\n|---|---|\n| `WHAT` | What is shown. One of: all, one. Default: all. |\n\
             | `-w, --watch` | Go on. |\n\n```text\nExamples:\n  x show\n```\n"
        );
    }
}
