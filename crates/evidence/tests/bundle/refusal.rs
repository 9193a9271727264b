//! What our own verifier accepts and refuses, and which file it names.

use std::io::{Cursor, Write};

use crypto::sha256;
use domain::Coverage;
use evidence::artifact::blob_path;
use evidence::statement::{EvidenceKind, Verdict};
use evidence::{
    BundleHead, BundleWriter, CollectionStatement, SignedStatement, Statement, Summary, sign, sign_artifact_digest,
    verify_bundle,
};
use proptest::prelude::*;
use serde_json::json;
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

use crate::sample::*;

#[test]
fn a_bundle_verifies_and_the_report_says_what_it_holds() {
    let report = verify(&bundle()).unwrap();
    assert_eq!(report.key_fingerprint, key(1).public().fingerprint());
    assert!(report.key_trusted);
    assert_eq!((report.files, report.artifacts, report.inputs_elsewhere), (24, 2, 0));
    assert_eq!(report.bytes, unpack(&bundle()).values().map(|content| content.len() as u64).sum::<u64>());
    let places: Vec<_> = report.statements.iter().map(|line| line.log_index).collect();
    assert_eq!((places, report.log_key_fingerprint), (vec![Some(300), None], Some(key(3).public().fingerprint())));
    let lines: Vec<_> =
        report.statements.iter().map(|line| (line.kind, line.about.as_str(), line.complete, line.result)).collect();
    let finding = format!("fnd_{}1", "0".repeat(25));
    assert_eq!(
        lines,
        [
            ("collection", "aws:123456789012:global:iam.account", Some(true), None),
            ("assessment", finding.as_str(), None, Some(Verdict::Fail)),
        ]
    );
    assert!(!verify_bundle(Cursor::new(bundle()), None).unwrap().key_trusted);
}

#[test]
fn the_same_input_gives_the_same_bytes() {
    assert_eq!(write_bundle(), write_bundle());
}

#[test]
fn a_changed_byte_in_any_file_is_noticed_and_the_file_is_named() {
    let files = unpack(&bundle());
    for (name, content) in &files {
        let step = (content.len() / 24).max(1);
        let positions = (0..content.len()).step_by(step).chain([content.len() - 1]);
        for (round, position) in positions.enumerate() {
            let mut changed = files.clone();
            changed.get_mut(name).unwrap()[position] ^= 1 << (round % 8);
            assert_eq!(refusal(&pack(&changed)).0, *name, "byte {position}");
        }
        for other in [content[..content.len() - 1].to_vec(), [content, b"\n".as_slice()].concat(), Vec::new()] {
            let mut changed = files.clone();
            changed.insert(name.clone(), other);
            assert_eq!(refusal(&pack(&changed)).0, *name);
        }
    }
}

#[test]
fn a_changed_bit_anywhere_in_the_archive_is_noticed() {
    let bundle = bundle();
    // All of the directory and the comment; of the files, whose contents have a test of their own, every fifth byte.
    let directory = (0..bundle.len()).find(|at| bundle[*at..].starts_with(b"PK\x01\x02")).unwrap();
    for position in (0..directory).step_by(5).chain(directory..bundle.len()) {
        let mut changed = bundle.clone();
        changed[position] ^= 1 << (position % 8);
        assert!(verify(&changed).is_err(), "byte {position}");
    }
}

#[test]
fn files_that_were_packed_again_are_told_from_files_that_were_changed() {
    let (file, problem) = refusal(&pack(&unpack(&bundle())));
    assert_eq!(file, "the ZIP container");
    assert!(problem.contains("verify.sh"), "{problem}");
    assert_eq!(refusal(&[bundle(), vec![0]].concat()).0, "the ZIP container");
    assert_eq!(refusal(&[vec![0], bundle()].concat()).0, "the ZIP container");
}

#[test]
fn a_changed_file_in_an_archive_that_zip_packed_again_is_still_the_one_that_is_named() {
    let mut files = unpack(&bundle());
    files.insert("finding.json".to_owned(), b"{}".to_vec());
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    let blob = blob_path(&sha256(REPLY));
    for (end, _) in blob.match_indices('/') {
        writer.add_directory(&blob[..=end], SimpleFileOptions::default()).unwrap();
    }
    for (name, content) in &files {
        writer.start_file(name, SimpleFileOptions::default()).unwrap();
        writer.write_all(content).unwrap();
    }
    assert_eq!(refusal(&writer.finish().unwrap().into_inner()).0, "finding.json");
}

