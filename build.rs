//! Packs the program's relative relocations: tables of pointers, mostly of the API's types, need 24 bytes for each pointer
//! otherwise, all of which are read when a process starts, and stay in its memory. A linker that does not know how goes on
//! with a warning.

use std::env::var;
use std::process::Command;

/// The first glibc that reads them (its NEWS, 2.36); musl does since 1.2.4, and Rust has a later one.
const GLIBC: (u32, u32) = (2, 36);

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let of_target = |what: &str| var(format!("CARGO_CFG_TARGET_{what}")).unwrap_or_default();
    let reads = match (of_target("OS").as_str(), of_target("ENV").as_str()) {
        ("linux", "musl") => true,
        // Of another machine's glibc nothing is known.
        ("linux", "gnu") => var("HOST").ok() == var("TARGET").ok() && glibc().is_some_and(|glibc| glibc >= GLIBC),
        _ => false,
    };
    if reads {
        println!("cargo::rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
    }
}

/// This machine's glibc, which `getconf` calls `glibc 2.36`.
fn glibc() -> Option<(u32, u32)> {
    let output = Command::new("getconf").arg("GNU_LIBC_VERSION").output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let (major, minor) = text.trim().strip_prefix("glibc ")?.split_once('.')?;
    Some((major.parse().ok()?, minor.split('.').next()?.parse().ok()?))
}
