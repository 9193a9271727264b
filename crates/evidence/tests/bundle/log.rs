//! A whole log in one file: it verifies, by us and by `openssl`; and what was changed in it is noticed and the record named.

use std::io::Cursor;

use evidence::log_bundle::{LogBundleWriter, Trust, verify_log_bundle};
use evidence::note::{KeyKind, Note, NoteKey};
use evidence::tile::{bundle_bytes, bundle_entries};
use evidence::{BundleError, LogReport, Statement, checkpoint};

use crate::openssl::{run_script, write_tree};
use crate::sample::*;

fn entries() -> Vec<Vec<u8>> {
    log_entries(&signed(Statement::Collection(Box::new(collection('1', &[REPLY]))), &key(1)))
}

fn write(entries: &[Vec<u8>], note: &Note) -> Result<Vec<u8>, BundleError> {
    let mut writer = LogBundleWriter::new(Vec::new(), &key(3).public(), note, None)?;
    while let Some(tile) = writer.next() {
        let from = usize::try_from(tile.start()).unwrap();
        let part = &entries[from..from + usize::from(tile.width)];
        writer.entries(&bundle_bytes(part.iter().map(Vec::as_slice)).unwrap())?;
    }
    writer.finish()
}

fn bundle_of(entries: &[Vec<u8>]) -> Vec<u8> {
    write(entries, &log_checkpoint(entries).sign(&key(3)).unwrap()).unwrap()
}

fn verify_with(bundle: &[u8], trust: &Trust) -> Result<LogReport, BundleError> {
    verify_log_bundle(Cursor::new(bundle), trust)
}

fn refused(bundle: &[u8], trust: &Trust) -> (String, String) {
    match verify_with(bundle, trust) {
        Err(BundleError::Refused { file, problem }) => (file, problem),
        other => panic!("{other:?}"),
    }
}

fn trust() -> Trust {
    Trust { key: Some(key(3).public().fingerprint()), ..Trust::default() }
}

fn since(entries: &[Vec<u8>]) -> Trust {
    Trust { since: Some(log_checkpoint(entries).sign(&key(3)).unwrap()), ..trust() }
}

#[test]
fn a_log_verifies_with_and_without_an_earlier_checkpoint() {
    let entries = entries();
    let report = verify_with(&bundle_of(&entries), &since(&entries[..257])).unwrap();
    assert_eq!((report.size, report.statements, report.key_trusted), (600, 1, true));
    assert_eq!((report.continues, report.first.as_deref()), (vec![257], Some("2026-11-22T03:00:00.123Z")));
    for size in [0, 1, 256, 600] {
        verify_with(&bundle_of(&entries), &since(&entries[..size])).unwrap();
        verify_with(&bundle_of(&entries[..size]), &trust()).unwrap();
    }
    assert!(!verify_with(&bundle_of(&entries), &Trust::default()).unwrap().key_trusted);
    assert_eq!(bundle_of(&entries), bundle_of(&entries), "the same input gives the same bytes");
}

#[test]
fn attack_62_another_key_origin_or_witness_is_refused() {
    let entries = entries();
    let bundle = bundle_of(&entries);
    let other = Trust { key: Some(key(4).public().fingerprint()), ..Trust::default() };
    assert_eq!(refused(&bundle, &other).0, "keys/log.pem");
    let foreign = Trust { since: Some(log_checkpoint(&entries[..9]).sign(&key(4)).unwrap()), ..trust() };
    assert!(refused(&bundle, &foreign).1.contains("not signed by"));
    let witness = NoteKey::new("w.example", KeyKind::Cosignature, key(5).public()).unwrap();
    let asked = Trust { witnesses: vec![witness], ..trust() };
    assert!(refused(&bundle, &asked).1.contains("not signed by `w.example`"));
    let mut note = log_checkpoint(&entries).sign(&key(3)).unwrap();
    note.signatures.push(checkpoint::cosign(&note, "w.example", &key(5), 1_700_000_000).unwrap());
    let cosigned = write(&entries, &note).unwrap();
    assert_eq!(verify_with(&cosigned, &asked).unwrap().witnesses, ["w.example"]);
}

/// The bundle with the entries of one part changed.
fn with_entries(bundle: &[u8], change: impl Fn(&mut Vec<Vec<u8>>)) -> Vec<u8> {
    let mut files = unpack(bundle);
    let name = "tile/entries/001";
    let mut part: Vec<Vec<u8>> = bundle_entries(&files[name]).unwrap().into_iter().map(<[u8]>::to_vec).collect();
    change(&mut part);
    files.insert(name.to_owned(), bundle_bytes(part.iter().map(Vec::as_slice)).unwrap());
    pack(&files)
}