#[test]
fn a_missing_or_extra_file_is_named() {
    let files = unpack(&bundle());
    for name in files.keys() {
        let mut fewer = files.clone();
        fewer.remove(name);
        assert_eq!(refusal(&pack(&fewer)), (name.clone(), "is missing".to_owned()));
    }
    let blob = blob_path(&sha256(b"planted"));
    for name in ["control.json", &blob, &format!("{blob}.sig"), &format!("ev/evd_{}9.pae", "0".repeat(25))] {
        let mut more = files.clone();
        more.insert(name.to_owned(), b"planted".to_vec());
        assert_eq!(refusal(&pack(&more)), (name.to_owned(), "is not in the manifest".to_owned()));
    }
}

#[test]
fn attack_63_hostile_names_are_refused_and_named() {
    let blob = blob_path(&sha256(REPLY));
    for name in [
        "../../etc/cron.d/x",
        "/etc/passwd",
        "ev/../README.txt",
        "./README.txt",
        "ev//x",
        "C:x",
        "ev\\x",
        "blobs/",
        "x",
        "ev/x.pae",
        "ev/evd_0.pae.sig",
        "keys/other.pem",
        "manifest.json.bak",
        "verify.sh\n",
        "verify.sh ",
        "\u{202e}txt.README",
        &blob.replace("blobs/sha256", "blobs/sha512"),
        &format!("{blob}.exe"),
    ] {
        let mut more = unpack(&bundle());
        more.insert(name.to_owned(), b"planted".to_vec());
        assert_eq!(refusal(&pack(&more)).0, name);
    }
    for name in ["readme.txt", &blob.to_uppercase(), "Manifest.json"] {
        let mut more = unpack(&bundle());
        more.insert(name.to_owned(), b"planted".to_vec());
        let (file, _) = refusal(&pack(&more));
        assert!(file.eq_ignore_ascii_case(name), "{file}");
    }
}

/// Replaces bytes of one length, wherever they are.
fn replace(bytes: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    assert_eq!(from.len(), to.len());
    let mut out = bytes.to_vec();
    for at in 0..=out.len() - from.len() {
        if &out[at..at + from.len()] == from {
            out[at..at + from.len()].copy_from_slice(to);
        }
    }
    out
}

#[test]
fn attack_63_duplicates_links_and_bombs_are_refused_and_named() {
    let mut files = unpack(&bundle());
    files.insert("README.txT".to_owned(), b"other".to_vec());
    let twice = replace(&pack(&files), b"README.txT", b"README.txt");
    assert_eq!(refusal(&twice), ("README.txt".to_owned(), "is there twice".to_owned()));

    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    let mut options = zip::write::FullFileOptions::default();
    options.add_extra_field(0x7075, [1, 0, 0, 0, 0, b'x'], true).unwrap();
    writer.start_file("README.txt", options).unwrap();
    let (file, problem) = refusal(&writer.finish().unwrap().into_inner());
    assert_eq!((file.as_str(), problem.contains("second name")), ("README.txt", true));

    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    writer.add_symlink("finding.json", "/etc/passwd", SimpleFileOptions::default()).unwrap();
    let (file, problem) = refusal(&writer.finish().unwrap().into_inner());
    assert_eq!((file.as_str(), problem.contains("link")), ("finding.json", true));

    // The central directory's sizes: 20 bytes into the header for the packed, 24 for the unpacked one, name after 46.
    let set_size = |name: &[u8], size: u32| {
        let mut changed = bundle();
        let at = (0..changed.len()).rfind(|at| changed[*at..].starts_with(name)).unwrap() - 46;
        assert!(changed[at..].starts_with(b"PK\x01\x02"));
        changed[at + 24..at + 28].copy_from_slice(&size.to_le_bytes());
        changed
    };
    assert_eq!(refusal(&set_size(b"finding.json", (1 << 30) + 1)).0, "finding.json");
    assert_eq!(refusal(&set_size(b"finding.json", u32::MAX)).0, "finding.json");
    let (file, problem) = refusal(&set_size(b"finding.json", 1 << 29));
    assert_eq!((file.as_str(), problem.contains("compressed more")), ("finding.json", true));
    assert_eq!(refusal(&set_size(b"finding.json", 1)).0, "finding.json");
    assert_eq!(refusal(&set_size(b"manifest.pae", 1 << 27)).0, "manifest.pae");
}

