//! A stream of known bytes through the tunnel, compared byte for byte at the other end.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{LazyLock, mpsc};
use std::time::Duration;

use crate::support::Host;

const PORT: u16 = 5300;
const LENGTH: usize = 32 << 20;
/// A stalled stream fails after this long.
const STALL: Duration = Duration::from_secs(120);

/// Sends 32 MiB over TCP from one host to `address` of the other, and panics unless exactly they arrive.
pub fn megabytes(from: &Host, to: &Host, address: &str) {
    // Before the clocks of the stream run.
    LazyLock::force(&BYTES);
    let (ready, is_ready) = mpsc::channel();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            to.enter();
            let listener = TcpListener::bind((address, PORT)).unwrap();
            ready.send(()).unwrap();
            receive(&mut listener.accept().unwrap().0);
        });
        scope.spawn(move || {
            from.enter();
            is_ready.recv().unwrap();
            let target = format!("{address}:{PORT}").parse().unwrap();
            let mut stream = TcpStream::connect_timeout(&target, STALL).unwrap();
            stream.set_write_timeout(Some(STALL)).unwrap();
            stream.write_all(&BYTES).unwrap();
            stream.shutdown(Shutdown::Write).unwrap();
            stream.set_read_timeout(Some(STALL)).unwrap();
            assert_eq!(stream.read(&mut [0]).unwrap(), 1, "the receiver did not confirm");
        });
    });
}

fn receive(stream: &mut TcpStream) {
    stream.set_read_timeout(Some(STALL)).unwrap();
    let mut received = Vec::with_capacity(LENGTH);
    stream.read_to_end(&mut received).unwrap();
    assert_eq!(received.len(), BYTES.len(), "bytes");
    // The sender waits: whole slices are compared much faster than byte after byte.
    if received != *BYTES {
        let wrong = received.iter().zip(BYTES.iter()).position(|(received, expected)| received != expected);
        panic!("the first byte that is wrong: {wrong:?}");
    }
    stream.write_all(&[1]).unwrap();
}

/// Bytes that repeat in no period of a packet or a buffer: the high bits of a counter times an odd number.
static BYTES: LazyLock<Vec<u8>> =
    LazyLock::new(|| (0..LENGTH as u32).map(|number| (number.wrapping_mul(0x9e37_79b1) >> 24) as u8).collect());
