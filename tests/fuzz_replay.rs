//! Replays the corpus of every fuzz target, and simple mutations of it, on the compiler that builds the product.
//!
//! A target fails by panicking, so nothing is asserted about results here: what must hold is asserted by the targets.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on has failed")]

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

type Target = fn(&[u8]);

/// Each file of `tests/fuzz/fuzz_targets`, and the function that it calls.
const TARGETS: [(&str, Target); 8] = [
    ("coalescing", tunnel::packet::fuzz::fuzz_coalesce),
    ("datagram", tunnel::fuzz::fuzz_datagram),
    ("dns", dns::fuzz::fuzz_dns),
    ("icmp", tunnel::packet::fuzz::fuzz_icmp),
    ("path_states", linkspan::run::fuzz_path_states),
    ("segmentation", tunnel::packet::fuzz::fuzz_split),
    ("site", linkspan::site::fuzz_site),
    ("translation", tunnel::packet::fuzz::fuzz_translate),
];

/// Mutations of one seed, at most: more is what `make fuzz` is for.
const MUTATIONS: usize = 400;

#[test]
fn every_target_is_replayed_and_has_a_corpus() {
    let known: BTreeSet<_> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    let stems = |folder: &str| files(&fuzz().join(folder)).iter().map(|path| stem(path)).collect::<BTreeSet<_>>();
    assert_eq!(stems("fuzz_targets"), known, "targets and this test");
    assert_eq!(stems("corpus"), known, "folders of the corpus and this test");
    for name in known {
        let seeds = files(&fuzz().join("corpus").join(&name)).len();
        assert!(seeds >= 4, "{name} has {seeds} seeds only");
    }
}

#[test]
fn no_seed_and_no_simple_mutation_of_one_panics() {
    for (name, target) in TARGETS {
        for path in files(&fuzz().join("corpus").join(name)) {
            let seed = std::fs::read(&path).unwrap();
            replay(target, &seed, &format!("{}, as it is", path.display()));
            for (number, mutation) in mutations(&seed).enumerate() {
                replay(target, &mutation, &format!("{}, mutation {number}: {mutation:02x?}", path.display()));
            }
        }
    }
}

#[test]
fn mutations_are_cuts_and_flips() {
    let all: Vec<_> = mutations(&[0x00, 0xff]).collect();
    assert!(all.contains(&vec![]));
    assert!(all.contains(&vec![0x00]));
    assert!(all.contains(&vec![0x80, 0xff]));
    assert!(all.contains(&vec![0x00, 0x00]));
    assert!(all.contains(&vec![0x00, 0xff, 0xff]));
}

fn replay(target: Target, input: &[u8], what: &str) {
    let result = catch_unwind(AssertUnwindSafe(|| target(input)));
    assert!(result.is_ok(), "panicked: {what}");
}

/// Cuts at each place, bytes set to what parsers trip over, and a byte more; spread evenly when there are too many.
fn mutations(seed: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    let cuts = (0..seed.len()).map(|length| seed[..length].to_vec());
    let flips = (0..seed.len()).flat_map(|at| {
        [0x00, 0x01, 0x7f, 0xff, seed[at] ^ 0x80, seed[at] ^ 0x01].map(|byte| {
            let mut mutation = seed.to_vec();
            mutation[at] = byte;
            mutation
        })
    });
    let least = (seed.len() * 7).div_ceil(MUTATIONS).max(1);
    // No factor in common with the six flips of a byte, or some kinds of flip would never be taken.
    let step = (least..).find(|step| step % 2 != 0 && step % 3 != 0).expect("every third number or so is one");
    let longer = std::iter::once([seed, &[0xff]].concat());
    cuts.chain(flips).step_by(step).chain(longer).collect::<Vec<_>>().into_iter()
}

fn fuzz() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz")
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

fn stem(path: &Path) -> String {
    path.file_stem().unwrap().to_string_lossy().into_owned()
}
