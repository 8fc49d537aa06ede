//! The state of the broker part between two inputs: joining, staying joined, leaving.

use futures::FutureExt as _;
use k8s_openapi::api::core::v1::Secret as KubeSecret;
use k8s_openapi::jiff::Timestamp;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client, ResourceExt as _};
use serde_json::json;
use tokio::time::Instant;

use super::config::BrokerConfig;
use super::connection::{Connection, Hold, Joined, Told};
use super::credential::Credential;
use super::join::{self, JoinError};
use super::join_token::JoinToken;
use super::kept::Kept;
use super::lease::Beater;
use super::leave::{Leaver, leave};
use super::plan::Court;
use super::retry::Retry;
use super::secrets::{ANNOTATION_USED, Known, REFUSED, Useless, Wish, wish};
use super::session::{BeatError, Session, TIMEOUT};
use super::status::{Contact, WorkCounts};
use super::watch::{self, Inputs};
use super::world::{Key, World};
use super::{connect, describe, properties};
use crate::api::names::{FIELD_MANAGER, REPORTER, SECRET_BROKER, SECRET_JOIN};
use crate::events::Teller;

/// Time, read once for a step.
#[derive(Debug, Clone, Copy)]
pub(super) struct Now {
    pub wall: Timestamp,
    pub monotonic: Instant,
}

/// Everything between two inputs.
pub(super) struct Shell {
    pub local: Client,
    pub config: BrokerConfig,
    pub inputs: Inputs,
    pub world: World,
    pub connection: Connection,
    pub session: Option<Session>,
    pub court: Option<Court>,
    pub kept: Kept,
    pub retry: Retry,
    pub contact: Contact,
    pub work: WorkCounts,
    pub events: Teller,
    /// Fingerprint of a join token that cannot be used, and why.
    failed_token: Option<(String, Useless)>,
    refused: Option<Credential>,
    /// Why what lies in the join Secret does not replace a credential that is refused.
    useless: Option<Useless>,
    /// A credential that is not stored yet.
    unsaved: Option<Credential>,
    /// No exchange or leaving before.
    not_before: Option<Instant>,
}

impl Shell {
    pub fn new(local: Client, config: BrokerConfig) -> Self {
        let inputs = watch::local(&local, &config.namespace);
        let world = World { own: config.cluster.to_string(), ..World::default() };
        Self {
            events: Teller::new(local.clone(), REPORTER, None),
            local,
            config,
            inputs,
            world,
            connection: Connection::new(),
            session: None,
            court: None,
            kept: Kept::default(),
            retry: Retry::default(),
            contact: Contact::default(),
            work: WorkCounts::default(),
            failed_token: None,
            refused: None,
            useless: None,
            unsaved: None,
            not_before: None,
        }
    }

    /// Follows the Secrets and the clock: joins, renews, beats, leaves.
    pub async fn tend(&mut self, now: Now) {
        let before = self.connection.clone();
        self.follow_secrets(now).await;
        self.beat(now).await;
        self.renew(now).await;
        if self.connection != before {
            if self.connection.is_ours() != before.is_ours() {
                self.world.mark_all();
            }
            self.world.mark([Key::Own]);
        }
    }

    /// When [`Self::tend`] has something to do though nothing came in.
    pub fn next_step(&self, now: Now) -> Option<Instant> {
        let instant = |at: Timestamp| {
            let wait = at.duration_since(now.wall);
            now.monotonic + std::time::Duration::try_from(wait).unwrap_or_default()
        };
        let silence = self.world.remote.liveness.next_silence(now.wall).map(instant);
        let rested = self.rest_ends().map(instant);
        let beat = self.session.as_ref().map(|session| session.next_beat);
        [silence, rested, beat, self.retry.next(), self.not_before].into_iter().flatten().min()
    }

    /// When the next prefix that rests may be taken again.
    pub fn rest_ends(&self) -> Option<Timestamp> {
        self.court.as_ref().and_then(|court| court.rest_ends)
    }

