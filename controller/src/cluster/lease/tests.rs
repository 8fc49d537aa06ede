//! Candidates at an API server whose data are restored: versions fall, UIDs stay.

use super::*;

const SECOND: Duration = Duration::from_secs(1);

/// The Lease, as the API server has it.
struct Server {
    lease: Lease,
    /// Of the last write.
    version: u64,
    writes: usize,
}

impl Server {
    fn new() -> Self {
        let metadata = ObjectMeta {
            name: Some("linkspan-gateway".into()),
            uid: Some("u".into()),
            resource_version: Some("5000".into()),
            ..ObjectMeta::default()
        };
        Self { lease: Lease { metadata, spec: None }, version: 5000, writes: 0 }
    }

    fn set_version(&mut self, version: u64) {
        self.version = version;
        self.lease.metadata.resource_version = Some(version.to_string());
    }

    fn replace(&mut self, wanted: Lease) -> Option<Lease> {
        self.writes += 1;
        if wanted.metadata.resource_version != self.lease.metadata.resource_version {
            return None;
        }
        self.lease = wanted;
        self.set_version(self.version + 1);
        Some(self.lease.clone())
    }
}

struct Candidate {
    elector: Elector,
    election: Election,
    lease: Option<Lease>,
}

impl Candidate {
    fn new(holder: &str, server: &Server) -> Self {
        let config = LeaseConfig {
            namespace: "linkspan-system".into(),
            name: "linkspan-gateway".into(),
            holder: holder.into(),
            duration: SECOND * 2,
            renew_period: SECOND / 2,
        };
        // Nothing is sent: the test answers instead.
        let mut nowhere = kube::Config::new("http://127.0.0.1:1".parse().unwrap());
        nowhere.default_namespace = "linkspan-system".into();
        let client = kube::Client::try_from(nowhere).unwrap();
        let (elector, _) = Elector::new(client, config.clone()).unwrap();
        let mut candidate =
            Self { elector, election: Election::new(config, Standing::Candidate, Instant::now()), lease: None };
        candidate.watch(server);
        candidate
    }

    fn watch(&mut self, server: &Server) {
        see(&mut self.lease, Some(server.lease.clone()), &mut self.election);
    }

    /// Does what there is to do now, as [`Elector::run`] does; at most 10 writes.
    fn act(&mut self, server: &mut Server) {
        for _ in 0..10 {
            let step = self.election.poll(Instant::now());
            if let Step::Wait(_) = step {
                return;
            }
            match server.replace(self.elector.wanted(step, self.lease.as_ref())) {
                Some(written) => {
                    self.election.handle_written(seen(&written), Instant::now(), Instant::now());
                    self.lease = Some(written);
                }
                None => believe(&mut self.lease, Some(server.lease.clone()), &mut self.election),
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn after_a_restore_the_holder_renews_what_is_there_and_others_wait() {
    let mut server = Server::new();
    let mut holder = Candidate::new("a", &server);
    holder.act(&mut server);
    let mut other = Candidate::new("b", &server);
    server.set_version(70);
    server.writes = 0;
    for _ in 0..20 {
        tokio::time::advance(SECOND / 2).await;
        holder.act(&mut server);
        // Watches of what is not there yet tell nothing.
        other.act(&mut server);
        assert_eq!(
            (holder.election.holding(), other.election.holding()),
            (&Holding::Ours, &Holding::Other("a".into()))
        );
    }
    // In 10 s: 20 renewals and a conflict; and the other one asks when it has seen none for 2 s.
    assert_eq!(server.writes, 21 + 5);
}

#[tokio::test(start_paused = true)]
async fn after_a_restore_what_a_lost_holder_leaves_is_taken() {
    let mut server = Server::new();
    Candidate::new("a", &server).act(&mut server);
    let mut other = Candidate::new("b", &server);
    server.set_version(70);
    server.writes = 0;
    for _ in 0..9 {
        tokio::time::advance(SECOND / 2).await;
        other.act(&mut server);
    }
    // The first try shows what is there, and it is silent for as long again.
    assert_eq!((other.election.holding(), server.writes), (&Holding::Ours, 3));
}

#[tokio::test(start_paused = true)]
async fn a_conflict_that_teaches_nothing_is_not_asked_for_again_at_once() {
    let mut server = Server::new();
    let mut holder = Candidate::new("a", &server);
    holder.act(&mut server);
    // Whatever is written is refused, and what is read is what was known.
    let before = server.lease.clone();
    for _ in 0..3 {
        tokio::time::advance(SECOND / 2).await;
        assert_eq!(holder.election.poll(Instant::now()), Step::Renew);
        believe(&mut holder.lease, Some(before.clone()), &mut holder.election);
        assert!(matches!(holder.election.poll(Instant::now()), Step::Wait(Some(_))));
    }
    tokio::time::advance(SECOND / 2).await;
    holder.election.poll(Instant::now());
    assert_eq!(holder.election.holding(), &Holding::Lost);
}
