//! A way to an API server that fails when it is told to.

use std::net::SocketAddr;

use kube::Config;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// Hands connections on while it lasts.
pub struct Relay {
    silence: watch::Sender<()>,
    open: watch::Sender<bool>,
}

impl Relay {
    /// Puts one between clients with this configuration and their API server on the loopback.
    pub async fn before(config: &mut Config) -> Self {
        let target = SocketAddr::from(([127, 0, 0, 1], config.cluster_url.port_u16().unwrap()));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        config.cluster_url = format!("https://{}", listener.local_addr().unwrap()).parse().unwrap();
        let (silence, silenced) = watch::channel(());
        let (open, is_open) = watch::channel(true);
        tokio::spawn(async move {
            loop {
                let (near, _) = listener.accept().await.unwrap();
                let mut silenced = silenced.clone();
                silenced.mark_unchanged();
                tokio::spawn(hand_on(near, target, silenced, is_open.clone()));
            }
        });
        Self { silence, open }
    }

    /// Connections that are there now fall silent. New ones are handed on.
    pub fn fall_silent(&self) {
        self.silence.send(()).unwrap();
    }

    /// Connections that are there now end, and so do new ones.
    pub fn cut(&self) {
        self.open.send(false).unwrap();
    }

    /// New connections are handed on again.
    pub fn mend(&self) {
        self.open.send(true).unwrap();
    }
}

async fn hand_on(
    mut near: TcpStream,
    target: SocketAddr,
    mut silenced: watch::Receiver<()>,
    mut open: watch::Receiver<bool>,
) {
    let handed_on = async {
        let mut far = TcpStream::connect(target).await.unwrap();
        tokio::select! {
            _ = tokio::io::copy_bidirectional(&mut near, &mut far) => {}
            _ = silenced.changed() => std::future::pending().await,
        }
    };
    tokio::select! {
        biased;
        _ = open.wait_for(|open| !open) => {}
        () = handed_on => {}
    }
}
