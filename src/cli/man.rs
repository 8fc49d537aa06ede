//! `linkspan man`.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::builder::{Resettable, StyledStr};
use clap::{Args as ClapArgs, Command};
use clap_mangen::Man;
use clap_mangen::roff::{Roff, roman};

const LONG: &str = "\
Write man pages, one for each command.

Those of the plugin are beside them: `man kubectl-linkspan-join` tells what `man linkspan-join` does, in kubectl's words.";

const EXAMPLES: &str = "\
Examples:
  sudo linkspan man /usr/local/share/man/man1 && man linkspan-join
  linkspan man ~/.local/share/man/man1 && man kubectl-linkspan-why";

/// Write man pages, one for each command.
#[derive(Debug, ClapArgs)]
#[command(long_about = LONG, after_help = EXAMPLES)]
pub(super) struct Args {
    /// The folder; it is made where it is not there.
    #[arg(value_name = "FOLDER")]
    folder: PathBuf,
}

/// Writes the pages of these command lines: of the program by both its names.
pub(super) fn run(args: Args, commands: [Command; 2]) -> anyhow::Result<()> {
    let shown = args.folder.display();
    std::fs::create_dir_all(&args.folder).with_context(|| format!("failed to make {shown}"))?;
    commands.into_iter().try_for_each(|command| {
        let mut command = command.disable_help_subcommand(true);
        command.build();
        write(&command, &args.folder).with_context(|| format!("failed to write man pages into {shown}"))
    })
}

fn write(command: &Command, folder: &Path) -> std::io::Result<()> {
    let man = Man::new(command.clone().after_help(Resettable::<StyledStr>::Reset));
    let mut file = std::fs::File::create(folder.join(man.get_filename()))?;
    man.source(format!("Linkspan {}", crate::status::VERSION)).manual("Linkspan").render(&mut file)?;
    if let Some(help) = command.get_after_help() {
        sections(&help.to_string()).to_writer(&mut file)?;
    }
    command.get_subcommands().filter(|sub| !sub.is_hide_set()).try_for_each(|sub| write(sub, folder))
}

/// What stands behind the options in the help: each heading begins a section, and what is indented below it keeps its lines.
fn sections(help: &str) -> Roff {
    let mut roff = Roff::new();
    let mut is_open = false;
    let mut keeps_lines = false;
    for line in help.lines() {
        let is_prose = !line.starts_with(' ') && !line.is_empty();
        if is_prose && keeps_lines {
            roff.control("EE", []);
            keeps_lines = false;
        }
        match line.strip_suffix(':').filter(|_| is_prose) {
            Some(heading) => {
                roff.control("SH", [heading.to_uppercase().as_str()]);
            }
            None if is_prose => {
                // A sentence of its own goes with what is before it.
                roff.control(if is_open { "PP" } else { "SH" }, (!is_open).then_some("NOTES"));
                roff.text([roman(line)]);
            }
            None if keeps_lines => {
                roff.text([roman(line)]);
            }
            None if !line.is_empty() => {
                roff.control("EX", []).text([roman(line)]);
                keeps_lines = true;
            }
            None => {}
        }
        is_open = true;
    }
    if keeps_lines {
        roff.control("EE", []);
    }
    roff
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headings_are_sections_and_examples_keep_their_lines() {
        let help = "Examples:\n  first:\n    linkspan a\n\n  .x\n\nIt needs a right.\n\nExit codes:\n  0   done";
        assert_eq!(
            sections(help).to_roff(),
            ".SH EXAMPLES\n.EX\n  first:\n    linkspan a\n\n  .x\n\n.EE\n.PP\nIt needs a right.\n.SH \"EXIT CODES\"\n.EX\n  0   \
             done\n.EE\n"
        );
        assert_eq!(sections("A sentence.").to_roff(), ".SH NOTES\nA sentence.\n");
    }
}
