//! Counters of a running server, for metrics and status.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counters that every worker adds to. Relaxed: each is right by itself, a snapshot of several may tear.
#[derive(Debug, Default)]
pub struct Stats {
    udp_queries: AtomicU64,
    tcp_queries: AtomicU64,
    answered: AtomicU64,
    no_data: AtomicU64,
    nx_domain: AtomicU64,
    refused: AtomicU64,
    not_synced: AtomicU64,
    malformed: AtomicU64,
    truncated: AtomicU64,
    send_failed: AtomicU64,
    zones: AtomicU64,
}

/// The counters at one moment, each since the server started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StatsSnapshot {
    /// Datagrams that were answered.
    pub udp_queries: u64,
    /// Questions over TCP that were answered.
    pub tcp_queries: u64,
    /// Answers with records.
    pub answered: u64,
    /// Answers NOERROR without a record of the type.
    pub no_data: u64,
    /// Answers NXDOMAIN.
    pub nx_domain: u64,
    /// Answers REFUSED: outside the zone, another class, a zone transfer.
    pub refused: u64,
    /// Answers SERVFAIL: no zone yet.
    pub not_synced: u64,
    /// Answers FORMERR, NOTIMP or BADVERS.
    pub malformed: u64,
    /// Datagrams with TC set.
    pub truncated: u64,
    /// Datagrams that could not be sent.
    pub send_failed: u64,
    /// Zones that were put in service.
    pub zones: u64,
}

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Event {
    UdpQuery,
    TcpQuery,
    Answered,
    NoData,
    NxDomain,
    Refused,
    NotSynced,
    Malformed,
    Truncated,
    SendFailed,
    Zone,
}

impl Stats {
    pub(crate) fn count(&self, event: Event) {
        let counter = match event {
            Event::UdpQuery => &self.udp_queries,
            Event::TcpQuery => &self.tcp_queries,
            Event::Answered => &self.answered,
            Event::NoData => &self.no_data,
            Event::NxDomain => &self.nx_domain,
            Event::Refused => &self.refused,
            Event::NotSynced => &self.not_synced,
            Event::Malformed => &self.malformed,
            Event::Truncated => &self.truncated,
            Event::SendFailed => &self.send_failed,
            Event::Zone => &self.zones,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// All counters now.
    pub fn snapshot(&self) -> StatsSnapshot {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        StatsSnapshot {
            udp_queries: read(&self.udp_queries),
            tcp_queries: read(&self.tcp_queries),
            answered: read(&self.answered),
            no_data: read(&self.no_data),
            nx_domain: read(&self.nx_domain),
            refused: read(&self.refused),
            not_synced: read(&self.not_synced),
            malformed: read(&self.malformed),
            truncated: read(&self.truncated),
            send_failed: read(&self.send_failed),
            zones: read(&self.zones),
        }
    }
}
