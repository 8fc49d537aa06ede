//! Whatever arrives: no datagram stops the server, and every answer keeps the rules that `fuzz_dns` checks.

mod support;

use dns::fuzz::fuzz_dns;
use hickory_proto::rr::RecordType;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};

use support::question_edns;

/// A good question about the zone of `fuzz_dns`.
fn any_question() -> impl Strategy<Value = Vec<u8>> {
    let names = ["web.default", "db.default", "_http._tcp.db.default", "db-3.berlin.db.default", "nope.default"];
    let types = [RecordType::A, RecordType::AAAA, RecordType::SRV, RecordType::ANY, RecordType::AXFR];
    (select(names.to_vec()), select(types.to_vec()), any::<u16>()).prop_map(|(name, rtype, payload)| {
        let question = question_edns(&format!("{name}.svc.clusterset.local."), rtype, payload);
        question.to_vec().expect("a question can be written")
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn any_bytes(datagram in vec(any::<u8>(), 0..600)) {
        fuzz_dns(&datagram);
    }

    #[test]
    fn a_question_with_some_bytes_changed(
        mut datagram in any_question(),
        changes in vec((any::<Index>(), any::<u8>()), 0..6),
        tail in vec(any::<u8>(), 0..40),
        cut in any::<Index>(),
    ) {
        fuzz_dns(&datagram);
        for (at, value) in changes {
            let at = at.index(datagram.len());
            datagram[at] = value;
        }
        datagram.extend(tail);
        fuzz_dns(&datagram);
        fuzz_dns(&datagram[..cut.index(datagram.len())]);
    }

    #[test]
    fn a_header_that_promises_anything(mut datagram in any_question(), counts in any::<[u8; 8]>(), flags in any::<[u8; 2]>()) {
        datagram[2..4].copy_from_slice(&flags);
        datagram[4..12].copy_from_slice(&counts);
        fuzz_dns(&datagram);
    }
}
