//! What is worth an Event: how people who look at a ServiceExport learn what became of it, and when.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use crate::events::{News, Weight};

/// What has changed from the conditions `before` to `now`. That something is well is told where it was not before, and
/// that it is only on its way is not told at all.
pub fn news(before: &[Condition], now: &[Condition]) -> Vec<News> {
    let changed = |condition: &&Condition| {
        let known = before.iter().find(|known| known.type_ == condition.type_);
        known.is_none_or(|known| (&known.status, &known.reason) != (&condition.status, &condition.reason))
    };
    let was = |kind: &str, status: &str| before.iter().any(|known| known.type_ == kind && known.status == status);
    let tell = |condition: &Condition| {
        let (kind, status) = (condition.type_.as_str(), condition.status.as_str());
        let (weight, reason, note) = match (kind, status) {
            ("Ready", "True") => (Weight::Normal, "Exported", "the other clusters have it"),
            ("Valid", "True") if was(kind, "False") => (Weight::Normal, "Valid", "the Service can be exported again"),
            ("Conflict", "False") if was(kind, "True") => (Weight::Normal, "NoConflicts", "all exports agree again"),
            ("Ready", "False") if condition.reason == "Failed" => (Weight::Warning, "Failed", &*condition.message),
            ("Valid", "False") => (Weight::Warning, "NotValid", &*condition.message),
            ("Conflict", "True") => (Weight::Warning, "Conflict", &*condition.message),
            _ => return None,
        };
        // Another conflict is other news.
        Some(News::new(weight, reason, &condition.reason, note))
    };
    now.iter().filter(changed).filter_map(tell).collect()
}

#[cfg(test)]
mod tests {
    use k8s_openapi::jiff::Timestamp;

    use super::super::conditions::{Truth, Verdict, conditions};
    use super::*;

    fn said(all: &[(&'static str, Truth, &str)]) -> Vec<Condition> {
        let verdict = |(kind, truth, reason): &(&'static str, Truth, &str)| Verdict::new(kind, *truth, reason, "why");
        conditions(&[], &all.iter().map(verdict).collect::<Vec<_>>(), Some(1), Timestamp::UNIX_EPOCH)
    }

    fn told(before: &[Condition], now: &[Condition]) -> Vec<String> {
        news(before, now).iter().map(|news| format!("{:?} {}: {}", news.weight, news.reason, news.note)).collect()
    }

    #[test]
    fn an_export_that_goes_well_is_told_once_when_it_is_there() {
        let begun = said(&[
            ("Valid", Truth::True, "Valid"),
            ("Ready", Truth::False, "Pending"),
            ("Conflict", Truth::False, "NoConflicts"),
        ]);
        let done = said(&[
            ("Valid", Truth::True, "Valid"),
            ("Ready", Truth::True, "Exported"),
            ("Conflict", Truth::False, "NoConflicts"),
        ]);
        assert_eq!(told(&[], &begun), Vec::<String>::new());
        assert_eq!(told(&begun, &done), ["Normal Exported: the other clusters have it"]);
        assert_eq!(told(&done, &done), Vec::<String>::new());
    }

    #[test]
    fn what_goes_wrong_and_what_is_mended_is_told() {
        let good = said(&[("Valid", Truth::True, "Valid"), ("Conflict", Truth::False, "NoConflicts")]);
        let bad = said(&[
            ("Valid", Truth::False, "NoService"),
            ("Ready", Truth::False, "Failed"),
            ("Conflict", Truth::True, "PortConflict"),
        ]);
        assert_eq!(told(&good, &bad), ["Warning NotValid: why", "Warning Failed: why", "Warning Conflict: why"]);
        assert_eq!(
            told(&bad, &good),
            ["Normal Valid: the Service can be exported again", "Normal NoConflicts: all exports agree again"]
        );
        let other = said(&[("Conflict", Truth::True, "PortConflict,TypeConflict")]);
        assert_eq!(told(&bad, &other), ["Warning Conflict: why"]);
        let actions = |now: &[Condition]| news(&good, now).iter().map(|news| news.action.clone()).collect::<Vec<_>>();
        assert_eq!(actions(&bad), ["NoService", "Failed", "PortConflict"]);
        assert_eq!(
            actions(&other),
            ["PortConflict,TypeConflict"],
            "or else it would be told with the note of the first"
        );
    }
}
