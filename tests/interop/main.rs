//! Linkspan against other WireGuards, over real sockets between network namespaces: the handshake, the options and the
//! failures that a person meets who puts Linkspan at one end of a tunnel only. Needs root.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on has failed")]

mod flood;
#[path = "../../tunnel/tests/support/mac.rs"]
mod mac;
#[path = "../support/pings.rs"]
mod pings;
mod support;
mod transfer;

use std::process::Stdio;
use std::time::Duration;

use pings::Pings;
use support::{
    Caller, LINKSPAN_INNER, LINKSPAN_INNER6, OTHER_INNER, OTHER_INNER6, OTHER_PORT, Pair, Program, Setup, eventually,
    preshared_key, run, within,
};

const PROGRAMS: [Program; 2] = [Program::WireguardGo, Program::BoringtunCli];

#[test]
fn linkspan_starts_the_handshake() {
    for program in PROGRAMS {
        let pair = Pair::start(&Setup { caller: Caller::Linkspan, ..Setup::new(program) });
        pair.wait_from_linkspan();
        assert!(pair.handshake_age() < 60, "{program:?}");
        // The other end learned where Linkspan is, and can now speak first.
        pair.other.pings_all(OTHER_INNER, LINKSPAN_INNER);
    }
}

#[test]
fn the_other_end_starts_the_handshake() {
    for program in PROGRAMS {
        let pair = Pair::start(&Setup { caller: Caller::Other, ..Setup::new(program) });
        pair.wait_from_other();
        assert!(pair.handshake_age() < 60, "{program:?}");
        pair.linkspan.pings_all(LINKSPAN_INNER, OTHER_INNER);
    }
}

#[test]
fn full_packets_and_both_families_pass_both_ways() {
    for program in PROGRAMS {
        let pair = Pair::start(&Setup::new(program));
        pair.wait_from_linkspan();
        pair.linkspan.pings_all(LINKSPAN_INNER6, OTHER_INNER6);
        pair.other.pings_all(OTHER_INNER6, LINKSPAN_INNER6);
        // 1420 bytes of MTU less 28 of IPv4 and ICMP headers; nothing may be fragmented.
        let pings = [(&pair.linkspan, LINKSPAN_INNER, OTHER_INNER), (&pair.other, OTHER_INNER, LINKSPAN_INNER)];
        for (host, from, to) in pings {
            let mut ping = host.command("ping");
            run(ping.args(["-M", "do", "-s", "1392", "-c", "3", "-i", "0.1", "-W", "60", "-I", from, to]));
        }
    }
}

#[test]
fn tcp_moves_megabytes_both_ways_without_a_byte_wrong() {
    for program in PROGRAMS {
        let pair = Pair::start(&Setup::new(program));
        pair.wait_from_linkspan();
        transfer::megabytes(&pair.linkspan, &pair.other, OTHER_INNER);
        transfer::megabytes(&pair.other, &pair.linkspan, LINKSPAN_INNER);
    }
}

#[test]
fn the_tunnel_runs_over_ipv6() {
    let pair = Pair::start(&Setup { outer6: true, ..Setup::new(Program::WireguardGo) });
    pair.wait_from_linkspan();
    assert_eq!(pair.wg("endpoints"), ["[2001:db8::1]:51821"]);
    pair.other.pings_all(OTHER_INNER, LINKSPAN_INNER);
}

#[test]
fn equal_preshared_keys_join() {
    for program in PROGRAMS {
        let key = preshared_key();
        let pair = Pair::start(&Setup { preshared: [Some(key.clone()), Some(key)], ..Setup::new(program) });
        pair.wait_from_linkspan();
        pair.other.pings_all(OTHER_INNER, LINKSPAN_INNER);
    }
}

#[test]
fn unequal_preshared_keys_do_not_join() {
    let cases =
        [[Some(preshared_key()), Some(preshared_key())], [Some(preshared_key()), None], [None, Some(preshared_key())]];
    let pairs = cases.map(|preshared| Pair::start(&Setup { preshared, ..Setup::new(Program::WireguardGo) }));
    for pair in &pairs {
        // Ten tries a second apart would be two handshakes of either end (REKEY_TIMEOUT is 5 s).
        assert_eq!(pair.linkspan.ping(LINKSPAN_INNER, OTHER_INNER, 20), 0);
        assert_eq!(pair.other.ping(OTHER_INNER, LINKSPAN_INNER, 20), 0);
    }
}

#[test]
fn keepalives_flow_without_traffic() {
    let from_linkspan = Pair::start(&Setup { keepalive: [Some(1), None], ..Setup::new(Program::WireguardGo) });
    let from_other = Pair::start(&Setup { keepalive: [None, Some(1)], ..Setup::new(Program::WireguardGo) });
    for (pair, direction) in [(&from_linkspan, 0), (&from_other, 1)] {
        pair.wait_from_linkspan();
        // The answer to the last ping may still owe a passive keepalive, 10 s later; none of that is counted.
        let before = pair.transfer()[direction];
        // A keepalive is an empty data message of 32 bytes; four of them are due in 4 s.
        within(Duration::from_secs(30), "four keepalives", || pair.transfer()[direction] >= before + 4 * 32);
    }
}