#[test]
fn attack_63_an_archive_of_a_million_entries_is_refused_before_it_is_read() {
    let mut end = b"PK\x06\x06".to_vec();
    end.extend(44u64.to_le_bytes());
    end.extend([45, 0, 45, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    for number in [1_000_000u64, 1_000_000, 46_000_000, 0] {
        end.extend(number.to_le_bytes());
    }
    end.extend(b"PK\x06\x07\0\0\0\0");
    end.extend(0u64.to_le_bytes());
    end.extend(1u32.to_le_bytes());
    end.extend(b"PK\x05\x06");
    end.extend([0, 0, 0, 0, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 0, 0]);
    let (file, problem) = refusal(&end);
    assert_eq!(file, "the ZIP container");
    assert!(problem.contains("1000000 entries"), "{problem}");
}

#[test]
fn attack_62_a_bundle_resigned_with_another_key_is_refused_by_its_fingerprint() {
    let (ours, theirs) = (key(1), key(2));
    let mut writer = BundleWriter::new(Vec::new(), &theirs, head()).unwrap();
    let digest = sha256(REPLY);
    writer.statement(&signed(Statement::Collection(Box::new(collection('1', &[REPLY]))), &theirs)).unwrap();
    writer.artifact(&digest, &sign_artifact_digest(&digest, &theirs), REPLY).unwrap();
    let forged = writer.finish().unwrap();
    assert_eq!(refusal(&forged).0, "keys/evidence.pem");
    let report = verify_bundle(Cursor::new(&forged), None).unwrap();
    assert_eq!((report.key_fingerprint, report.key_trusted), (theirs.public().fingerprint(), false));

    // Only the key swapped, without knowing it beforehand.
    let mut files = unpack(&bundle());
    files.insert("keys/evidence.pem".to_owned(), theirs.public().to_pem().into_bytes());
    let error = verify_bundle(Cursor::new(pack(&files)), None).unwrap_err();
    assert_eq!(error.file(), Some("keys/evidence.pem"));
    drop(ours);
}

/// A manifest that is in order over contents that are not.
#[test]
fn attack_62_what_the_files_say_is_checked_behind_a_valid_manifest() {
    let key = key(1);
    let files = unpack(&bundle());
    let (first, second) = (format!("ev/evd_{}1", "0".repeat(25)), format!("ev/evd_{}2", "0".repeat(25)));
    let blob = blob_path(&sha256(REPLY));
    let check = |blamed: &str, change: &dyn Fn(&mut FileMap)| {
        let mut changed = files.clone();
        change(&mut changed);
        resign(&mut changed, &key);
        let (file, problem) = refusal(&pack(&changed));
        assert_eq!(file, blamed, "{problem}");
    };
    let put = |files: &mut FileMap, path: &str, signed: &SignedStatement| {
        files.insert(format!("{path}.pae"), signed.pae.clone());
        files.insert(format!("{path}.sig"), signed.sig.to_vec());
        files.insert(format!("{path}.dsse.json"), signed.envelope());
        files.remove(&format!("{path}.tlog-proof"));
    };
    // A proof that another statement is in the log, and one of a log that another key signs.
    let (proof, other) =
        (format!("{first}.tlog-proof"), signed(Statement::Collection(Box::new(collection('1', &[CONFIG]))), &key));
    check(&proof, &|files| drop(files.insert(proof.clone(), logged(&other).to_string().into_bytes())));
    check(&proof, &|files| drop(files.insert("keys/log.pem".to_owned(), key.public().to_pem().into_bytes())));
    // Nothing changed but the container.
    check("the ZIP container", &|_| {});
    // A signature of other bytes: of the raw body, of the digest, of the other statement.
    let (pae, dsse) = (format!("{first}.pae"), format!("{first}.dsse.json"));
    check(&pae, &|files| drop(files.insert(format!("{first}.sig"), key.sign(&files[&pae][50..]).to_vec())));
    check(&pae, &|files| {
        drop(files.insert(format!("{first}.sig"), key.sign(sha256(&files[&pae]).as_bytes()).to_vec()));
    });
    check(&pae, &|files| drop(files.insert(format!("{first}.sig"), files[&format!("{second}.sig")].clone())));
    // An envelope that says something else than the signed bytes.
    check(&dsse, &|files| drop(files.insert(dsse.clone(), files[&format!("{second}.dsse.json")].clone())));
    // A statement under another's name, of another tenant, about an artifact that is not there, or rewritten after it was judged.
    let other_name = signed(Statement::Collection(Box::new(collection('3', &[REPLY, CONFIG]))), &key);
    check(&pae, &|files| put(files, &first, &other_name));
    let other_tenant = CollectionStatement { tenant: id("ten_", '2'), ..collection('3', &[]) };
    let third = format!("ev/evd_{}3", "0".repeat(25));
    check(&format!("{third}.pae"), &|files| {
        put(files, &third, &signed(Statement::Collection(Box::new(other_tenant.clone())), &key));
    });
    let no_artifact = signed(Statement::Collection(Box::new(collection('3', &[b"gone"]))), &key);
    check(&blob_path(&sha256(b"gone")), &|files| put(files, &third, &no_artifact));
    let rewritten = CollectionStatement { items: 2, ..collection('1', &[REPLY, CONFIG]) };
    check(&format!("{second}.pae"), &|files| {
        put(files, &first, &signed(Statement::Collection(Box::new(rewritten.clone())), &key));
    });
    // Artifacts: another digest file, a signature of the raw bytes, none at all, one that no statement names, one under a wrong name.
    check(&format!("{blob}.sha256"), &|files| drop(files.insert(format!("{blob}.sha256"), sha256(CONFIG).0.to_vec())));
    check(&format!("{blob}.sig"), &|files| drop(files.insert(format!("{blob}.sig"), key.sign(REPLY).to_vec())));
    check(&format!("{blob}.sig"), &|files| {
        let by_the_log = sign_artifact_digest(&sha256(REPLY), &self::key(3));
        drop(files.insert(format!("{blob}.sig"), by_the_log.to_vec()));
    });
    check(&format!("{blob}.sig"), &|files| drop(files.remove(&format!("{blob}.sig"))));
    check(&blob, &|files| drop(files.insert(blob.clone(), b"{}".to_vec())));
    let planted = blob_path(&sha256(b"planted"));
    check(&planted, &|files| {
        let digest = sha256(b"planted");
        files.insert(planted.clone(), b"planted".to_vec());
        files.insert(format!("{planted}.sha256"), digest.0.to_vec());
        files.insert(format!("{planted}.sig"), sign_artifact_digest(&digest, &key).to_vec());
    });
    check(&format!("{planted}.sig"), &|files| drop(files.insert(format!("{planted}.sig"), vec![0; 64])));
    // Two summaries.
    check("finding.json", &|files| drop(files.insert("control.json".to_owned(), b"{}".to_vec())));
}

#[test]
fn the_writer_refuses_what_could_not_be_verified() {
    let (ours, theirs) = (key(1), key(2));
    let statement = Statement::Collection(Box::new(collection('1', &[REPLY])));
    let mut writer = BundleWriter::new(Vec::new(), &ours, head()).unwrap();
    assert!(writer.statement(&signed(statement.clone(), &theirs)).is_err());
    let foreign = CollectionStatement { tenant: id("ten_", '2'), ..collection('1', &[]) };
    assert!(writer.statement(&signed(Statement::Collection(Box::new(foreign)), &ours)).is_err());
    let digest = sha256(REPLY);
    assert!(writer.artifact(&digest, &sign_artifact_digest(&digest, &theirs), REPLY).is_err());
    writer.statement(&signed(statement.clone(), &ours)).unwrap();
    assert!(writer.statement(&signed(statement, &ours)).is_err(), "twice");
    assert_eq!(writer.finish().unwrap_err().file(), Some(blob_path(&digest).as_str()));
    let mut writer = BundleWriter::new(Vec::new(), &ours, head()).unwrap();
    let error = writer.artifact(&digest, &sign_artifact_digest(&digest, &ours), CONFIG).unwrap_err();
    assert_eq!(error.file(), Some(blob_path(&digest).as_str()));
}

#[test]
fn an_unjudged_and_incomplete_collection_is_evidence_too() {
    let key = key(1);
    let denied = CollectionStatement {
        coverage: Coverage::Denied { reason: "AccessDenied".to_owned() },
        kind: EvidenceKind::NullResult,
        ..collection('1', &[])
    };
    let mut writer =
        BundleWriter::new(Vec::new(), &key, BundleHead { summary: Summary::Control(json!({})), ..head() }).unwrap();
    let signed_denied = signed(Statement::Collection(Box::new(denied)), &key);
    writer.statement(&signed(Statement::Assessment(Box::new(assessment('2', &[&signed_denied]))), &key)).unwrap();
    let without = verify(&writer.finish().unwrap()).unwrap();
    assert_eq!((without.inputs_elsewhere, without.statements.len()), (1, 1));
    let mut writer = BundleWriter::new(Vec::new(), &key, head()).unwrap();
    writer.statement(&signed_denied).unwrap();
    let with = verify(&writer.finish().unwrap()).unwrap();
    assert_eq!(with.statements[0].complete, Some(false));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn no_changed_archive_verifies_or_panics(
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let good = bundle();
        let mut changed = good.clone();
        for (at, byte) in edits {
            let at = at.index(changed.len());
            changed[at] = byte;
        }
        if let Some(cut) = cut {
            changed.truncate(cut.index(changed.len()));
        }
        prop_assert_eq!(verify(&changed).is_ok(), changed == good);
    }

    #[test]
    fn no_bytes_make_verify_panic(bytes: Vec<u8>) {
        prop_assert!(verify_bundle(Cursor::new([b"PK\x03\x04", bytes.as_slice()].concat()), None).is_err());
    }

    #[test]
    fn no_signed_bytes_make_reading_a_statement_panic(body: Vec<u8>) {
        let signed = sign(&body, &key(1));
        prop_assert!(evidence::dsse::verify(&signed.pae, &signed.sig, &key(1).public()).is_err());
    }
}
