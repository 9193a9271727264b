//! The audit log as others follow it: checkpoint, tiles, proofs and cosignatures over HTTP verify without trusting the server.

use access::{Role, ops};
use crypto::ed25519::SigningKey;
use domain::Clock as _;
use evidence::note::{KeyKind, Note, NoteKey};
use evidence::tile::{bundle_entries, tile_hashes};
use evidence::{Checkpoint, LogProof, checkpoint, merkle};
use serde_json::json;

use crate::world::{World, each_engine, holder};

async fn get(world: &World, path: &str) -> crate::world::Answer {
    world.by(&holder(Role::Auditor, 'a'), "GET", &format!("/api/v1/tenants/acme/log{path}"), None).await
}

/// The key under which the world's witness signs.
fn signer() -> SigningKey {
    let prefix = [0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];
    SigningKey::from_pkcs8(&[prefix.as_slice(), &[9; 32]].concat()).unwrap()
}

/// A fresh witness's key.
pub(crate) fn witness_key(name: &str) -> NoteKey {
    NoteKey::new(name, KeyKind::Cosignature, SigningKey::generate().unwrap().public()).unwrap()
}

async fn add_witness(world: &World, key: &NoteKey) {
    let unit = world.store.write_platform(world.platform_permit::<ops::WitnessAdd>()).await.unwrap();
    unit.witness_add(key).await.unwrap();
}

/// A witness, by its name in a path.
pub(crate) async fn witness(world: &World) -> String {
    let name = format!("w{}.example/log", world.fresh());
    add_witness(world, &witness_key(&name)).await;
    name.replace('/', "%2F")
}

/// A checkpoint with the line of a witness that is known here.
pub(crate) async fn cosigned(world: &World, path: &str, email: &str) -> String {
    let key = NoteKey::new("witness.example", KeyKind::Cosignature, signer().public()).unwrap();
    let known = world.store.witness_list(world.platform_permit::<ops::WitnessList>()).await.unwrap();
    if known.iter().all(|known| known.key != key) {
        add_witness(world, &key).await;
    }
    let mut note: Note = world.by(email, "GET", path, None).await.is(200).text.parse().unwrap();
    let time = u64::try_from(world.clock.now().as_millis() / 1_000).unwrap();
    note.signatures.push(checkpoint::cosign(&note, "witness.example", &signer(), time).unwrap());
    note.to_string()
}

#[test]
fn an_auditor_follows_the_log_and_every_proof_verifies_against_its_key() {
    each_engine(|world| async move {
        let statement = world.evidence(world.a).await;
        let log = get(&world, "").await.is(200).json;
        let key = crypto::ed25519::PublicKey::from_pem(log["pem"].as_str().unwrap()).unwrap();
        let vkey: NoteKey = log["vkey"].as_str().unwrap().parse().unwrap();
        assert_eq!((vkey.public(), vkey.kind()), (&key, KeyKind::Ed25519));
        let answer = get(&world, "/checkpoint").await.is(200);
        assert_eq!(
            (answer.header("content-type"), answer.header("cache-control")),
            ("text/plain; charset=utf-8", "no-store")
        );
        let note: Note = answer.text.parse().unwrap();
        let head = Checkpoint::open(&note, &key).unwrap();
        assert!(head.origin.is_of(world.a));
        let part = format!("000.p/{}", head.size);
        let entries = get(&world, &format!("/tile/entries/{part}")).await.is(200).raw;
        let entries = bundle_entries(&entries).unwrap();
        let leaves: Vec<_> = entries.iter().map(|entry| merkle::leaf_hash(entry)).collect();
        assert_eq!(merkle::root(&leaves), head.root);
        let tile = get(&world, &format!("/tile/0/{part}")).await.is(200).raw;
        assert_eq!(tile_hashes(&tile), Some(leaves));
        for (seq, entry) in entries.iter().enumerate() {
            let proof: LogProof = get(&world, &format!("/proof?seq={seq}")).await.is(200).text.parse().unwrap();
            assert_eq!(proof.verify(entry, &key).unwrap(), head);
        }
        // A statement is a leaf too, and its proof is found by its id.
        let proof: LogProof = get(&world, &format!("/proof?evidence={statement}")).await.is(200).text.parse().unwrap();
        let entry = String::from_utf8(entries[usize::try_from(proof.index).unwrap()].to_vec()).unwrap();
        assert!(entry.starts_with(&format!("{{\"ev\":\"{statement}\",\"pae\":\"sha256:")), "{entry}");
        let verified = get(&world, "/verify").await.is(200).json;
        assert_eq!((verified["records"].as_u64(), &verified["faults"]), (Some(head.size), &json!([])));
        for path in [
            "/proof",
            "/proof?seq=1&evidence=x",
            "/proof?seq=-1",
            "/proof?seq=99999999999999999999",
            "/consistency?from=x&to=1",
        ] {
            get(&world, path).await.is(400);
        }
        for path in [
            "/proof?seq=5000",
            "/consistency?from=1&to=5000",
            "/consistency?from=2&to=1",
            "/tile/0/001",
            "/tile/9/000",
            "/tile/0/0",
            "/tile/00/000",
        ] {
            get(&world, path).await.is(404);
        }
    });
}

#[test]
fn only_known_witnesses_cosign_and_what_they_sign_is_served_with_the_checkpoint() {
    each_engine(|world| async move {
        let (path, auditor) = ("/api/v1/tenants/acme/log/cosignatures", holder(Role::Auditor, 'a'));
        let signed = cosigned(&world, "/api/v1/tenants/acme/log/checkpoint", &auditor).await;
        let taken = world.by(&auditor, "POST", path, Some(json!({"checkpoint": signed}))).await.is(200);
        assert_eq!(taken.json["taken"], 1);
        let size = Checkpoint::of(&signed.parse().unwrap()).unwrap().size;
        // Under the checkpoint that it signed, not under the next one.
        let listed = world.store.read(world.permit::<ops::LogRead>(world.a)).await.unwrap();
        let served = listed.log().checkpoint_at(&world.store, size).await.unwrap();
        assert_eq!(served.note.to_string(), signed);
        let refuse = async |note: String, words: &str| {
            world.by(&auditor, "POST", path, Some(json!({"checkpoint": note}))).await.is(400).says(words);
        };
        let note: Note = signed.parse().unwrap();
        let bare = Note::new(note.text().to_owned(), note.signatures[..1].to_vec()).to_string();
        refuse(bare, "no cosignature of a witness").await;
        let mut flipped = note.clone();
        flipped.signatures[1].payload[20] ^= 1;
        refuse(flipped.to_string(), "does not verify").await;
        let mut renamed = note.clone();
        renamed.signatures[1].name = "other.example".to_owned();
        refuse(renamed.to_string(), "no cosignature of a witness").await;
        let other_log = cosigned(&world, "/api/v1/tenants/globex/log/checkpoint", &holder(Role::Auditor, 'b')).await;
        refuse(other_log, "signed no such checkpoint").await;
        refuse("nonsense".to_owned(), "no signed note").await;
    });
}
