//! What waits for the collector.

use std::collections::VecDeque;

use hyper::body::Bytes;

/// What a batch holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Signal {
    Metrics,
    Logs,
    Traces,
}

impl Signal {
    /// Where it is sent, below the endpoint (OTLP 1.x, "OTLP/HTTP Request").
    pub(super) fn path(self) -> &'static str {
        match self {
            Self::Metrics => "/v1/metrics",
            Self::Logs => "/v1/logs",
            Self::Traces => "/v1/traces",
        }
    }
}

/// Encoded batches in the order in which they were made. Metrics have a budget of their own: there are most of them while
/// the collector is away, and they must not push out the log records that say why it is.
#[derive(Debug)]
pub(super) struct Buffer {
    events: Queue,
    metrics: Queue,
    made: u64,
    limit: usize,
}

/// Batches with their numbers.
#[derive(Debug, Default)]
struct Queue {
    batches: VecDeque<(u64, Signal, Bytes)>,
    bytes: usize,
}

impl Queue {
    fn push(&mut self, number: u64, signal: Signal, batch: Bytes) {
        self.bytes += batch.len();
        self.batches.push_back((number, signal, batch));
    }

    fn pop(&mut self) {
        if let Some((_, _, batch)) = self.batches.pop_front() {
            self.bytes -= batch.len();
        }
    }

    /// Takes every second batch away, and leaves the newest. Gives back how many went.
    fn thin_out(&mut self) -> u64 {
        let (before, newest) = (self.batches.len(), self.batches.len().wrapping_sub(1));
        let mut place = 0;
        self.batches.retain(|_| {
            place += 1;
            (newest - (place - 1)) % 2 == 0
        });
        self.bytes = self.batches.iter().map(|(_, _, batch)| batch.len()).sum();
        (before - self.batches.len()) as u64
    }

    fn next(&self) -> u64 {
        self.batches.front().map_or(u64::MAX, |(number, ..)| *number)
    }
}

impl Buffer {
    /// At most `limit` bytes of metrics, and as many of everything else.
    pub(super) fn new(limit: usize) -> Self {
        Self { events: Queue::default(), metrics: Queue::default(), made: 0, limit }
    }

    /// Adds a batch. Where there is too much, the oldest log records and spans go, and of metrics every second batch: what
    /// was long ago is known less finely then. Gives back how many batches were lost.
    pub(super) fn push(&mut self, signal: Signal, batch: Vec<u8>) -> u64 {
        if batch.len() > self.limit {
            return 1;
        }
        self.made += 1;
        let mut lost = 0;
        if signal == Signal::Metrics {
            self.metrics.push(self.made, signal, batch.into());
            while self.metrics.bytes > self.limit {
                lost += self.metrics.thin_out();
            }
            return lost;
        }
        self.events.push(self.made, signal, batch.into());
        while self.events.bytes > self.limit {
            self.events.pop();
            lost += 1;
        }
        lost
    }

    /// The oldest batch.
    pub(super) fn first(&self) -> Option<(Signal, Bytes)> {
        let queue = if self.metrics_are_next() { &self.metrics } else { &self.events };
        queue.batches.front().map(|(_, signal, batch)| (*signal, batch.clone()))
    }

    /// Takes the oldest batch away.
    pub(super) fn pop(&mut self) {
        if self.metrics_are_next() { self.metrics.pop() } else { self.events.pop() }
    }

    fn metrics_are_next(&self) -> bool {
        self.metrics.next() < self.events.next()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.events.batches.is_empty() && self.metrics.batches.is_empty()
    }

    pub(super) fn bytes(&self) -> usize {
        self.events.bytes + self.metrics.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_logs_and_spans_the_oldest_go_when_there_is_too_much() {
        let mut buffer = Buffer::new(10);
        assert_eq!(buffer.push(Signal::Logs, vec![1; 4]), 0);
        assert_eq!(buffer.push(Signal::Logs, vec![2; 4]), 0);
        assert_eq!(buffer.push(Signal::Traces, vec![3; 9]), 2);
        assert_eq!((buffer.bytes(), buffer.first().map(|(signal, _)| signal)), (9, Some(Signal::Traces)));
        assert_eq!(buffer.push(Signal::Logs, vec![4; 11]), 1, "one that never fits is lost itself");
        buffer.pop();
        assert!(buffer.is_empty() && buffer.bytes() == 0);
        buffer.pop();
        assert_eq!(buffer.bytes(), 0);
    }

    #[test]
    fn metrics_are_thinned_out_and_push_no_log_out() {
        let mut buffer = Buffer::new(10);
        assert_eq!(buffer.push(Signal::Logs, vec![0; 8]), 0);
        let lost: Vec<u64> = (1..=11).map(|made| buffer.push(Signal::Metrics, vec![made; 2])).collect();
        // Five fit; the sixth makes it three, and so on.
        assert_eq!(lost, [0, 0, 0, 0, 0, 3, 0, 0, 3, 0, 0]);
        let mut sent = Vec::new();
        while let Some((signal, batch)) = buffer.first() {
            sent.push((signal, batch[0]));
            buffer.pop();
        }
        let metrics = [4, 7, 9, 10, 11].map(|made| (Signal::Metrics, made));
        assert_eq!(sent[0], (Signal::Logs, 0));
        assert_eq!(sent[1..], metrics);
    }
}
