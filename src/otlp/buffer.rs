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

/// Encoded batches in the order in which they were made, at most so many bytes of them.
#[derive(Debug)]
pub(super) struct Buffer {
    batches: VecDeque<(Signal, Bytes)>,
    bytes: usize,
    limit: usize,
}

impl Buffer {
    pub(super) fn new(limit: usize) -> Self {
        Self { batches: VecDeque::new(), bytes: 0, limit }
    }

    /// Adds a batch; the oldest go when there is too much. Gives back how many batches were lost.
    pub(super) fn push(&mut self, signal: Signal, batch: Vec<u8>) -> u64 {
        if batch.len() > self.limit {
            return 1;
        }
        self.bytes += batch.len();
        self.batches.push_back((signal, batch.into()));
        let mut lost = 0;
        while self.bytes > self.limit {
            self.pop();
            lost += 1;
        }
        lost
    }

    /// The oldest batch.
    pub(super) fn first(&self) -> Option<(Signal, Bytes)> {
        self.batches.front().cloned()
    }

    /// Takes the oldest batch away.
    pub(super) fn pop(&mut self) {
        if let Some((_, batch)) = self.batches.pop_front() {
            self.bytes -= batch.len();
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.batches.is_empty()
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_go_when_there_is_too_much() {
        let mut buffer = Buffer::new(10);
        assert_eq!(buffer.push(Signal::Logs, vec![1; 4]), 0);
        assert_eq!(buffer.push(Signal::Metrics, vec![2; 4]), 0);
        assert_eq!(buffer.push(Signal::Traces, vec![3; 9]), 2);
        assert_eq!((buffer.bytes(), buffer.first().map(|(signal, _)| signal)), (9, Some(Signal::Traces)));
        assert_eq!(buffer.push(Signal::Logs, vec![4; 11]), 1, "one that never fits is lost itself");
        buffer.pop();
        assert!(buffer.is_empty() && buffer.bytes() == 0);
        buffer.pop();
        assert_eq!(buffer.bytes(), 0);
    }
}
