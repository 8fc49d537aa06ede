//! How commands show what they have: for people or for programs, in colour or not, and how far they are.

use std::fmt;
use std::io::{IsTerminal as _, Write as _};
use std::os::fd::AsFd as _;
use std::time::Duration;

use anyhow::Context as _;
use clap::ValueEnum;
use comfy_table::{Cell, Color, ContentArrangement, Table, presets};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use tokio::io::Interest;
use tokio::net::unix::pipe;

/// What `-o` takes, as kubectl has it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    #[default]
    Table,
    /// For people, with more columns.
    Wide,
    /// For programs.
    Json,
    /// For both.
    Yaml,
    /// Names alone, KIND/NAME, one a line.
    Name,
}

impl Format {
    /// Whether it is a table, for people.
    pub fn is_table(self) -> bool {
        matches!(self, Self::Table | Self::Wide)
    }
}

/// How a value is to be taken; a colour on terminals that want it, and never the only sign.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Tone {
    /// As it should be.
    Good,
    /// It may become bad.
    Warning,
    /// As it should not be.
    Bad,
    /// Neither.
    #[default]
    Plain,
}

/// One value in a table.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Field {
    /// What is printed; `-` where it is empty.
    pub text: String,
    /// How it is to be taken.
    pub tone: Tone,
}

impl Field {
    /// A value with a tone.
    pub fn new(text: impl Into<String>, tone: Tone) -> Self {
        Self { text: text.into(), tone }
    }
}

impl<T: fmt::Display> From<T> for Field {
    fn from(value: T) -> Self {
        Self { text: value.to_string(), tone: Tone::Plain }
    }
}

/// Rows under a head, as kubectl prints them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Listing {
    /// Titles, in capitals.
    pub columns: Vec<&'static str>,
    /// Titles of further columns for `-o wide`.
    pub wide: Vec<&'static str>,
    /// Values: first those of `columns`, then those of `wide`.
    pub rows: Vec<Vec<Field>>,
}

/// Where a table goes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Screen {
    /// Whether tones are shown in colour.
    pub colour: bool,
    /// Columns of the terminal, where there is one: longer lines are broken.
    pub width: Option<u16>,
}

impl Screen {
    /// Standard output. Colour only on a terminal, and not where NO_COLOR is set to anything but an empty text
    /// (<https://no-color.org>).
    pub fn of_stdout() -> Self {
        let terminal = std::io::stdout().is_terminal();
        Self {
            colour: terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()),
            width: terminal_width(),
        }
    }
}

/// Columns of the terminal, where standard output is one that has any: those that `script` makes, or a CI, say 0.
pub fn terminal_width() -> Option<u16> {
    let width = std::io::stdout().is_terminal().then(|| Table::new().width()).flatten();
    width.filter(|width| *width > 0)
}

impl Listing {
    /// Without rows.
    pub fn new(columns: &[&'static str], wide: &[&'static str]) -> Self {
        Self { columns: columns.to_vec(), wide: wide.to_vec(), rows: Vec::new() }
    }

    /// The table, ending with a line break; empty without rows.
    pub fn draw(&self, format: Format, screen: Screen) -> String {
        if self.rows.is_empty() {
            return String::new();
        }
        let shown = if format == Format::Wide { self.columns.len() + self.wide.len() } else { self.columns.len() };
        let mut table = Table::new();
        table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
        // Without a terminal, lines are as long as they need to be, for grep and awk.
        match screen.width {
            Some(width) => table.set_width(width),
            None => table.set_content_arrangement(ContentArrangement::Disabled),
        };
        if screen.colour {
            table.enforce_styling();
        }
        table.set_header(self.columns.iter().chain(&self.wide).take(shown).copied());
        for row in &self.rows {
            table.add_row(row.iter().take(shown).map(|field| cell(field, screen.colour)));
        }
        for column in table.column_iter_mut() {
            column.set_padding((0, 2));
        }
        format!("{}\n", table.trim_fmt())
    }
}

