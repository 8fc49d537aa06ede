//! The clusterset as a page in the browser: `kubectl linkspan ui`.
//!
//! `follow` observes in rounds, [`topology`] makes of it what is shown, and [`server`] serves that with the page to the
//! person who started it, and to nobody else.

pub mod data;
mod exports;
mod follow;
mod index;
mod latest;
mod open;
pub mod rates;
pub mod server;
pub mod topology;

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tokio::net::TcpListener;
use tokio::sync::watch;

use super::contexts::Target;
use super::output::print;
use super::speech::Speech;
use data::Shown;
use follow::Follower;
use server::{Answer, Token, serve};

pub use follow::Nodes;

/// Whether a browser is started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Browser {
    /// Yes, where there is a screen.
    Opened,
    /// The person opens the URL.
    LeftAlone,
}

/// How the page is served.
#[derive(Debug, Clone)]
pub struct Options {
    /// TCP port on 127.0.0.1; 0 for any that is free.
    pub port: u16,
    /// How long to wait between two rounds.
    pub every: Duration,
    /// Whether nodes are asked.
    pub nodes: Nodes,
    /// Whether a browser is started.
    pub browser: Browser,
    /// How who reads the page calls the program.
    pub speech: Speech,
}

/// Serves the page until it is interrupted.
///
/// # Errors
/// The port cannot be listened on, or standard output cannot be written.
pub async fn ui(targets: Vec<Target>, options: Options) -> anyhow::Result<()> {
    let bound = TcpListener::bind((Ipv4Addr::LOCALHOST, options.port)).await;
    let listener = bound.with_context(|| format!("failed to listen on 127.0.0.1:{}", options.port))?;
    let port = listener.local_addr().context("the listener has no address")?.port();
    let token = Token::draw(rand::rngs::OsRng)?;
    let url = token.url(port);
    let (send, answer) = watch::channel(Arc::new(Answer::new(&Shown::default(), super::picture::now())?));
    print(&format!("{url}\n"))?;
    eprintln!("linkspan: this URL is for you alone; Ctrl-C ends it");
    let _opened = match options.browser {
        Browser::Opened => open::open(&url),
        Browser::LeftAlone => None,
    };
    tokio::select! {
        ended = serve(listener, token, answer) => ended,
        ended = Follower::new(targets, options.nodes, options.speech).follow(options.every, send) => ended,
        ended = interrupted() => ended,
    }
}

/// Until Ctrl-C, or SIGTERM.
async fn interrupted() -> anyhow::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminated = signal(SignalKind::terminate()).context("failed to wait for SIGTERM")?;
    tokio::select! {
        ended = tokio::signal::ctrl_c() => ended.context("failed to wait for Ctrl-C"),
        _ = terminated.recv() => Ok(()),
    }
}
