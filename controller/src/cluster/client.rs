//! Clients that notice when an API server is gone without a word: when its node loses power, or something between stops
//! handing on. Kernels would take a quarter of an hour for it, and where nothing is sent they never notice.

use std::time::Duration;

use kube::client::ClientBuilder;
use kube::{Client, Config, Error, Result};
use tower::timeout::TimeoutLayer;

/// How long a connection may take to be made.
const CONNECT: Duration = Duration::from_secs(5);
/// How long an API server may take to begin an answer; as `--request-timeout` of `kubectl linkspan` at first. A watch is
/// answered at once as well. Of a request that is given up, the connection is too.
const ANSWER: Duration = Duration::from_secs(15);
/// How long nothing may come in the middle of an answer: longer than the longest watch ([`super::watching`]).
const SILENCE: Duration = Duration::from_secs(super::watching::LONGEST + 15);

/// A client of the API server that `config` tells of.
///
/// # Errors
/// Its certificates or its proxy are of no use.
pub fn connect(mut config: Config) -> Result<Client> {
    config.connect_timeout = Some(CONNECT);
    config.read_timeout = Some(SILENCE);
    // A connection that has been idle has its whole time for the next answer.
    config.reset_reader_on_write = true;
    Ok(ClientBuilder::try_from(config)?.with_layer(&TimeoutLayer::new(ANSWER)).build())
}

/// A client of the API server that the pod's environment or KUBECONFIG tells of.
///
/// # Errors
/// There is none, or as [`connect`].
pub async fn connect_to_own() -> Result<Client> {
    connect(Config::infer().await.map_err(Error::InferConfig)?)
}
