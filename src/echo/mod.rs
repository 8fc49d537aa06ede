//! A small server that tells its callers what it sees of them, and its client: the ends between which `kubectl linkspan
//! verify` and `bench` measure. Both run in pods of Linkspan's own image, which needs no other one then.
//!
//! Over TCP the client's first line says what it wants ([`words::Request`]). Over UDP a datagram that begins with `who` is
//! answered like that request, and any other one comes back as it is; no answer is longer than its question, so that the
//! server cannot be used to amplify.

pub mod client;
pub mod server;
pub mod words;