    async fn follow_secrets(&mut self, now: Now) {
        if let Some(credential) = self.unsaved.take() {
            self.save(credential, now).await;
        }
        let synced = self.world.join_secret.is_synced() && self.world.broker_secret.is_synced();
        if !synced || self.not_before.is_some_and(|at| now.monotonic < at) {
            return;
        }
        self.not_before = None;
        let known = Known {
            own: &self.config.cluster,
            refused: self.refused.as_ref(),
            failed: self.failed_token.as_ref(),
            now: now.wall,
        };
        let (broker, join) = (self.world.broker_secret.get(SECRET_BROKER), self.world.join_secret.get(SECRET_JOIN));
        match wish(broker, join, known) {
            Wish::Stay { credential, useless } => {
                self.useless = useless;
                self.stay(credential, now);
            }
            Wish::Join(token) => self.join(&token, now).await,
            Wish::Leave(credential) => self.leave(credential.as_ref(), now).await,
            // Who has just left has no Secrets either.
            Wish::Wait { reason: "NotJoined", .. } if self.connection.has_left() => {}
            Wish::Wait { reason, message } => {
                self.close();
                self.connection.joined = Joined::No { reason, message };
            }
        }
    }

    fn close(&mut self) {
        self.session = None;
        self.contact.lost();
        self.connection = Connection { joined: self.connection.joined.clone(), ..Connection::new() };
    }

    fn stay(&mut self, credential: Credential, now: Now) {
        if self.session.as_ref().is_some_and(|session| session.credential == credential) {
            return;
        }
        let hold = self.connection.hold.clone();
        let before = self.session.take();
        let renewed = before.is_some();
        let (server, expires) = (credential.broker.server.clone(), credential.expires);
        match Session::open(credential, before, now.monotonic) {
            Ok(session) => {
                self.world.reset_remote(now.wall);
                self.session = Some(session);
                self.connection.called_at(connect::address(&server).into_iter().collect());
                self.connection.joined = Joined::Yes { server, expires };
                // A renewed credential changes nothing about who holds the ID.
                self.connection.hold = if renewed { hold } else { Hold::Unknown };
            }
            Err(error) => {
                self.close();
                self.connection.joined = Joined::No { reason: "InvalidCredential", message: error.to_string() };
            }
        }
    }

    async fn join(&mut self, token: &JoinToken, now: Now) {
        tracing::info!("joining with the {token}");
        let (own, lifetime) = (&self.config.cluster, self.config.credential_lifetime);
        let secret = self.world.join_secret.get(SECRET_JOIN).and_then(|secret| secret.uid()).unwrap_or_default();
        let nonce = token.nonce(&secret, &self.config.cluster_uid);
        let exchange = async {
            let client = token.client()?;
            let credential = join::exchange(&client, token, own, lifetime, &nonce, now.wall).await?;
            Ok::<_, JoinError>((client, credential))
        };
        match tokio::time::timeout(TIMEOUT, exchange).await {
            Ok(Ok((client, credential))) => {
                (self.refused, self.useless) = (None, None);
                self.save(credential, now).await;
                // What cannot be done now is done after the first heartbeat.
                if self.unsaved.is_none() {
                    let _ = tokio::time::timeout(TIMEOUT, join::use_up(&client, token)).await;
                }
            }
            Ok(Err(error)) => self.join_failed(token, &error, now),
            Err(_) => {
                let message = format!("the broker did not answer within {} s", TIMEOUT.as_secs());
                self.not_joined_yet("BrokerUnreachable", &message, now);
            }
        }
    }

    fn join_failed(&mut self, token: &JoinToken, error: &JoinError, now: Now) {
        tracing::warn!("failed to join: {error}");
        if error.is_passing() {
            // Heartbeats of a credential that is refused say the same.
            self.useless = self.refused.is_some().then(|| (error.reason(), error.to_string()));
            return self.not_joined_yet(error.reason(), &error.to_string(), now);
        }
        // A credential that is refused may be taken again one day.
        if self.refused.is_none() {
            self.close();
        }
        let (reason, message) = (error.reason(), error.to_string());
        self.useless = Some((reason, message.clone()));
        self.failed_token = Some((token.fingerprint(), (reason, message.clone())));
        self.connection.joined = Joined::No { reason, message };
    }

