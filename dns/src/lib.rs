//! Linkspan's names: the authoritative clusterset.local server.
