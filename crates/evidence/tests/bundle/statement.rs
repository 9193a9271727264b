//! Statements as signed text.

use evidence::statement::NodeList;
use evidence::{Statement, sign};

use crate::sample::*;

#[test]
fn statements_read_back_and_other_spellings_are_refused() {
    let key = key(1);
    let statement = Statement::Collection(Box::new(collection('1', &[REPLY])));
    let json = statement.to_json().unwrap();
    let read = |json: &[u8]| {
        let signed = sign(json, &key);
        evidence::dsse::verify(&signed.pae, &signed.sig, &key.public())
    };
    assert_eq!(read(&json).unwrap(), statement);
    let json = String::from_utf8(json).unwrap();
    for (from, to) in [
        (r#""seq":7"#, r#""seq":7,"seq":7"#),
        (r#""seq":7"#, r#""seq": 7"#),
        (r#""seq":7"#, r#""seq":7.0"#),
        (r#""complete":true"#, r#""complete":false"#),
        (r#""complete":true,"#, ""),
        ("/Statement/v1", "/Statement/v0.1"),
        ("/collection/v1", "/collection/v2"),
        (r#""tenant":"ten_"#, r#""tenant":"usr_"#),
    ] {
        assert!(json.contains(from), "{from}");
        assert!(read(json.replace(from, to).as_bytes()).is_err(), "{to}");
    }
    assert!(read(format!("{json}\n").as_bytes()).is_err());
    assert!(read(b"").is_err());
    let newer = json.replace(r#""tenant""#, r#""tenans":1,"tenant""#);
    assert_eq!(read(newer.as_bytes()).unwrap(), statement, "members of later versions are let be");
}

#[test]
fn node_lists_are_capped_and_counted() {
    let nodes = (0..1_500).rev().map(|i| format!("aws:global:aws.iam.user:u{i:04}").parse().unwrap());
    let list = NodeList::new(nodes.clone().chain(nodes));
    assert_eq!((list.ids.len(), list.total), (1_000, 1_500));
    assert!(list.ids[0].to_string().ends_with("u0000"));
}
