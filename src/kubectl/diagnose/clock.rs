//! Clocks of API servers and nodes, compared with each other and with the person's own.

use super::{Check, Fault, Finding, State};
use crate::kubectl::picture::{ClusterPicture, Picture, Unseen};

/// Beyond this, logs mislead. Milliseconds.
const WARNING: i64 = 5_000;
/// Beyond this, tokens and certificates are refused as expired or not yet valid, sooner or later. Milliseconds.
const FAILED: i64 = 60_000;

/// What the person's own clock is called.
const PERSON: &str = "this-machine";

/// A clock, and by how many milliseconds it is certainly off from the person's.
struct Reading<'a> {
    cluster: Option<&'a ClusterPicture>,
    object: String,
    offset: i64,
}

pub(super) fn check(picture: &Picture) -> Vec<Finding> {
    let readings = read(picture);
    // What most clocks say: the person's own may be the wrong one.
    let mut offsets: Vec<i64> = readings.iter().map(|reading| reading.offset).collect();
    offsets.sort_unstable();
    let right = offsets.get(offsets.len() / 2).copied().unwrap_or_default();
    // Of two clocks nobody knows which one is wrong.
    let most = if readings.len() == 2 { "the only other clock" } else { "most other clocks" };
    let mut findings: Vec<Finding> = picture.clusters.iter().filter_map(|cluster| unread(cluster, &readings)).collect();
    for reading in &readings {
        let off = reading.offset - right;
        // The person's own is told once, with the first cluster that tells anything.
        let Some(cluster) = reading.cluster.or_else(|| readings.iter().find_map(|of| of.cluster)) else { continue };
        let told = if off.abs() < 1000 { "within a second of the others".to_owned() } else { describe(off, most) };
        if off.abs() < WARNING {
            findings.push(Finding::good(Check::Clock, cluster, &reading.object, told));
            continue;
        }
        let fault = Fault {
            state: if off.abs() < FAILED { State::Warning } else { State::Failed },
            reason: "ClockOff",
            evidence: told,
            cause: "certificates and tokens are refused as expired or as not yet valid, and handshakes as old ones"
                .to_owned(),
            fix: match readings.len() {
                2 => "see which of the two is wrong, set it, and keep both with NTP (chrony or systemd-timesyncd)"
                    .to_owned(),
                _ => "set its clock, and keep it with NTP (chrony or systemd-timesyncd)".to_owned(),
            },
        };
        findings.push(Finding::bad(Check::Clock, cluster, &reading.object, fault));
    }
    findings
}

/// The clocks of one cluster, without the person's own.
pub(super) fn of_cluster(picture: &Picture, cluster: &ClusterPicture) -> Vec<Finding> {
    let is_of = |finding: &Finding| finding.cluster == cluster.name() && finding.object != PERSON;
    check(picture).into_iter().filter(is_of).collect()
}

/// A cluster of whose clocks none was told.
fn unread(cluster: &ClusterPicture, readings: &[Reading<'_>]) -> Option<Finding> {
    let is_of = |reading: &Reading<'_>| reading.cluster.is_some_and(|of| std::ptr::eq(of, cluster));
    if readings.iter().any(is_of) {
        return None;
    }
    let nobody = || Unseen { what: "clocks".to_owned(), why: "the API server did not say what time it is".to_owned() };
    Some(Finding::unseen(Check::Clock, cluster, &cluster.server.unseen().cloned().unwrap_or_else(nobody)))
}

fn describe(off: i64, most: &str) -> String {
    let (seconds, way) = (off.abs() / 1000, if off > 0 { "ahead of" } else { "behind" });
    format!("{seconds} s {way} {most}")
}

fn read(picture: &Picture) -> Vec<Reading<'_>> {
    let mut readings = vec![Reading { cluster: None, object: PERSON.to_owned(), offset: 0 }];
    for cluster in &picture.clusters {
        let server = cluster.server.seen().and_then(|server| server.clock);
        let of = |object: String, offset| Reading { cluster: Some(cluster), object, offset };
        readings.extend(server.map(|clock| of("api-server".to_owned(), clock.offset())));
        let nodes = cluster.inspections.iter().filter_map(|(node, seen)| Some((node, seen.seen()?.clock?)));
        readings.extend(nodes.map(|(node, clock)| of(format!("node/{node}"), clock.offset())));
    }
    // Nobody to compare with.
    if readings.len() == 1 { Vec::new() } else { readings }
}
