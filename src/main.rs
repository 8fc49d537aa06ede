//! The linkspan program.
fn main() {}
