//! Every fuzz target over its committed corpus and over damaged copies of it: what a nightly fuzzer does for hours, for a moment in every run of the tests.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "test code: where the harness fails, the test fails"
)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use fuzzing::{TARGETS, Target};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz").join(name)
}

fn names(of: &str) -> BTreeSet<String> {
    let entries = fs::read_dir(folder(of)).unwrap();
    let stem = |path: PathBuf| path.file_stem().unwrap().to_str().unwrap().to_owned();
    entries.map(|entry| stem(entry.unwrap().path())).collect()
}

fn seeds(target: &Target) -> Vec<Vec<u8>> {
    let mut paths: Vec<PathBuf> =
        fs::read_dir(folder("corpus").join(target.name)).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort_unstable();
    paths.iter().map(|path| fs::read(path).unwrap()).collect()
}

/// One change of some bytes: at a place, a kind and a byte.
fn damage(bytes: &mut Vec<u8>, (at, kind, byte): (usize, u8, u8)) {
    let at = at % (bytes.len() + 1);
    match kind {
        0 => bytes.truncate(at),
        1 => bytes.insert(at, byte),
        2 => drop(bytes.drain(at..bytes.len().min(at + usize::from(byte % 16)))),
        3 => bytes.extend_from_within(at..),
        4 => bytes.iter_mut().skip(at).take(4).for_each(|place| *place = if byte < 128 { 0xff } else { 0 }),
        _ => bytes.iter_mut().skip(at).take(1).for_each(|place| *place ^= byte | 1),
    }
}

#[test]
fn every_target_has_a_corpus_and_a_file_for_the_fuzzer_that_calls_it() {
    let ours: BTreeSet<String> = TARGETS.iter().map(|target| target.name.to_owned()).collect();
    assert_eq!((names("fuzz_targets"), names("corpus")), (ours.clone(), ours));
    let manifest = fs::read_to_string(folder("Cargo.toml")).unwrap();
    for target in TARGETS {
        let file = fs::read_to_string(folder("fuzz_targets").join(format!("{}.rs", target.name))).unwrap();
        assert!(file.contains(&format!("fuzzing::{}(bytes)", target.name)), "{}", target.name);
        assert!(manifest.contains(&format!("path = \"fuzz_targets/{}.rs\"", target.name)), "{}", target.name);
        assert!(!seeds(target).is_empty(), "{}", target.name);
    }
}

#[test]
fn no_seed_and_no_damaged_seed_breaks_a_promise_of_its_parser() {
    for target in TARGETS {
        let seeds = seeds(target);
        for seed in &seeds {
            (target.run)(seed);
        }
        // A pack is thousands of lines and slow without optimization.
        let cases = if target.name == "pack" { 24 } else { 1_000 };
        let damages = prop::collection::vec((any::<usize>(), 0u8..8, any::<u8>()), 1..6);
        let mut runner = TestRunner::new(Config { cases, failure_persistence: None, ..Config::default() });
        let ran = runner.run(&(0..seeds.len(), damages), |(at, damages)| {
            let mut bytes = seeds[at].clone();
            for change in damages {
                damage(&mut bytes, change);
            }
            (target.run)(&bytes);
            Ok(())
        });
        if let Err(error) = ran {
            panic!("{}: {error}", target.name);
        }
    }
}
