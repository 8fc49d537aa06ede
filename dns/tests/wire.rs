//! The rules of the wire, over real sockets. `row_NN` is the row of the multi-cluster checklist.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on has failed")]

mod support;

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

use dns::{Error, Server, ServerConfig, Service, ServiceKind};
use hickory_proto::op::{Edns, Message, OpCode, ResponseCode};
use hickory_proto::rr::{DNSClass, RData, RecordType};
use tokio::sync::watch;

use support::{PATIENCE, Running, crowd, data, hello, question, question_edns};

const HELLO: &str = "hello.demo.svc.clusterset.local.";

fn soa_of(answer: &Message) -> (String, u32, u32) {
    let [record] = &answer.authorities[..] else { panic!("one record in authority, not {:?}", answer.authorities) };
    let RData::SOA(soa) = &record.data else { panic!("no SOA: {record}") };
    (record.name.to_string(), record.ttl, soa.minimum)
}

#[tokio::test]
async fn row_83_a_of_a_clusterset_ip_and_nodata_for_the_other_family() {
    let server = Running::serve(&[hello()]);
    let answer = server.ask(HELLO, RecordType::A).await;
    assert_eq!(answer.metadata.response_code, ResponseCode::NoError);
    assert_eq!(data(&answer), ["10.43.0.42"]);
    assert!(answer.authorities.is_empty() && answer.additionals.is_empty());
    let answer = server.ask(HELLO, RecordType::AAAA).await;
    assert_eq!(answer.metadata.response_code, ResponseCode::NoError);
    assert!(answer.answers.is_empty());
    assert_eq!(soa_of(&answer), ("clusterset.local.".into(), 5, 5));
}

#[tokio::test]
async fn row_84_srv_brings_the_address_of_its_target() {
    let server = Running::serve(&[hello()]);
    for name in ["_tcp._tcp.hello", "_udp._udp.hello", "hello"] {
        let answer = server.ask(&format!("{name}.demo.svc.clusterset.local."), RecordType::SRV).await;
        assert_eq!(data(&answer), [format!("0 100 42 {HELLO}")], "{name}");
        let [additional] = &answer.additionals[..] else { panic!("{:?}", answer.additionals) };
        assert_eq!(additional.to_string(), format!("{HELLO} 5 IN A 10.43.0.42"));
    }
}

#[tokio::test]
async fn row_88_every_ready_address_in_a_random_order() {
    let server = Running::serve(&[crowd(6)]);
    let mut first = BTreeSet::new();
    for _ in 0..100 {
        let answer = server.ask("crowd.demo.svc.clusterset.local.", RecordType::A).await;
        first.insert(answer.answers[0].data.to_string());
        let all = ["10.42.0.1", "10.42.0.2", "10.42.0.3", "10.42.0.4", "10.42.0.5", "10.42.0.6"];
        assert_eq!(data(&answer), all);
    }
    assert_eq!(first.len(), 6, "after 100 answers every address was first once");
}

