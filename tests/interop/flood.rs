//! Handshake initiations of a stranger: well formed up to the first MAC, which anyone can compute who knows the public
//! key, and nonsense within. A WireGuard under such load answers with cookies (WireGuard paper, section 5.3).

use std::io::ErrorKind;
use std::net::UdpSocket;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use tunnel::config::PublicKey;

use crate::mac;
use crate::support::{Host, enter};

/// A handshake initiation and a cookie reply have this many bytes and this type (WireGuard paper, section 5.4).
const INITIATION: usize = 148;
const COOKIE_REPLY: (usize, u8) = (64, 3);

#[derive(Debug, Default)]
struct Counts {
    cookies: AtomicU64,
    others: AtomicU64,
    stop: AtomicBool,
}

/// About 2 000 initiations per second, until it is dropped.
#[derive(Debug)]
pub struct Flood {
    counts: Arc<Counts>,
    thread: Option<JoinHandle<()>>,
}

impl Flood {
    /// Floods `target`, whose public key is `key`, from `host`.
    pub fn start(host: &Host, target: &str, key: &str) -> Self {
        let key: PublicKey = key.parse().unwrap();
        let (namespace, target, counts) = (host.path(), target.to_owned(), Arc::new(Counts::default()));
        let shared = Arc::clone(&counts);
        let thread = std::thread::spawn(move || {
            enter(&namespace);
            flood(&target, &key, &shared);
        });
        Self { counts, thread: Some(thread) }
    }

    /// Cookie replies so far.
    pub fn cookies(&self) -> u64 {
        self.counts.cookies.load(Ordering::Relaxed)
    }

    /// Other answers so far.
    pub fn others(&self) -> u64 {
        self.counts.others.load(Ordering::Relaxed)
    }

    /// Whether the flood goes on.
    pub fn is_running(&self) -> bool {
        self.thread.as_ref().is_some_and(|thread| !thread.is_finished())
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        self.counts.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

fn flood(target: &str, key: &PublicKey, counts: &Counts) {
    let bound = if target.starts_with('[') { "[::]:0" } else { "0.0.0.0:0" };
    let socket = UdpSocket::bind(bound).unwrap();
    socket.connect(target).unwrap();
    socket.set_nonblocking(true).unwrap();
    let mut number = 0_u32;
    let mut answer = [0; 2048];
    while !counts.stop.load(Ordering::Relaxed) {
        for _ in 0..20 {
            number += 1;
            // Lost or refused, the next one will do.
            let _ = socket.send(&initiation(key, number));
        }
        loop {
            match socket.recv(&mut answer) {
                Ok(length) if (length, answer[0]) == COOKIE_REPLY => counts.cookies.fetch_add(1, Ordering::Relaxed),
                Ok(_) => counts.others.fetch_add(1, Ordering::Relaxed),
                Err(error) if error.kind() == ErrorKind::ConnectionRefused => 0,
                Err(_) => break,
            };
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Type 1, a sender index, fields that decrypt to nothing, the first MAC, and no second one.
fn initiation(key: &PublicKey, number: u32) -> [u8; INITIATION] {
    let mut message = [0x5a; INITIATION];
    message[..4].copy_from_slice(&[1, 0, 0, 0]);
    message[4..8].copy_from_slice(&number.to_le_bytes());
    mac::sign(&mut message, key);
    message[132..].fill(0);
    message
}
