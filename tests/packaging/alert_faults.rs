//! Each alert fires for its fault, and for no other one.

use std::collections::BTreeSet;

use super::alerts::{alerts, promtool, rules};
use super::*;

/// A cluster in which all is well: gateway `a`, controllers `c` and `d`, name server `e`. Values as promtool writes them.
const WELL: &[(&str, &str)] = &[
    ("up{job='linkspan-system/linkspan',instance='a'}", "1x2000"),
    ("up{job='linkspan-system/linkspan',instance='c'}", "1x2000"),
    ("up{job='linkspan-system/linkspan',instance='e'}", "1x2000"),
    ("linkspan_build{instance='a',version='1'}", "1x2000"),
    ("linkspan_ready{instance='a'}", "1x2000"),
    ("linkspan_api_server_answers{instance='a'}", "1x2000"),
    ("linkspan_task_restarts_total{instance='a',task='gateway'}", "1x2000"),
    ("linkspan_passes_total{instance='a'}", "0+2x2000"),
    ("linkspan_pass_failures_in_row{instance='a'}", "0 1 0x2000"),
    ("linkspan_pass_seconds_ago{instance='a'}", "25x2000"),
    ("linkspan_pass_obstacles{instance='a'}", "0x2000"),
    ("linkspan_gateway_active{instance='a'}", "1x2000"),
    ("linkspan_peer_up{instance='a',peer='berlin'}", "1x2000"),
    ("linkspan_peer_up{instance='a',peer='rome'}", "1x2000"),
    // A gateway of berlin that stands by, and the paths of one of ours that does.
    ("linkspan_peer_up{instance='a',peer='berlin/b2'}", "0x2000"),
    ("linkspan_gateway_active{instance='b'}", "0x2000"),
    ("linkspan_peer_up{instance='b',peer='berlin'}", "0x2000"),
    ("linkspan_peer_loss_ratio{instance='a',peer='berlin'}", "0.01x2000"),
    ("linkspan_dropped_packets_total{instance='a',reason='no-peer'}", "0+60x2000"),
    ("linkspan_controller_leads{instance='c'}", "1x2000"),
    ("linkspan_controller_leads{instance='d'}", "0x2000"),
    ("linkspan_controller_waiting{instance='c',part='broker'}", "0x2000"),
    ("linkspan_broker_joined{instance='c'}", "1x2000"),
    ("linkspan_broker_reachable{instance='c'}", "1x2000"),
    // A broker that gives tokens for a day only.
    ("linkspan_broker_credential_expiry_timestamp_seconds{instance='c'}", "86400x720 129600x1280"),
    ("linkspan_broker_credential_renewal_timestamp_seconds{instance='c'}", "43200x720 86400x1280"),
    ("linkspan_members{instance='c',condition='Ready',status='True'}", "3x2000"),
    ("linkspan_members{instance='c',condition='Alive',status='True'}", "3x2000"),
    ("linkspan_service_records{instance='c',origin='own',state='refused'}", "0x2000"),
    ("linkspan_service_records{instance='c',origin='others',state='refused'}", "0x2000"),
    ("linkspan_service_export_conditions{instance='c',condition='Valid',status='True'}", "4x2000"),
    ("linkspan_service_export_conditions{instance='c',condition='Conflict',status='False'}", "4x2000"),
    ("linkspan_api_server_answers{instance='e'}", "1x2000"),
    ("linkspan_dns_synced{instance='e'}", "1x2000"),
    ("linkspan_dns_waiting_listeners{instance='e'}", "0x2000"),
    ("linkspan_dns_responses_total{instance='e',rcode='NOERROR'}", "0+600x2000"),
    ("linkspan_dns_responses_total{instance='e',rcode='SERVFAIL'}", "0+1x2000"),
];

