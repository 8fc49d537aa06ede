//! The page of `kubectl linkspan ui`: what the server answers, and what Chromium makes of it.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on has failed")]

mod browser;
mod page;
mod server;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use linkspan::kubectl::picture::now;
use linkspan::kubectl::ui::data::Shown;
use linkspan::kubectl::ui::server::{Answer, Token, serve};
use rand::SeedableRng as _;
use tokio::runtime::Runtime;
use tokio::sync::watch;

/// Three clusters: the gateway of berlin is dead, paris is well, and of rome there is no context.
fn three() -> Shown {
    serde_json::from_str(include_str!("three.json")).unwrap()
}

/// The real server with these data; it ends with this.
struct Served {
    _runtime: Runtime,
    answer: watch::Sender<Arc<Answer>>,
    address: SocketAddr,
    url: String,
}

impl Served {
    fn new(shown: &Shown) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let (answer, receive) = watch::channel(Arc::new(Answer::new(shown, now()).unwrap()));
        let listener = runtime.block_on(tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))).unwrap();
        let address = listener.local_addr().unwrap();
        let token = Token::draw(rand::rngs::StdRng::seed_from_u64(1)).unwrap();
        let url = token.url(address.port());
        runtime.spawn(serve(listener, token, receive));
        Self { _runtime: runtime, answer, address, url }
    }

    /// What was seen in another round.
    fn show(&self, shown: &Shown) {
        self.answer.send(Arc::new(Answer::new(shown, now()).unwrap())).unwrap();
    }
}
