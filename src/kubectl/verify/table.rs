//! How outcomes are shown.

use super::judge::Outcome;
use crate::kubectl::output::{self, Field, Format, Listing, Screen, Tone};

/// All outcomes in a format.
///
/// # Errors
/// Never in practice: outcomes have a form in JSON and YAML.
pub fn render(outcomes: &[Outcome], format: Format, screen: Screen) -> anyhow::Result<String> {
    match format {
        Format::Json => return output::json(&outcomes),
        Format::Yaml => return output::yaml(&outcomes),
        Format::Name => {
            let failed = outcomes.iter().filter(|outcome| !outcome.ok);
            return Ok(failed.map(|outcome| format!("{} {} {}\n", outcome.from, outcome.to, outcome.target)).collect());
        }
        Format::Table | Format::Wide => {}
    }
    let mut listing = Listing::new(&["RESULT", "PROOF", "FROM", "TO", "DETAIL"], &["TARGET"]);
    for outcome in outcomes {
        let result = if outcome.ok { Field::new("ok", Tone::Good) } else { Field::new("FAILED", Tone::Bad) };
        let Outcome { proof, from, to, target, detail, .. } = outcome;
        listing.rows.push(vec![result, proof.into(), from.into(), to.into(), detail.into(), target.into()]);
    }
    Ok(listing.draw(format, screen))
}