#[test]
fn a_changed_removed_or_added_record_is_named() {
    let bundle = bundle_of(&entries());
    let said = |change: &dyn Fn(&mut Vec<Vec<u8>>)| refused(&with_entries(&bundle, change), &trust()).1;
    assert!(said(&|part| part[20][3] ^= 1).contains("record 276 was changed"));
    assert!(said(&|part| drop(part.remove(44))).contains("record 300 was removed"));
    assert!(said(&|part| part.insert(7, b"{}".to_vec())).contains("record 263 was added"));
    assert!(said(&|part| part.swap(3, 4)).contains("record 259 was changed"));
    // Together with its hash: the tile above still knows what was there.
    let mut files = unpack(&with_entries(&bundle, |part| {
        let version = part[20].len() - 2;
        part[20][version] ^= 1;
    }));
    let part = files["tile/entries/001"].clone();
    let hashes: Vec<_> = bundle_entries(&part).unwrap().into_iter().map(evidence::merkle::leaf_hash).collect();
    files.insert("tile/0/001".to_owned(), evidence::tile::tile_bytes(&hashes));
    assert_eq!(refused(&pack(&files), &trust()).1, "a record from 256 to 511 was changed");
    let above = [&files["tile/0/000"], &files["tile/0/001"]]
        .map(|tile| evidence::merkle::root(&evidence::tile::tile_hashes(tile).unwrap()));
    files.insert("tile/1/000.p/2".to_owned(), evidence::tile::tile_bytes(&above));
    assert_eq!(refused(&pack(&files), &trust()).0, "checkpoint");
}

#[test]
fn a_changed_byte_in_any_file_of_a_log_is_noticed_and_the_file_is_named() {
    let files = unpack(&bundle_of(&entries()));
    for (name, content) in &files {
        for position in [0, content.len() / 2, content.len() - 1] {
            let mut changed = files.clone();
            changed.get_mut(name).unwrap()[position] ^= 4;
            let (file, problem) = refused(&pack(&changed), &trust());
            // What is for people and what other programs read is covered by the container's own digest only.
            let loose = ["VERIFY.md", "verify.sh", "keys/log.vkey"].contains(&name.as_str());
            assert!(
                file == *name || loose || problem.contains(name) || file.contains("tile/"),
                "{name} {position}: {file}: {problem}"
            );
        }
        let mut fewer = files.clone();
        fewer.remove(name);
        assert!(verify_with(&pack(&fewer), &trust()).is_err(), "{name} is missing");
    }
    let mut more = files.clone();
    more.insert("tile/0/../x".to_owned(), Vec::new());
    assert!(verify_with(&pack(&more), &trust()).is_err());
}

#[test]
fn a_log_that_was_cut_or_rewritten_since_an_earlier_checkpoint_is_refused() {
    let entries = entries();
    let (file, problem) = refused(&bundle_of(&entries[..500]), &since(&entries));
    assert_eq!((file.as_str(), problem.contains("record 500")), ("checkpoint", true), "{problem}");
    let mut rewritten = entries.clone();
    rewritten[10] = entries[11].clone();
    rewritten[10] = String::from_utf8(rewritten[10].clone())
        .unwrap()
        .replace("\"seq\":11", "\"seq\":10")
        .replace("123Z", "124Z")
        .into_bytes();
    let (_, problem) = refused(&bundle_of(&rewritten), &since(&entries[..300]));
    assert!(problem.contains("rewritten: its first 300 records"), "{problem}");
    verify_with(&bundle_of(&rewritten), &since(&entries[..10])).unwrap();
    assert!(write(&rewritten, &log_checkpoint(&entries).sign(&key(3)).unwrap()).is_err(), "is not even written");
}

#[test]
fn the_script_of_a_log_accepts_it_and_notices_a_changed_record() {
    let entries = &entries()[..300];
    let files = unpack(&bundle_of(entries));
    let root = tempfile::tempdir().unwrap();
    write_tree(root.path(), &files);
    let fingerprint = key(3).public().fingerprint().to_hex();
    let output = run_script(root.path(), Some(&fingerprint));
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success() && said.contains("OK: 300 records"), "{output:?}");
    for (name, position) in
        [("tile/entries/000", 9), ("tile/entries/001.p/44", 30), ("checkpoint", 60), ("keys/log.pem", 40)]
    {
        let mut changed = files[name].clone();
        changed[position] ^= 1;
        std::fs::write(root.path().join(name), &changed).unwrap();
        assert!(!run_script(root.path(), Some(&fingerprint)).status.success(), "{name}");
        std::fs::write(root.path().join(name), &files[name]).unwrap();
    }
}
