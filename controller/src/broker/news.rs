//! What is worth an Event of a Member: that its state has changed.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use crate::events::{News, Weight};
use crate::members::condition::{Finding, Holds};

/// Conditions whose changes people want to know.
const TOLD: [&str; 8] = ["Alive", "BrokerReachable", "Joined", "Properties", "Published", "Ready", "Records", "Unique"];
/// Conditions of which the first word is no news: a Member is silent until its first heartbeat is seen.
const LATER: [&str; 2] = ["Alive", "Records"];
/// Reasons that say only that another condition is to be looked at, or that something is on its way.
const QUIET: [&str; 2] = ["NotJoined", "Pending"];

/// What has changed from the conditions `before` to `findings`. That something is well is told where it was not before; what
/// two conditions say with the same words is told once.
pub(super) fn news(before: &[Condition], findings: &[Finding]) -> Vec<News> {
    let tell = |finding: &Finding| {
        let known = before.iter().find(|known| known.type_ == finding.kind);
        let same = known.is_some_and(|known| known.reason == finding.reason);
        let (weight, reason) = match finding.holds {
            Holds::True if known.is_some_and(|known| known.status == "False") => (Weight::Normal, finding.kind),
            Holds::False if same || QUIET.contains(&finding.reason) => return None,
            Holds::False if known.is_none() && LATER.contains(&finding.kind) => return None,
            Holds::False => (Weight::Warning, finding.reason),
            Holds::True | Holds::Unknown => return None,
        };
        Some(News::new(weight, reason, finding.kind, &finding.message))
    };
    let mut all: Vec<News> = Vec::new();
    for news in findings.iter().filter(|finding| TOLD.contains(&finding.kind)).filter_map(tell) {
        if !all.iter().any(|known| (known.reason, &known.note) == (news.reason, &news.note)) {
            all.push(news);
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use k8s_openapi::jiff::Timestamp;

    use super::*;
    use crate::members::condition::conditions;

    fn told(before: &[Finding], now: &[Finding]) -> Vec<String> {
        let before = conditions(&[], before, Timestamp::UNIX_EPOCH);
        let say = |news: &News| format!("{:?} {} ({}): {}", news.weight, news.reason, news.action, news.note);
        news(&before, now).iter().map(say).collect()
    }

    fn change(before: Option<&Finding>, now: &Finding) -> Vec<String> {
        told(before.map_or(&[], std::slice::from_ref), std::slice::from_ref(now))
    }

    #[test]
    fn a_member_that_is_refused_silent_and_back_is_told_each_time_once() {
        let (good, refused) = (Finding::good("Ready", "Ready", "reached"), Finding::bad("Ready", "Overlap", "whose"));
        assert_eq!(change(None, &good), [""; 0], "the first word, and all is well");
        assert_eq!(change(None, &refused), ["Warning Overlap (Ready): whose"]);
        assert_eq!(change(Some(&good), &refused), ["Warning Overlap (Ready): whose"]);
        assert_eq!(change(Some(&refused), &refused), [""; 0]);
        let other = Finding::bad("Ready", "NoGateway", "none");
        assert_eq!(change(Some(&refused), &other), ["Warning NoGateway (Ready): none"]);
        assert_eq!(change(Some(&refused), &good), ["Normal Ready (Ready): reached"]);
        let (alive, silent) = (Finding::good("Alive", "Heartbeat", "heard"), Finding::bad("Alive", "Silent", "since"));
        assert_eq!(change(None, &silent), [""; 0], "before its first heartbeat");
        assert_eq!(change(Some(&alive), &silent), ["Warning Silent (Alive): since"]);
        assert_eq!(change(Some(&silent), &alive), ["Normal Alive (Alive): heard"]);
    }

    #[test]
    fn what_is_wrong_for_two_conditions_is_told_once() {
        let joined = Finding::bad("Joined", "InvalidToken", "it is no token");
        let ready = Finding::bad("Ready", "InvalidToken", "it is no token");
        assert_eq!(told(&[], &[joined, ready]), ["Warning InvalidToken (Joined): it is no token"]);
    }

    #[test]
    fn a_broker_that_is_lost_and_found_is_told_and_what_follows_from_it_is_not() {
        let lost = [
            Finding::bad("BrokerReachable", "Unreachable", "since noon"),
            Finding::bad("Published", "Pending", "not there"),
        ];
        let found = [
            Finding::good("BrokerReachable", "Reachable", "it answers"),
            Finding::good("Published", "Published", "seen"),
        ];
        assert_eq!(told(&found, &lost), ["Warning Unreachable (BrokerReachable): since noon"]);
        assert_eq!(
            told(&lost, &found),
            ["Normal BrokerReachable (BrokerReachable): it answers", "Normal Published (Published): seen"]
        );
        assert_eq!(told(&found, &[Finding::good("Networks", "Found", "x")]), [""; 0], "that is not told");
    }
}
