//! The proofs: each takes a lab that is up and gives rows. A check that goes wrong is a row that failed; an error means
//! that the check itself could not be made.

mod back;
mod egress;
mod failover;
mod load;
mod names;
mod reach;
mod speed;

use anyhow::Result;

pub use back::{callback, hops};
pub use egress::{egress, isolation};
pub use failover::failover;
pub use names::{http, names};
pub use reach::reach;
pub use speed::speed;

use super::{Lab, Report, Row, Site};

/// A proof: its name for progress, and what it does.
pub type Proof = (&'static str, fn(&mut Lab) -> Result<Vec<Row>>);

/// What is proven before Linkspan starts: that the lab gives nothing away for free.
pub const BEFORE: &[Proof] = &[("the sites are apart without Linkspan", isolation)];

/// What is proven once it runs, in this order.
pub const AFTER: &[Proof] = &[
    ("every pod reaches every pod, by its own address", reach),
    ("the sites' own masquerade still works", egress),
    ("names", names),
    ("HTTP by name", http),
    ("a server that calls its client back", callback),
    ("the hops on the way", hops),
    ("speed", speed),
    ("failover", failover),
];

/// Runs proofs one after the other. `progress` is told the name of each before it starts.
///
/// # Errors
/// A proof could not be made.
pub fn run(lab: &mut Lab, proofs: &[Proof], mut progress: impl FnMut(&str)) -> Result<Report> {
    let mut report = Report::default();
    for (name, proof) in proofs {
        progress(name);
        report.rows.extend(proof(lab)?);
    }
    Ok(report)
}

/// A row for each two sites, in each direction.
fn between_sites(lab: &Lab, row: impl Fn(&Site, &Site) -> Result<Row>) -> Result<Vec<Row>> {
    let sites = &lab.plan.sites;
    let pairs = sites.iter().flat_map(|from| sites.iter().map(move |to| (from, to)));
    pairs.filter(|(from, to)| from.name != to.name).map(|(from, to)| row(from, to)).collect()
}
