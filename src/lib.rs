//! Linkspan: joins Kubernetes clusters.