/// A fault: what differs from [`WELL`] (`-` for a series that is not there), when one looks, and which alerts fire then.
type Fault = (&'static [(&'static str, &'static str)], u32, &'static [&'static str]);

/// All series of nodes are missing.
const NO_NODES: &[(&str, &str)] = &[
    ("linkspan_build{instance='a',version='1'}", "-"),
    ("linkspan_ready{instance='a'}", "-"),
    ("linkspan_api_server_answers{instance='a'}", "-"),
    ("linkspan_passes_total{instance='a'}", "-"),
    ("linkspan_gateway_active{instance='a'}", "-"),
    ("linkspan_peer_up{instance='a',peer='berlin'}", "-"),
    ("linkspan_peer_up{instance='a',peer='rome'}", "-"),
    ("linkspan_peer_up{instance='a',peer='berlin/b2'}", "-"),
    ("linkspan_gateway_active{instance='b'}", "-"),
    ("linkspan_peer_up{instance='b',peer='berlin'}", "-"),
];

const FAULTS: &[Fault] = &[
    (&[], 1500, &[]),
    (&[("linkspan_peer_up{instance='a',peer='rome'}", "0x2000")], 1, &[]),
    (&[("linkspan_peer_up{instance='a',peer='rome'}", "0x2000")], 5, &["LinkspanPeerDown"]),
    (
        &[
            ("linkspan_peer_up{instance='a',peer='berlin'}", "0x2000"),
            ("linkspan_peer_up{instance='a',peer='rome'}", "0x2000"),
        ],
        5,
        // One for each peer.
        &["LinkspanAllPeersDown", "LinkspanPeerDown", "LinkspanPeerDown"],
    ),
    (&[("linkspan_gateway_active{instance='a'}", "0x2000")], 5, &["LinkspanNoActiveGateway"]),
    // The gateway has lost its device, and tells nothing of tunnels.
    (
        &[("linkspan_gateway_active{instance='a'}", "-"), ("linkspan_gateway_active{instance='b'}", "-")],
        5,
        &["LinkspanNoActiveGateway"],
    ),
    // No node tells anything any more.
    (NO_NODES, 5, &["LinkspanNoActiveGateway"]),
    // The gateway has lost all peers from its plan, and the controller knows Members.
    (
        &[
            ("linkspan_peer_up{instance='a',peer='berlin'}", "-"),
            ("linkspan_peer_up{instance='a',peer='rome'}", "-"),
            ("linkspan_peer_up{instance='a',peer='berlin/b2'}", "-"),
            ("linkspan_peer_up{instance='b',peer='berlin'}", "-"),
        ],
        5,
        &["LinkspanAllPeersDown"],
    ),
    // Alone in its clusterset.
    (
        &[
            ("linkspan_peer_up{instance='a',peer='berlin'}", "-"),
            ("linkspan_peer_up{instance='a',peer='rome'}", "-"),
            ("linkspan_peer_up{instance='a',peer='berlin/b2'}", "-"),
            ("linkspan_peer_up{instance='b',peer='berlin'}", "-"),
            ("linkspan_members{instance='c',condition='Ready',status='True'}", "1x2000"),
        ],
        5,
        &[],
    ),
    (&[("up{job='linkspan-system/linkspan',instance='e'}", "0x2000")], 20, &["LinkspanTargetDown"]),
    (&[("linkspan_gateway_active{instance='b'}", "1x2000")], 5, &["LinkspanPeerDown", "LinkspanTwoActiveGateways"]),
    (&[("linkspan_peer_loss_ratio{instance='a',peer='berlin'}", "0.2x2000")], 20, &["LinkspanPathLossy"]),
    (
        &[("linkspan_dropped_packets_total{instance='a',reason='no-peer'}", "0+6000x2000")],
        30,
        &["LinkspanPacketsDropped"],
    ),
    (&[("linkspan_ready{instance='a'}", "0x2000")], 15, &["LinkspanNotReady"]),
    (&[("linkspan_pass_failures_in_row{instance='a'}", "5x2000")], 10, &["LinkspanPassFailing"]),
    (&[("linkspan_pass_seconds_ago{instance='a'}", "0+60x2000")], 10, &["LinkspanPassStalled"]),
    (&[("linkspan_pass_obstacles{instance='a'}", "1x2000")], 10, &["LinkspanTrafficBlocked"]),
    (&[("linkspan_task_restarts_total{instance='a',task='gateway'}", "0+1x2000")], 40, &["LinkspanTaskRestarts"]),
    (&[("linkspan_api_server_answers{instance='a'}", "0x2000")], 20, &["LinkspanApiServerSilent"]),
    (&[("linkspan_controller_leads{instance='c'}", "0x2000")], 5, &["LinkspanNoLeader"]),
    // No controller tells anything any more.
    (
        &[
            ("linkspan_controller_leads{instance='c'}", "-"),
            ("linkspan_controller_leads{instance='d'}", "-"),
            ("linkspan_controller_waiting{instance='c',part='broker'}", "-"),
            ("linkspan_broker_joined{instance='c'}", "-"),
            ("linkspan_broker_reachable{instance='c'}", "-"),
        ],
        5,
        &["LinkspanNoLeader"],
    ),
    (&[("linkspan_broker_joined{instance='c'}", "0x2000")], 40, &["LinkspanNotJoined"]),
    (&[("linkspan_broker_reachable{instance='c'}", "0x2000")], 40, &["LinkspanBrokerUnreachable"]),
    (
        &[
            ("linkspan_broker_credential_expiry_timestamp_seconds{instance='c'}", "8000x2000"),
            ("linkspan_broker_credential_renewal_timestamp_seconds{instance='c'}", "4000x2000"),
        ],
        110,
        &["LinkspanCredentialExpiring"],
    ),
    (&[("linkspan_members{instance='c',condition='Ready',status='False'}", "1x2000")], 20, &["LinkspanMemberNotReady"]),
    (&[("linkspan_members{instance='c',condition='Alive',status='False'}", "1x2000")], 70, &["LinkspanMemberSilent"]),
    (
        &[("linkspan_service_records{instance='c',origin='others',state='refused'}", "2x2000")],
        20,
        &["LinkspanRecordsRefused"],
    ),
    (
        &[("linkspan_service_export_conditions{instance='c',condition='Valid',status='False'}", "1x2000")],
        20,
        &["LinkspanExportInvalid"],
    ),
    (
        &[("linkspan_service_export_conditions{instance='c',condition='Conflict',status='True'}", "1x2000")],
        20,
        &["LinkspanExportConflict"],
    ),
    (&[("linkspan_controller_waiting{instance='c',part='broker'}", "1x2000")], 20, &["LinkspanWritesFailing"]),
    (&[("linkspan_dns_synced{instance='e'}", "0x2000")], 5, &["LinkspanNamesNotServed"]),
    // No name server tells anything any more.
    (
        &[("linkspan_dns_synced{instance='e'}", "-"), ("linkspan_api_server_answers{instance='e'}", "-")],
        5,
        &["LinkspanNamesNotServed"],
    ),
    (&[("linkspan_dns_responses_total{instance='e',rcode='SERVFAIL'}", "0+60x2000")], 20, &["LinkspanNamesFailing"]),
    (&[("linkspan_dns_waiting_listeners{instance='e'}", "1x2000")], 15, &["LinkspanListenerWaiting"]),
    (&[("linkspan_build{instance='e',version='2'}", "1x2000")], 1000, &[]),
    (&[("linkspan_build{instance='e',version='2'}", "1x2000")], 1500, &["LinkspanVersionsMixed"]),
];

/// A test of promtool: exactly these alerts fire, in a cluster beside another one in which all is well.
fn fault((changes, minutes, fire): &Fault) -> Value {
    let mut series: BTreeMap<String, String> = BTreeMap::new();
    for cluster in ["paris", "oslo"] {
        let of = |name: &str| name.replacen('{', &format!("{{cluster='{cluster}',"), 1);
        series.extend(WELL.iter().map(|(name, values)| (of(name), (*values).to_owned())));
        let changes = changes.iter().filter(|_| cluster == "paris");
        for (name, values) in changes {
            series.insert(of(name), (*values).to_owned());
        }
    }
    series.retain(|_, values| values != "-");
    let series: Vec<_> =
        series.iter().map(|(name, values)| serde_json::json!({ "series": name, "values": values })).collect();
    let mut counts: BTreeMap<&str, u32> = BTreeMap::new();
    for alert in *fire {
        *counts.entry(alert).or_default() += 1;
    }
    let samples: Vec<_> = counts
        .iter()
        .map(|(name, count)| serde_json::json!({ "labels": format!("{{alertname=\"{name}\"}}"), "value": count }))
        .collect();
    serde_json::json!({
        "name": format!("{changes:?} after {minutes} min"),
        "interval": "1m",
        "input_series": series,
        "promql_expr_test": [{
            "expr": "count by (alertname) (ALERTS{alertstate=\"firing\"})",
            "eval_time": format!("{minutes}m"),
            "exp_samples": samples,
        }],
    })
}

#[test]
fn each_alert_fires_for_its_fault_and_for_no_other_one() {
    let fired: BTreeSet<_> = FAULTS.iter().flat_map(|(_, _, fire)| *fire).map(|name| (*name).to_owned()).collect();
    let alerts: BTreeSet<_> = alerts().iter().map(|alert| alert["alert"].as_str().unwrap().to_owned()).collect();
    assert_eq!(fired, alerts, "each alert has a fault");
    let tests: Vec<_> = FAULTS.iter().map(fault).collect();
    let tests = serde_json::json!({ "rule_files": ["rules.yaml"], "evaluation_interval": "1m", "tests": tests });
    let told = promtool(
        &["test", "rules", "tests.yaml"],
        &[("rules.yaml", &rules().to_string()), ("tests.yaml", &tests.to_string())],
    );
    told.unwrap_or_else(|error| panic!("{error}"));
}