    fn not_joined_yet(&mut self, reason: &'static str, message: &str, now: Now) {
        self.not_before = Some(now.monotonic + self.config.heartbeat);
        self.connection.joined = Joined::No { reason, message: format!("{message}; trying again") };
    }

    /// Stores a credential, and goes on with it. While it cannot be stored, it is kept in memory.
    async fn save(&mut self, credential: Credential, now: Now) {
        let secret = credential.to_secret(&self.config.namespace);
        let secrets: Api<KubeSecret> = Api::namespaced(self.local.clone(), &self.config.namespace);
        let params = PatchParams::apply(FIELD_MANAGER).force();
        match secrets.patch(SECRET_BROKER, &params, &Patch::Apply(&secret)).await {
            Ok(stored) => {
                self.world.broker_secret.put(SECRET_BROKER.to_owned(), stored);
                self.mark_used(&credential).await;
                self.stay(credential, now);
            }
            Err(error) => {
                tracing::warn!("failed to store the credential in Secret {SECRET_BROKER}: {}", describe(&error));
                self.unsaved = Some(credential);
                self.not_before = Some(now.monotonic + std::time::Duration::from_secs(1));
            }
        }
    }

    /// Says on the join Secret that its token is used. It only tells people; the fingerprint in the credential decides.
    async fn mark_used(&mut self, credential: &Credential) {
        if self.world.join_secret.get(SECRET_JOIN).is_none() {
            return;
        }
        let secrets: Api<KubeSecret> = Api::namespaced(self.local.clone(), &self.config.namespace);
        let patch = json!({ "metadata": { "annotations": { ANNOTATION_USED: credential.joined_with } } });
        if let Err(error) = secrets.patch(SECRET_JOIN, &PatchParams::default(), &Patch::Merge(patch)).await {
            tracing::debug!("failed to mark Secret {SECRET_JOIN} as used: {}", describe(&error));
        }
    }

    /// Leaves; without a credential, without asking the broker.
    async fn leave(&mut self, credential: Option<&Credential>, now: Now) {
        tracing::info!("leaving the clusterset");
        let session = self.session.take().map(|session| session.client);
        let hold = std::mem::replace(&mut self.connection.hold, Hold::Unknown);
        self.close();
        // With a credential of which no client can be made there is nobody to ask.
        let client = credential.and_then(|credential| session.or_else(|| credential.client().ok()));
        let broker = client.as_ref().zip(credential.map(|credential| credential.broker.namespace.as_str()));
        let own = Leaver {
            local: &self.local,
            namespace: &self.config.namespace,
            cluster: &self.config.cluster,
            cluster_uid: &self.config.cluster_uid,
            holder: hold.other(),
            has_copy: hold.has_copy(),
        };
        match leave(own, broker).await {
            Ok(left) => {
                self.world.broker_secret.remove(SECRET_BROKER);
                self.world.join_secret.remove(SECRET_JOIN);
                self.world.reset_remote(now.wall);
                let message = left.tell(&self.config.cluster);
                tracing::info!("{message}");
                self.connection.joined = Joined::No { reason: "Left", message };
            }
            Err(error) => {
                tracing::warn!("failed to leave, trying again: {error}");
                self.not_before = Some(now.monotonic + self.config.heartbeat);
                self.connection.joined = Joined::No { reason: "Leaving", message: error.to_string() };
            }
        }
    }

