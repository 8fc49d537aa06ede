//! Virtual prefixes of Members that have left, and of nodes that have gone, rest for a while before anybody takes them
//! again, so that what still calls the one that was there does not reach another. Whoever sees a Member go, or gives a
//! prefix up, tells those who come; there is no other memory.

use std::collections::BTreeMap;

use ipnet::IpNet;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::{SignedDuration, Timestamp};

use super::prefixes;
use crate::api::{MemberSpec, RestingCidr};

/// How long they rest: longer than names are kept anywhere, and than connections without an answer live.
pub(crate) const REST: SignedDuration = SignedDuration::from_hours(1);
/// What is freed again so soon is the same end, seen twice, and not told anew.
const SOON: SignedDuration = SignedDuration::from_mins(1);
/// Most that a Member may tell, as its CRD says.
const MAX_RESTING: usize = 1024;

/// What the own Member tells of prefixes at rest: what it has told and is not over, and those that are `freed` now.
pub(super) fn resting(before: Option<&MemberSpec>, freed: &[IpNet], now: Timestamp) -> Vec<RestingCidr> {
    let told = before.into_iter().flat_map(|before| &before.resting_cidrs);
    let told = told.filter(|cidr| cidr.until.0 > now).map(|cidr| (cidr.r#virtual.clone(), cidr.until.0));
    let until = now.checked_add(REST).unwrap_or(Timestamp::MAX);
    // Whole seconds, as the API server keeps them.
    let until = Timestamp::from_second(until.as_second()).unwrap_or(until);
    let mut all: BTreeMap<String, Timestamp> = told.collect();
    for net in freed {
        let told = all.entry(net.to_string()).or_insert(until);
        if told.duration_until(until) > SOON {
            *told = until;
        }
    }
    let all = all.into_iter().map(|(net, until)| RestingCidr { r#virtual: net, until: Time(until) });
    all.take(MAX_RESTING).collect()
}

/// The prefixes at rest that a Member tells of. Who has lost its controller goes on telling of those that are over.
pub(crate) fn told(spec: &MemberSpec, now: Timestamp) -> impl Iterator<Item = IpNet> {
    let resting = spec.resting_cidrs.iter().filter(move |cidr| cidr.until.0 > now);
    resting.filter_map(|cidr| prefixes::claimed(&cidr.r#virtual))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn prefixes_rest_for_an_hour_after_their_member_has_left() {
        let net: IpNet = "100.64.9.0/24".parse().unwrap();
        let mut spec = super::super::test_support::member("a", 1, "10.1.0.0/16", "key").spec;
        spec.resting_cidrs = resting(None, &[net], at(1000));
        assert_eq!(told(&spec, at(4599)).collect::<Vec<_>>(), [net]);
        assert_eq!(told(&spec, at(4600)).count(), 0, "its time is over, though nobody has told so");
        assert_eq!(resting(Some(&spec), &[], at(4599)), spec.resting_cidrs);
        assert_eq!(resting(Some(&spec), &[], at(4600)), []);
        // One that has come and gone again begins anew.
        assert_eq!(resting(Some(&spec), &[net], at(2000))[0].until.0, at(5600));
        assert_eq!(resting(Some(&spec), &[net], at(1059))[0].until.0, at(4600), "it has not gone yet");
    }
}