fn cell(field: &Field, colour: bool) -> Cell {
    let cell = Cell::new(if field.text.is_empty() { "-" } else { &field.text });
    match (colour, field.tone) {
        (false, _) | (true, Tone::Plain) => cell,
        (true, Tone::Good) => cell.fg(Color::Green),
        (true, Tone::Warning) => cell.fg(Color::Yellow),
        (true, Tone::Bad) => cell.fg(Color::Red),
    }
}

/// A value as JSON with a line break at its end.
///
/// # Errors
/// It has no form in JSON.
pub fn json(value: &impl Serialize) -> anyhow::Result<String> {
    Ok(format!("{}\n", serde_json::to_string_pretty(value)?))
}

/// A value as YAML.
///
/// # Errors
/// It has no form in YAML.
pub fn yaml(value: &impl Serialize) -> anyhow::Result<String> {
    serde_saphyr::to_string(value).context("it cannot be written as YAML")
}

/// What came of writing to standard output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Written {
    /// All was written.
    Whole,
    /// Who read it, such as `head`, has gone.
    NobodyReads,
}

/// Writes to standard output, for who goes on afterwards.
///
/// # Errors
/// Standard output cannot be written.
pub fn write(text: &str) -> anyhow::Result<Written> {
    let mut stdout = std::io::stdout();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(Written::NobodyReads),
        written => Ok(written.map(|()| Written::Whole)?),
    }
}

/// Writes to standard output. That a reader such as `head` went away is no failure.
///
/// # Errors
/// Standard output cannot be written.
pub fn print(text: &str) -> anyhow::Result<()> {
    write(text).map(drop)
}

/// Until the reader of standard output has gone; for ever where it is no pipe.
pub async fn nobody_reads() {
    // It is only waited for, so that it does not have to be non-blocking. A file cannot be waited for.
    let stdout = std::io::stdout().as_fd().try_clone_to_owned().and_then(pipe::Sender::from_owned_fd_unchecked);
    if let Ok(stdout) = stdout {
        while let Ok(ready) = stdout.ready(Interest::ERROR).await {
            if ready.is_error() {
                return;
            }
            tokio::task::yield_now().await;
        }
    }
    std::future::pending().await
}

/// What is being done, on standard error while that is a terminal; elsewhere nothing is shown.
pub struct Progress(ProgressBar);

impl Progress {
    /// Shows what is done first.
    pub fn start(what: impl Into<String>) -> Self {
        let bar = if std::io::stderr().is_terminal() {
            let bar = ProgressBar::new_spinner();
            if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} {elapsed:.dim}") {
                bar.set_style(style);
            }
            bar.enable_steady_tick(Duration::from_millis(100));
            bar
        } else {
            ProgressBar::hidden()
        };
        bar.set_message(what.into());
        Self(bar)
    }

    /// Shows what is done now.
    pub fn now(&self, what: impl Into<String>) {
        self.0.set_message(what.into());
    }

    /// Prints a line to standard output that stays, above what is being done.
    ///
    /// # Errors
    /// Standard output cannot be written.
    pub fn line(&self, text: &str) -> anyhow::Result<()> {
        self.0.suspend(|| print(&format!("{text}\n")))
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listing() -> Listing {
        let mut listing = Listing::new(&["CLUSTER", "STATE"], &["KEY"]);
        listing.rows.push(vec!["paris".into(), Field::new("up", Tone::Good), "abc".into()]);
        listing.rows.push(vec!["berlin-2".into(), Field::new("down", Tone::Bad), "".into()]);
        listing
    }

    #[test]
    fn columns_stand_below_each_other_and_wide_ones_only_when_asked_for() {
        let plain = Screen::default();
        assert_eq!(listing().draw(Format::Table, plain), "CLUSTER   STATE\nparis     up\nberlin-2  down\n");
        assert_eq!(
            listing().draw(Format::Wide, plain),
            "CLUSTER   STATE  KEY\nparis     up     abc\nberlin-2  down   -\n"
        );
        assert_eq!(Listing::new(&["CLUSTER"], &[]).draw(Format::Table, plain), "");
    }

    #[test]
    fn colour_is_used_only_where_it_is_wanted() {
        let drawn = |colour| listing().draw(Format::Table, Screen { colour, width: None });
        assert!(!drawn(false).contains('\u{1b}'));
        assert!(drawn(true).contains('\u{1b}'));
    }
}