#[tokio::test]
async fn the_order_of_answers_follows_the_seed() {
    let orders = |seed| async move {
        let zone = dns::Zone::build(&dns::ZoneConfig::default(), &[crowd(20)]);
        let server = Running::start(Some(zone.into()), [127, 0, 0, 1].into(), seed);
        let answer = server.ask("crowd.demo.svc.clusterset.local.", RecordType::A).await;
        answer.answers.iter().map(|record| record.data.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(orders(1).await, orders(1).await);
    assert_ne!(orders(1).await, orders(2).await);
}

#[tokio::test]
async fn row_93_dns_version() {
    let server = Running::serve(&[]);
    let answer = server.ask("dns-version.clusterset.local.", RecordType::TXT).await;
    let RData::TXT(text) = &answer.answers[0].data else { panic!("{answer}") };
    assert_eq!(&*text.txt_data[0], b"1.0.0");
}

#[tokio::test]
async fn row_94_names_of_the_local_cluster_are_left_alone() {
    let server = Running::serve(&[hello()]);
    let answer = server.ask("hello.demo.svc.cluster.local.", RecordType::A).await;
    assert_eq!(answer.metadata.response_code, ResponseCode::Refused);
    assert!(answer.answers.is_empty() && answer.authorities.is_empty());
}

#[tokio::test]
async fn row_95_nxdomain_and_nodata_carry_the_soa() {
    let server = Running::serve(&[hello()]);
    for (name, code) in [
        ("clusterset.local.", ResponseCode::NoError),
        ("svc.clusterset.local.", ResponseCode::NoError),
        ("demo.svc.clusterset.local.", ResponseCode::NoError),
        ("nope.svc.clusterset.local.", ResponseCode::NXDomain),
        ("nope.demo.svc.clusterset.local.", ResponseCode::NXDomain),
        ("a.b.c.hello.demo.svc.clusterset.local.", ResponseCode::NXDomain),
    ] {
        let answer = server.ask(name, RecordType::A).await;
        assert_eq!(answer.metadata.response_code, code, "{name}");
        assert!(answer.answers.is_empty());
        assert_eq!(soa_of(&answer), ("clusterset.local.".into(), 5, 5), "{name}");
    }
}

#[tokio::test]
async fn row_96_every_answer_from_the_zone_is_authoritative() {
    let server = Running::serve(&[hello()]);
    for (name, rtype) in [
        (HELLO, RecordType::A),
        (HELLO, RecordType::AAAA),
        (HELLO, RecordType::SRV),
        (HELLO, RecordType::ANY),
        ("clusterset.local.", RecordType::SOA),
        ("clusterset.local.", RecordType::NS),
        ("nope.clusterset.local.", RecordType::A),
    ] {
        let question = question_edns(name, rtype, 1232);
        let [udp, tcp] = server.ask_both(&question).await;
        for answer in [&udp, &tcp] {
            assert!(answer.metadata.authoritative, "{name} {rtype}");
            assert!(!answer.metadata.recursion_available && !answer.metadata.truncation);
        }
        assert_eq!(data(&udp), data(&tcp), "{name} {rtype}");
    }
    let outside = server.ask("example.com.", RecordType::A).await;
    assert!(!outside.metadata.authoritative);
}

#[tokio::test]
async fn row_97_case_does_not_matter_and_comes_back_as_asked() {
    let server = Running::serve(&[hello()]);
    let mixed = "HeLLo.DEMO.svc.ClusterSet.LOCAL.";
    let question = question_edns(mixed, RecordType::A, 1232);
    for answer in server.ask_both(&question).await {
        assert_eq!(data(&answer), ["10.43.0.42"]);
        assert!(answer.queries[0].name().eq_case(question.queries[0].name()), "{answer}");
        assert!(answer.answers[0].name.eq_case(question.queries[0].name()), "{answer}");
    }
}

#[tokio::test]
async fn row_98_ttl_is_five_seconds_at_most() {
    let server = Running::serve(&[hello(), crowd(3)]);
    for name in [HELLO, "crowd.demo.svc.clusterset.local.", "_http._tcp.crowd.demo.svc.clusterset.local."] {
        for rtype in [RecordType::A, RecordType::SRV] {
            let answer = server.ask(name, rtype).await;
            let records = answer.answers.iter().chain(&answer.additionals).chain(&answer.authorities);
            assert!(records.map(|record| record.ttl).all(|ttl| (1..=5).contains(&ttl)), "{answer}");
        }
    }
}

#[tokio::test]
async fn row_98_a_change_is_visible_within_50_ms() {
    let server = Running::serve(&[hello()]);
    let (mut answers, mut delays) = (Vec::new(), Vec::new());
    for round in 0..21_u8 {
        let ip = IpAddr::from([10, 43, 1, round]);
        let asked = Instant::now();
        server.ask(HELLO, RecordType::A).await;
        answers.push(asked.elapsed());
        let started = Instant::now();
        server.publish(&[Service { kind: ServiceKind::ClusterSetIp { ips: vec![ip] }, ..hello() }]);
        while data(&server.ask(HELLO, RecordType::A).await) != [ip.to_string()] {
            assert!(started.elapsed() < PATIENCE, "the old zone is still served");
        }
        delays.push(started.elapsed());
    }
    // The median, and beyond what any answer takes: a busy machine may stop this test itself for longer.
    answers.sort();
    delays.sort();
    assert!(delays[10] < answers[10] + Duration::from_millis(50), "{delays:?} {answers:?}");
}

#[tokio::test]
async fn row_99_servfail_before_the_first_zone() {
    let server = Running::start(None, [127, 0, 0, 1].into(), 7);
    for name in [HELLO, "nope.clusterset.local."] {
        let question = question(name, RecordType::A);
        for answer in server.ask_both(&question).await {
            assert_eq!(answer.metadata.response_code, ResponseCode::ServFail);
            assert!(answer.authorities.is_empty());
        }
    }
    server.publish(&[hello()]);
    let (published, mut not_synced) = (Instant::now(), 4);
    loop {
        let answer = server.ask(HELLO, RecordType::A).await;
        if answer.metadata.response_code != ResponseCode::ServFail {
            assert_eq!(data(&answer), ["10.43.0.42"]);
            break;
        }
        assert!(published.elapsed() < PATIENCE, "the first zone is not served");
        not_synced += 1;
    }
    assert_eq!(server.stats.snapshot().not_synced, not_synced);
}

#[tokio::test]
async fn row_100_big_answers_are_cut_to_the_client_and_whole_over_tcp() {
    let server = Running::serve(&[crowd(500)]);
    let name = "crowd.demo.svc.clusterset.local.";
    for (payload, limit) in [(None, 512), (Some(100), 512), (Some(512), 512), (Some(1232), 1232), (Some(65_535), 1232)]
    {
        let question = payload.map_or(question(name, RecordType::A), |size| question_edns(name, RecordType::A, size));
        let bytes = server.exchange_bytes(&question.to_vec().unwrap()).await.unwrap();
        let answer = Message::from_vec(&bytes).unwrap();
        assert!(answer.metadata.truncation && answer.metadata.authoritative, "{payload:?}");
        // The datagram is used but for a record, 16 bytes, and a name, 33, which is written before it is compressed.
        assert!(bytes.len() <= limit && bytes.len() > limit - 64, "{payload:?}: {} bytes", bytes.len());
        assert_eq!(answer.edns.is_some(), payload.is_some(), "{payload:?}: OPT answers OPT, also when cut");
    }
    let whole = server.ask_tcp(&[question(name, RecordType::A)]).await.remove(0);
    assert!(!whole.metadata.truncation);
    assert_eq!(whole.answers.len(), 500);
    assert_eq!(server.stats.snapshot().truncated, 5);
}

#[tokio::test]
async fn row_100_additional_records_are_left_out_before_an_answer_is_cut() {
    // 16 locations of 12 + 6 + 46 bytes fit 1232; with their addresses, 16 bytes each, they do not.
    let server = Running::serve(&[crowd(16)]);
    let name = "_http._tcp.crowd.demo.svc.clusterset.local.";
    let answer = server.exchange(&question_edns(name, RecordType::SRV, 1232)).await;
    assert!(!answer.metadata.truncation);
    assert_eq!((answer.answers.len(), answer.additionals.len()), (16, 0));
    assert!(answer.edns.is_some());
    let whole = server.ask_tcp(&[question(name, RecordType::SRV)]).await.remove(0);
    assert_eq!((whole.answers.len(), whole.additionals.len()), (16, 16));
}

#[tokio::test]
async fn row_100_edns_is_answered_with_our_size_and_the_do_bit() {
    let server = Running::serve(&[hello()]);
    let mut question = question_edns(HELLO, RecordType::A, 4096);
    question.edns.as_mut().unwrap().set_dnssec_ok(true);
    for answer in server.ask_both(&question).await {
        let edns = answer.edns.as_ref().expect("OPT answers OPT");
        assert_eq!((edns.version(), edns.max_payload(), edns.flags().dnssec_ok), (0, 1232, true));
        assert_eq!(data(&answer), ["10.43.0.42"]);
    }
    let plain = server.ask(HELLO, RecordType::A).await;
    assert!(plain.edns.is_none());
    let mut edns = Edns::new();
    edns.set_version(1);
    question.set_edns(edns);
    let answer = server.exchange(&question).await;
    // 16 is BADVERS beside OPT and BADSIG beside TSIG.
    assert_eq!(u16::from(answer.metadata.response_code), 16);
    assert_eq!(answer.edns.unwrap().version(), 0);
    assert!(answer.answers.is_empty());
}

#[tokio::test]
async fn row_101_other_opcodes_are_not_implemented() {
    let server = Running::serve(&[hello()]);
    for opcode in [OpCode::Status, OpCode::Notify, OpCode::Update, OpCode::Unknown(6)] {
        let mut question = question(HELLO, RecordType::A);
        question.metadata.op_code = opcode;
        for answer in server.ask_both(&question).await {
            assert_eq!(answer.metadata.response_code, ResponseCode::NotImp, "{opcode}");
            assert_eq!(answer.metadata.op_code, opcode);
            assert!(answer.answers.is_empty());
        }
    }
}

#[tokio::test]
async fn row_101_any_is_answered_small() {
    let server = Running::serve(&[crowd(500)]);
    let answer = server.ask("crowd.demo.svc.clusterset.local.", RecordType::ANY).await;
    let [record] = &answer.answers[..] else { panic!("{answer}") };
    let RData::HINFO(hinfo) = &record.data else { panic!("{record}") };
    assert_eq!(&*hinfo.cpu, b"RFC8482");
    let absent = server.ask("nope.demo.svc.clusterset.local.", RecordType::ANY).await;
    assert_eq!(absent.metadata.response_code, ResponseCode::NXDomain);
}

#[tokio::test]
async fn row_101_malformed_questions_are_told_so() {
    let server = Running::serve(&[hello()]);
    let good = question(HELLO, RecordType::A).to_vec().unwrap();
    let header = |questions: u8| [&good[..4], &[0, questions, 0, 0, 0, 0, 0, 0]].concat();
    let rows: [(&str, Vec<u8>); 7] = [
        ("no question", header(0)),
        ("two questions", [header(2), good[12..].to_vec(), good[12..].to_vec()].concat()),
        ("cut in the name", good[..20].to_vec()),
        ("cut in the type", good[..good.len() - 3].to_vec()),
        ("a name that points at itself", [header(1), vec![0xc0, 12, 0, 1, 0, 1]].concat()),
        ("a label of 64 bytes", [header(1), vec![64], vec![b'a'; 64], vec![0, 0, 1, 0, 1]].concat()),
        (
            "a name of 257 bytes",
            [header(1), [vec![63; 64], vec![63; 64], vec![63; 64], vec![63; 64]].concat(), vec![0, 0, 1, 0, 1]]
                .concat(),
        ),
    ];
    for (what, datagram) in rows {
        let bytes = server.exchange_bytes(&datagram).await.unwrap_or_else(|| panic!("{what}: no answer"));
        let answer = Message::from_vec(&bytes).unwrap();
        assert_eq!(answer.metadata.response_code, ResponseCode::FormErr, "{what}");
        assert_eq!(answer.metadata.id, 4711, "{what}");
    }
    assert_eq!(server.stats.snapshot().malformed, 7);
    assert_eq!(data(&server.ask(HELLO, RecordType::A).await), ["10.43.0.42"]);
}

#[tokio::test]
async fn row_101_noise_and_answers_get_no_answer() {
    let server = Running::serve(&[hello()]);
    let mut answer = question(HELLO, RecordType::A).to_vec().unwrap();
    answer[2] |= 0x80;
    for (what, datagram) in
        [("an answer is not a question", &answer[..]), ("less than a header", &answer[..11]), ("nothing", &answer[..0])]
    {
        assert_eq!(server.exchange_within(Duration::from_secs(2), datagram).await, None, "{what}");
    }
    assert_eq!(server.stats.snapshot().udp_queries, 0);
}

#[tokio::test]
async fn row_102_reverse_names_other_classes_and_transfers_are_refused() {
    let server = Running::serve(&[hello()]);
    let reverse = question("42.0.43.10.in-addr.arpa.", RecordType::PTR);
    let mut chaos = question(HELLO, RecordType::TXT);
    chaos.queries[0].set_query_class(DNSClass::CH);
    let transfer = question("clusterset.local.", RecordType::AXFR);
    for question in [reverse, chaos, transfer] {
        for answer in server.ask_both(&question).await {
            assert_eq!(answer.metadata.response_code, ResponseCode::Refused, "{question}");
            assert!(answer.answers.is_empty() && answer.authorities.is_empty());
        }
    }
    assert_eq!(server.stats.snapshot().refused, 6);
}

#[tokio::test]
async fn one_tcp_connection_takes_many_questions() {
    let server = Running::serve(&[hello(), crowd(50)]);
    let mut questions: Vec<Message> = (0..40).map(|_| question(HELLO, RecordType::A)).collect();
    questions.push(question("crowd.demo.svc.clusterset.local.", RecordType::A));
    let answers = server.ask_tcp(&questions).await;
    assert!(answers[..40].iter().all(|answer| data(answer) == ["10.43.0.42"]));
    assert_eq!(answers[40].answers.len(), 50);
    assert_eq!(server.stats.snapshot().tcp_queries, 41);
}

#[tokio::test]
async fn the_last_zone_outlives_its_planner() {
    let mut server = Running::serve(&[hello()]);
    assert_eq!(data(&server.ask(HELLO, RecordType::A).await), ["10.43.0.42"]);
    drop(std::mem::replace(&mut server.zones, watch::channel(None).0));
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert_eq!(data(&server.ask(HELLO, RecordType::A).await), ["10.43.0.42"]);
    server.stop().await;
}

#[tokio::test]
async fn ipv6_addresses_are_served_and_a_stop_frees_the_port() {
    let zone = dns::Zone::build(&dns::ZoneConfig::default(), &[hello()]);
    let server = Running::start(Some(zone.into()), IpAddr::V6(Ipv6Addr::LOCALHOST), 7);
    assert_eq!(data(&server.ask(HELLO, RecordType::A).await), ["10.43.0.42"]);
    let address = server.address;
    server.stop().await;
    let (_zones, zone) = watch::channel(None);
    Server::bind(ServerConfig::new(vec![address], 7), zone).expect("the port is free");
}

#[tokio::test]
async fn a_second_server_on_the_address_is_told_so() {
    let server = Running::serve(&[hello()]);
    let (_zones, zone) = watch::channel(None);
    let error = Server::bind(ServerConfig::new(vec![server.address], 7), zone.clone()).err().unwrap();
    assert!(matches!(&error, Error::Bind { address, transport: "TCP", .. } if *address == server.address), "{error}");
    assert!(error.to_string().contains("is another DNS server there"), "{error}");
    assert!(matches!(Server::bind(ServerConfig::new(vec![], 7), zone.clone()), Err(Error::NoListenAddress)));
    let foreign: SocketAddr = "192.0.2.1:0".parse().unwrap();
    assert!(matches!(Server::bind(ServerConfig::new(vec![foreign], 7), zone), Err(Error::Bind { .. })));
}
