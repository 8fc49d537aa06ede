//! A connection to the broker with one credential: its watches and its heartbeat.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::PostParams;
use kube::{Api, Client};
use tokio::time::Instant;

use super::account;
use super::connect::ConnectError;
use super::connection::Hold;
use super::credential::Credential;
use super::lease::{Beat, Beater, Memory, beat};
use super::shell::Now;
use super::watch::{self, Inputs};
use crate::members::ClusterId;

/// Longest wait for one exchange with the broker.
pub(super) const TIMEOUT: Duration = Duration::from_secs(10);
/// Tries of one heartbeat against others that write the same Lease.
const TRIES: usize = 3;

/// A connection to the broker.
pub(super) struct Session {
    pub client: Client,
    pub credential: Credential,
    pub inputs: Inputs,
    pub next_beat: Instant,
    /// Whether what is left of joining has been removed and the ClusterProperties are set.
    pub settled: bool,
    /// Whether the last heartbeat failed.
    pub failing: bool,
    /// What is remembered of others that use the same ID.
    memory: Memory,
}

/// Why a heartbeat failed.
#[derive(Debug)]
pub(super) enum BeatError {
    /// The broker does not take the credential.
    Refused(String),
    /// The broker cannot be reached.
    Unreachable(String),
}

impl Session {
    /// `before` is the one that this one follows: what it has heard from the same broker counts on.
    pub fn open(credential: Credential, before: Option<Self>, now: Instant) -> Result<Self, ConnectError> {
        let before = before.filter(|before| before.credential.broker == credential.broker);
        let client = credential.client()?;
        let inputs = watch::broker(&client, &credential.broker.namespace);
        Ok(Self {
            client,
            credential,
            inputs,
            next_beat: now,
            settled: false,
            failing: false,
            memory: before.map(|before| before.memory).unwrap_or_default(),
        })
    }

    pub fn namespace(&self) -> &str {
        &self.credential.broker.namespace
    }

    /// Watches anew: after an outage, old connections may hang for minutes.
    pub fn watch_anew(&mut self) {
        self.inputs = watch::broker(&self.client, &self.credential.broker.namespace);
    }

    /// Lists a cluster's records once more, beside the watches.
    pub fn list_again(&mut self, cluster: String) {
        self.inputs.push(watch::records_again(&self.client, &self.credential.broker.namespace, cluster));
    }

    /// One heartbeat.
    pub async fn beat(&mut self, own: Beater<'_>, now: Now) -> Result<Hold, BeatError> {
        let failure = match tokio::time::timeout(TIMEOUT, self.try_beat(own, now)).await {
            Ok(Ok(hold)) => return Ok(hold),
            Ok(Err(kube::Error::Api(status))) if matches!(status.code, 401 | 403) => BeatError::Refused(status.message),
            Ok(Err(error)) => BeatError::Unreachable(super::describe(&error)),
            Err(_) => BeatError::Unreachable(format!("it did not answer within {} s", TIMEOUT.as_secs())),
        };
        // While the broker is away, others cannot be heard either.
        self.memory = Memory::default();
        Err(failure)
    }

    async fn try_beat(&mut self, own: Beater<'_>, now: Now) -> Result<Hold, kube::Error> {
        let leases: Api<Lease> = Api::namespaced(self.client.clone(), self.namespace());
        let name = account::member(own.cluster);
        let mut tries = 0;
        loop {
            let current = leases.get_opt(&name).await?;
            let (lease, hold) = match beat(current.as_ref(), own, &mut self.memory, now) {
                Beat::Hold { lease, rival } => (lease, Hold::Mine { rival }),
                Beat::Refused { lease, holder, .. } => (lease, Hold::Other { holder }),
            };
            let params = PostParams::default();
            let written = match current {
                Some(_) => leases.replace(&name, &params, &lease).await,
                None => leases.create(&params, &lease).await,
            };
            tries += 1;
            match written {
                Ok(_) => return Ok(hold),
                // Somebody was faster: look again.
                Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) && tries < TRIES => {}
                Err(error) => return Err(error),
            }
        }
    }
}

/// Asks whether the broker's namespace is one in which Members live, by a write that is not carried out: where the
/// namespace is being deleted, its objects go one by one, and nothing new is let in.
pub(super) async fn confirm(client: &Client, namespace: &str, own: &ClusterId) -> Result<(), String> {
    let leases: Api<Lease> = Api::namespaced(client.clone(), namespace);
    let metadata = ObjectMeta { name: Some(account::member(own)), ..ObjectMeta::default() };
    let (lease, dry_run) = (Lease { metadata, spec: None }, PostParams { dry_run: true, ..PostParams::default() });
    match tokio::time::timeout(TIMEOUT, leases.create(&dry_run, &lease)).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(kube::Error::Api(status))) if status.is_already_exists() => Ok(()),
        Ok(Err(error)) => Err(super::describe(&error)),
        Err(_) => Err(format!("it did not answer within {} s", TIMEOUT.as_secs())),
    }
}
