//! A way from this machine's loopback to an API server inside a network namespace.

use std::fs::File;
use std::io;
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use anyhow::{Context as _, Result};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// A relay in a thread of this process; it ends when this value is dropped.
#[derive(Debug)]
pub struct Relay {
    address: SocketAddr,
    ended: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Relay {
    /// Accepts connections on a free port of 127.0.0.1 and hands them on to `target` in the namespace `netns`.
    ///
    /// # Errors
    /// There is no free port.
    pub fn start(netns: &str, target: SocketAddr) -> Result<Self> {
        let listener = listen(0)?;
        let address = listener.local_addr().context("a listening socket has an address")?;
        let ended = Arc::new(AtomicBool::new(false));
        let thread = std::thread::spawn({
            let (netns, ended) = (netns.to_owned(), Arc::clone(&ended));
            move || {
                if let Err(error) = serve(&listener, &netns, target, &ended) {
                    eprintln!("the relay from {address} to {target} has ended: {error:#}");
                }
            }
        });
        Ok(Self { address, ended, thread: Some(thread) })
    }

    /// The port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.address.port()
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::SeqCst);
        // The thread waits for a connection: this is its last one.
        let woken = TcpStream::connect(self.address);
        if let (Ok(_), Some(thread)) = (woken, self.thread.take()) {
            // It has told its failure itself.
            let _ = thread.join();
        }
    }
}

/// Listens on a port of 127.0.0.1, or on a free one if it is 0.
///
/// # Errors
/// Another process listens there.
pub fn listen(port: u16) -> Result<TcpListener> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).with_context(|| format!("failed to listen on 127.0.0.1:{port}"))
}

/// Moves this thread into the namespace `netns` and hands each connection of `listener`, which stays in the namespace
/// where it was made, on to `target`, until `ended`.
///
/// # Errors
/// There is no such namespace, or the listener fails.
pub fn serve(listener: &TcpListener, netns: &str, target: SocketAddr, ended: &AtomicBool) -> Result<()> {
    let path = format!("/run/netns/{netns}");
    let namespace = File::open(&path).with_context(|| format!("failed to open {path}"))?;
    move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))
        .with_context(|| format!("failed to enter the network namespace {netns}"))?;
    drop(namespace);
    loop {
        let (near, _) = listener.accept().context("failed to accept a connection")?;
        if ended.load(Ordering::SeqCst) {
            return Ok(());
        }
        // A new thread is in the namespace of the one that made it. Whoever connected sees a failure as a closed
        // connection, as without the relay.
        std::thread::spawn(move || hand_on(&near, target));
    }
}

fn hand_on(near: &TcpStream, target: SocketAddr) -> io::Result<()> {
    let far = TcpStream::connect(target)?;
    std::thread::scope(|scope| {
        scope.spawn(|| copy(near, &far));
        copy(&far, near);
    });
    Ok(())
}

/// Copies until one end closes, and tells the other. After a failure nothing can come through in either direction.
fn copy(mut from: &TcpStream, mut to: &TcpStream) {
    let copied = io::copy(&mut from, &mut to);
    // A connection that is gone already needs no end.
    let _ = to.shutdown(if copied.is_ok() { Shutdown::Write } else { Shutdown::Both });
    if copied.is_err() {
        let _ = from.shutdown(Shutdown::Both);
    }
}