#[test]
fn linkspan_follows_a_peer_that_moves() {
    let pair = Pair::start(&Setup::new(Program::WireguardGo));
    pair.wait_from_linkspan();
    let moves = |from: &str, to: &str| {
        let before = pair.handshake_at();
        pair.other.ip(&format!("addr del {from}/24 dev eth0"));
        pair.other.ip(&format!("addr add {to}/24 dev eth0"));
        eventually("the moved peer is answered", || pair.other.ping(OTHER_INNER, LINKSPAN_INNER, 1) == 1);
        pair.handshake_at() == before
    };
    // The first packet from the new address tells Linkspan where to answer, and not the handshake that follows silence.
    // On a busy machine there may be one nevertheless.
    let places = ["192.0.2.2", "192.0.2.3", "192.0.2.4", "192.0.2.5"];
    assert!(places.windows(2).any(|step| moves(step[0], step[1])), "a handshake was needed");
    pair.linkspan.pings_all(LINKSPAN_INNER, OTHER_INNER);
}

#[test]
fn a_peer_follows_linkspan_when_it_moves() {
    let pair = Pair::start(&Setup::new(Program::WireguardGo));
    pair.wait_from_linkspan();
    pair.linkspan.ip("addr del 192.0.2.1/24 dev eth0");
    pair.linkspan.ip("addr add 192.0.2.4/24 dev eth0");
    eventually("Linkspan is answered at its new address", || pair.linkspan.ping(LINKSPAN_INNER, OTHER_INNER, 1) == 1);
    assert_eq!(pair.wg("endpoints"), ["192.0.2.4:51821"]);
    pair.other.pings_all(OTHER_INNER, LINKSPAN_INNER);
}

#[test]
fn a_crashed_linkspan_is_back_without_waiting_for_the_peer() {
    let mut pair = Pair::start(&Setup { caller: Caller::Linkspan, ..Setup::new(Program::WireguardGo) });
    pair.wait_from_linkspan();
    let mut is_back_after = || {
        let before = pair.handshake_at();
        // Handshakes are told to the second.
        std::thread::sleep(Duration::from_secs(2));
        pair.crash_and_restart_linkspan();
        let took = eventually("the tunnel is back", || pair.linkspan.ping(LINKSPAN_INNER, OTHER_INNER, 1) == 1);
        assert!(pair.handshake_at() > before, "it came back without a new handshake");
        took
    };
    // A peer that hears nothing begins anew after 15 s (KEEPALIVE_TIMEOUT and REKEY_TIMEOUT of the WireGuard paper). On a
    // busy machine it may take longer, but not each time.
    assert!((0..3).any(|_| is_back_after() < Duration::from_secs(10)), "it waited for the peer");
}

/// Real time, since both ends have a clock of their own: REKEY_AFTER_TIME is 120 s (WireGuard paper, section 6.1).
#[test]
fn sessions_are_renewed_after_120_seconds_and_no_packet_is_lost() {
    let pairs = PROGRAMS.map(|program| Pair::start(&Setup::new(program)));
    pairs.iter().for_each(Pair::wait_from_linkspan);
    // 130 s of pings, 200 ms apart, each way, on each pair.
    let pings = pairs.each_ref().map(|pair| {
        let ways = [(&pair.linkspan, LINKSPAN_INNER, OTHER_INNER), (&pair.other, OTHER_INNER, LINKSPAN_INNER)];
        ways.map(|(host, from, to)| {
            Pings::start(130, 5, |arguments| {
                let mut ping = host.command("ping");
                ping.args(arguments).args(["-I", from, to]).stdout(Stdio::piped()).stderr(Stdio::piped());
                ping.spawn().unwrap()
            })
        })
    });
    for (ways, program) in pings.into_iter().zip(PROGRAMS) {
        ways.into_iter().for_each(|pings| pings.assert_all_answered(&format!("{program:?}")));
    }
    for (pair, program) in pairs.iter().zip(PROGRAMS) {
        let age = pair.handshake_age();
        assert!(age < 100, "{program:?}: after more than 130 s, the last handshake is {age} s old");
    }
}

#[test]
fn linkspan_demands_cookies_under_a_flood_and_still_lets_peers_in() {
    let pair = Pair::start(&Setup { caller: Caller::Other, ..Setup::new(Program::WireguardGo) });
    let flood = flood::Flood::start(&pair.other, "192.0.2.1:51821", &pair.linkspan_key);
    eventually("Linkspan answers the flood with cookies", || flood.cookies() > 10);
    pair.wait_from_other();
    assert!(flood.is_running(), "the flood ended before the handshake");
    assert_eq!(flood.others(), 0, "a stranger's handshake was answered with something other than a cookie");
}

#[test]
fn linkspan_answers_a_demand_for_a_cookie() {
    let pair = Pair::start(&Setup { caller: Caller::Linkspan, ..Setup::new(Program::BoringtunCli) });
    let flood = flood::Flood::start(&pair.linkspan, &format!("192.0.2.2:{OTHER_PORT}"), &pair.other_key);
    eventually("the other end answers the flood with cookies", || flood.cookies() > 10);
    pair.wait_from_linkspan();
    assert!(flood.is_running(), "the flood ended before the handshake");
}
