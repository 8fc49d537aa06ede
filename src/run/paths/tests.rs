use super::*;

fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn down(names: &[&str]) -> Told {
    Told::Down { gateway: "gw".to_owned(), clusters: set(names) }
}

const WORKER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(127, 0, 0, 5));

/// A gateway on a loopback address that tells nodes of `nodes`.
async fn gateway(nodes: &[IpAddr]) -> (SocketAddr, watch::Sender<BTreeSet<String>>, tokio::task::JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let at = listener.local_addr().expect("bound");
    let states = watch::Sender::new(BTreeSet::new());
    let (nodes, told) = (nodes.iter().copied().collect(), states.clone());
    let task = tokio::spawn(async move { drop(serve(&listener, &nodes, &told).await) });
    (at, states, task)
}

/// A worker that listens to it.
fn worker(at: SocketAddr) -> (watch::Receiver<Told>, tokio::task::JoinHandle<Infallible>) {
    let told = watch::Sender::new(Told::default());
    let heard = told.subscribe();
    let task = tokio::spawn(async move {
        let known = set(&["berlin", "rome"]);
        Worker { gateway: "gw", at, from: WORKER, known: &known, told: &told }.listen().await
    });
    (heard, task)
}

async fn hears(told: &mut watch::Receiver<Told>, what: &Told) {
    let heard = timeout(Duration::from_secs(8), told.wait_for(|told| told == what)).await;
    assert!(heard.is_ok(), "{what:?} was not heard");
}

#[tokio::test]
async fn a_worker_hears_of_changes_at_once_and_trusts_all_when_the_gateway_is_silent_for_long() {
    let (at, states, task) = gateway(&[WORKER]).await;
    let (mut told, _worker) = worker(at);
    hears(&mut told, &down(&[])).await;
    let begin = Instant::now();
    for _ in 0..4 {
        states.send_replace(set(&["berlin", "oslo"]));
        hears(&mut told, &down(&["berlin"])).await;
        states.send_replace(set(&["rome", "oslo"]));
        hears(&mut told, &down(&["rome"])).await;
    }
    // At its pace alone, it would have told each change a period after the one before.
    assert!(begin.elapsed() < PERIOD * 6, "after {:?}", begin.elapsed());
    states.send_replace(set(&[]));
    hears(&mut told, &down(&[])).await;
    states.send_replace(set(&["rome"]));
    hears(&mut told, &down(&["rome"])).await;
    task.abort();
    let unknown = timeout(STALE * 2, told.wait_for(|told| matches!(told, Told::Nothing(_)))).await;
    assert!(unknown.expect("trusts all in time").is_ok());
}

#[tokio::test]
async fn a_word_outlives_a_short_pause_of_the_gateway() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let (mut told, _worker) = worker(listener.local_addr().expect("bound"));
    let say = async |line: &[u8]| {
        let (mut stream, _) = listener.accept().await.expect("a worker");
        stream.write_all(line).await.expect("taken");
    };
    say(&message::line(&set(&["berlin"]))).await;
    hears(&mut told, &down(&["berlin"])).await;
    // What is not understood ends the connection, and the last word stays until it is stale.
    say(b"{\"version\":2}\n").await;
    say(&message::line(&set(&["berlin", "rome"]))).await;
    hears(&mut told, &down(&["berlin", "rome"])).await;
    assert!(!told.has_changed().expect("held"), "nothing else was noted in between");
}

#[tokio::test]
async fn nobody_but_nodes_is_told_and_each_only_once() {
    let (at, _states, _task) = gateway(&[WORKER]).await;
    let connect = async |from: IpAddr| {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.bind(SocketAddr::new(from, 0)).expect("a loopback address");
        BufReader::new(socket.connect(at).await.expect("connected"))
    };
    let mut line = String::new();
    let mut stranger = connect([127, 0, 0, 6].into()).await;
    assert_eq!(stranger.read_line(&mut line).await.unwrap_or(0), 0, "told {line}");
    let mut first = connect(WORKER).await;
    assert_ne!(first.read_line(&mut line).await.expect("told"), 0);
    let mut second = connect(WORKER).await;
    assert_ne!(second.read_line(&mut line).await.expect("told"), 0);
    let rest = timeout(STALE, first.read_to_end(&mut Vec::new())).await;
    assert!(rest.is_ok(), "the first connection ends");
}

#[tokio::test]
async fn an_endless_line_is_not_kept() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let (told, _worker) = worker(listener.local_addr().expect("bound"));
    let (mut stream, _) = listener.accept().await.expect("a worker");
    let piece = vec![b'a'; 1 << 16];
    let mut sent = 0;
    while stream.write_all(&piece).await.is_ok() {
        sent += piece.len() as u64;
        assert!(sent < message::LINE_MAX * 8, "read on and on");
    }
    assert!(matches!(*told.borrow(), Told::Nothing(_)));
}

fn loaded(text: &str, node: &str) -> Loaded {
    let site = crate::site::parse(text.as_bytes()).expect("valid");
    Loaded { site, secrets: Default::default(), node: node.to_owned() }
}

#[test]
fn each_node_has_its_part() {
    let text = "cluster: a\nprivateKeyFile: k\nnetwork: { podCIDRs: [10.0.0.0/16] }\ntunnel: { listenPort: 7 }\nnodes:\n  - { name: gw, address: 192.0.2.1, gateway: true }\n";
    let one = "  - { name: w1, address: 192.0.2.2 }\n";
    let peer = "peers: [{ cluster: rome, publicKey: TrMvSoP4jYQlY6RIzBgbssQqY3vxI2Pi+y71lOWWXX0=, allowedIPs: [10.62.0.0/16] }]\n";
    assert_eq!(Part::of(Some(&loaded(text, "gw"))), Part::Alone);
    let both = format!("{text}{one}{peer}");
    let at = "192.0.2.1:7".parse().expect("an address");
    let nodes = BTreeSet::from([IpAddr::from([192, 0, 2, 2])]);
    assert_eq!(Part::of(Some(&loaded(&both, "gw"))), Part::Gateway { listen: at, nodes });
    let worker = Part::Worker {
        gateway: "gw".to_owned(),
        at,
        from: [192, 0, 2, 2].into(),
        known: BTreeSet::from(["rome".to_owned()]),
    };
    assert_eq!(Part::of(Some(&loaded(&both, "w1"))), worker);
}
