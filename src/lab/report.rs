//! What the proofs found: rows for one table, and the same as JSON.

use comfy_table::{Cell, Color, ContentArrangement, Table, presets};
use serde::Serialize;

/// One checked promise.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Row {
    /// What was checked.
    pub check: String,
    /// From where.
    pub from: String,
    /// To where.
    pub to: String,
    /// Whether it held.
    pub passed: bool,
    /// What was found, for people.
    pub result: String,
    /// Each single failure.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub failures: Vec<String>,
}

impl Row {
    /// A row about one thing.
    pub fn new(check: &str, from: &str, to: &str, found: Result<String, String>) -> Self {
        let passed = found.is_ok();
        let result = found.unwrap_or_else(|error| error);
        Self { check: check.into(), from: from.into(), to: to.into(), passed, result, failures: Vec::new() }
    }

    /// A row about `total` like things; `unit` says what they are, `failures` those that went wrong.
    pub fn counted(check: &str, from: &str, to: &str, total: usize, unit: &str, failures: Vec<String>) -> Self {
        let good = total.saturating_sub(failures.len());
        Self {
            check: check.into(),
            from: from.into(),
            to: to.into(),
            // A check of nothing proves nothing.
            passed: failures.is_empty() && total > 0,
            result: format!("{good}/{total} {unit}"),
            failures,
        }
    }
}

/// All rows of a run.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Report {
    /// In the order of the checks.
    pub rows: Vec<Row>,
}

/// How many failures of one row the table lists.
const SHOWN: usize = 5;

impl Report {
    /// Whether every promise held, and there was at least one.
    pub fn passed(&self) -> bool {
        !self.rows.is_empty() && self.rows.iter().all(|row| row.passed)
    }

    /// The rows whose check bears this name.
    pub fn of<'a>(&'a self, check: &'a str) -> impl Iterator<Item = &'a Row> {
        self.rows.iter().filter(move |row| row.check == check)
    }

    /// `{"passed": …, "rows": […]}`.
    pub fn json(&self) -> serde_json::Value {
        serde_json::json!({ "passed": self.passed(), "rows": self.rows })
    }

    /// The table for people. Colours appear on a terminal only.
    pub fn table(&self) -> Table {
        let mut table = Table::new();
        table.load_style(presets::UTF8_FULL_CONDENSED).set_content_arrangement(ContentArrangement::Dynamic);
        table.set_header(["check", "from", "to", "", "result"]);
        for row in &self.rows {
            let mut result = row.result.clone();
            row.failures.iter().take(SHOWN).for_each(|failure| result += &format!("\n{failure}"));
            if row.failures.len() > SHOWN {
                result += &format!("\nand {} more (-o json lists all)", row.failures.len() - SHOWN);
            }
            let mark = if row.passed { Cell::new("ok").fg(Color::Green) } else { Cell::new("FAILED").fg(Color::Red) };
            table.add_row([Cell::new(&row.check), Cell::new(&row.from), Cell::new(&row.to), mark, Cell::new(result)]);
        }
        table
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_passes_when_every_row_does_and_there_is_one() {
        assert!(!Report::default().passed());
        let good = Row::new("ping", "a", "b", Ok("1 ms".into()));
        assert!(Report { rows: vec![good.clone()] }.passed());
        assert!(!Report { rows: vec![good, Row::new("ping", "a", "b", Err("lost".into()))] }.passed());
    }

    #[test]
    fn counted_rows_tell_how_many_went_well() {
        let row = Row::counted("tcp", "a", "b", 3, "pairs", vec!["one".into()]);
        assert_eq!((row.passed, row.result.as_str()), (false, "2/3 pairs"));
        assert!(!Row::counted("tcp", "a", "b", 0, "pairs", Vec::new()).passed);
    }

    #[test]
    fn the_table_lists_failures_and_counts_those_it_leaves_out() {
        let failures = (1..=7).map(|n| format!("failure {n}")).collect();
        let report = Report { rows: vec![Row::counted("tcp", "a", "b", 9, "pairs", failures)] };
        let text = report.table().to_string();
        assert!(text.contains("failure 5") && !text.contains("failure 6") && text.contains("and 2 more"), "{text}");
        assert!(text.contains("FAILED"));
    }
}