    async fn beat(&mut self, now: Now) {
        let Some(session) = self.session.as_mut().filter(|session| session.next_beat <= now.monotonic) else { return };
        session.next_beat = now.monotonic + self.config.heartbeat;
        let own = Beater {
            cluster: &self.config.cluster,
            cluster_uid: &self.config.cluster_uid,
            duration: self.config.lease_duration,
        };
        let outcome = session.beat(own, now).await;
        let was_failing = std::mem::replace(&mut session.failing, outcome.is_err());
        if outcome.is_err() {
            self.contact.lost();
        }
        match outcome {
            Ok(hold) => {
                let credential = &session.credential;
                let (server, expires) = (credential.broker.server.clone(), credential.expires);
                self.connection.joined = Joined::Yes { server, expires };
                self.connection.unreachable = None;
                self.connection.hold = hold;
                self.connection.called_at(connect::looked_up(&session.credential.broker.server).await);
                self.contact.answered(now.wall);
                self.refused = None;
                if was_failing {
                    tracing::info!("the broker is back");
                    session.watch_anew();
                    self.world.reset_remote(now.wall);
                }
                self.settle().await;
            }
            Err(BeatError::Refused(message)) => {
                self.refused = Some(session.credential.clone());
                let message = format!(
                    "the broker refuses the credential ({message}): it was revoked, or another cluster has joined under \
                     this ID; put a new token into Secret linkspan-join to join again"
                );
                let (reason, message) = self.useless.clone().unwrap_or((REFUSED, message));
                self.connection.joined = Joined::No { reason, message };
            }
            Err(BeatError::Unreachable(error)) if self.connection.unreachable.is_none() => {
                tracing::warn!("the broker cannot be reached: {error}");
                self.connection.unreachable = Some((now.wall, error));
            }
            Err(BeatError::Unreachable(_)) => {}
        }
    }

    /// After the first heartbeat, and when somebody changed a ClusterProperty: removes what is left of joining, and tells other programs of the membership.
    async fn settle(&mut self) {
        let changed = std::mem::take(&mut self.world.properties_changed);
        let Some(session) = self.session.as_mut().filter(|session| changed || !session.settled) else { return };
        if !matches!(self.connection.hold, Hold::Mine { .. }) {
            return;
        }
        let (cluster, broker) = (&self.config.cluster, &session.credential.broker);
        let cleaned = join::clean_up(&session.client, &broker.namespace, cluster).await;
        let told = match properties::set(&self.local, cluster, &broker.clusterset, &self.config.owners).await {
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(Told::NoKind),
            Ok(foreign) if foreign.is_empty() => Ok(Told::Yes),
            Ok(foreign) => Ok(Told::Otherwise(foreign)),
            Err(error) => Err(error),
        };
        match cleaned.and(told) {
            Ok(told) => {
                session.settled = true;
                self.connection.told = told;
            }
            Err(error) => tracing::warn!("failed to finish joining, trying again: {}", describe(&error)),
        }
    }

    async fn renew(&mut self, now: Now) {
        let Some(session) = &self.session else { return };
        let due =
            now.wall >= session.credential.renewal() && session.next_beat == now.monotonic + self.config.heartbeat;
        if !due || session.failing {
            return;
        }
        let renewed = join::renew(&session.client, &session.credential, self.config.credential_lifetime, now.wall);
        match tokio::time::timeout(TIMEOUT, renewed).await {
            Ok(Ok(credential)) => {
                tracing::info!("the credential for the broker is renewed until {}", credential.expires);
                self.save(credential, now).await;
            }
            Ok(Err(error)) => tracing::warn!("failed to renew the credential, trying again: {}", describe(&error)),
            Err(_) => tracing::warn!("failed to renew the credential, trying again: the broker did not answer"),
        }
    }

    /// Takes in all inputs that are there by now.
    pub fn take_ready(&mut self, now: Now) {
        use futures::StreamExt as _;
        const MOST: usize = 4096;
        for _ in 0..MOST {
            let local = self.inputs.next().now_or_never().flatten();
            let broker = self.session.as_mut().and_then(|session| session.inputs.next().now_or_never().flatten());
            if local.is_none() && broker.is_none() {
                return;
            }
            for input in [local, broker].into_iter().flatten() {
                self.take(input, now);
            }
        }
    }
}
