//! Every reason to refuse a pack, with the exact place.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "test code outside of test functions")]

use compliance::{Catalog, Frameworks, PackError, Schema, load};
use domain::Digest;

const SCHEMA: &str = r#"{"edges": ["attached_to"], "types": {
  "aws.s3.bucket": {"name": null, "encryption": {"rules": {"algorithm": null}}, "versioning": null},
  "aws.kms.key": {"enabled": null}, "aws.sns.topic": {"*": null}}}"#;
const FRAMEWORK: &str = r#"{"id": "nist-800-53-r5", "title": "t", "version": "5", "source": {}, "controls": [{"id": "AC-3"}, {"id": "SC-28(1)"}]}"#;

fn catalog() -> Catalog {
    Catalog {
        schema: Schema::parse(&[("schema.json", SCHEMA)]).unwrap(),
        frameworks: Frameworks::parse(&[("framework.json", FRAMEWORK)]).unwrap(),
    }
}

fn digest(bytes: &[u8]) -> Digest {
    // Not a hash: enough to see that other bytes give another value.
    Digest(std::array::from_fn(|i| bytes.iter().skip(i).step_by(32).fold(7, |sum: u8, b| sum.wrapping_mul(31) ^ b)))
}

fn refused(text: &str) -> Vec<String> {
    let errors: Vec<PackError> = load(&catalog(), &[("packs/p.yaml", text)], digest).unwrap_err();
    errors.iter().map(ToString::to_string).collect()
}

/// A pack with one rule whose lines from 3 on are given.
fn rule(lines: &str) -> String {
    format!("pack: {{id: p, version: \"1\", title: P}}\nrules:\n{lines}")
}

/// A valid rule, its condition on line 7.
fn with_condition(condition: &str) -> String {
    rule(&format!(
        "- id: r1
  title: T
  severity: high
  node_type: aws.s3.bucket
  condition: {condition}
  message: bucket {{{{ node.name }}}}
  remediation: R
  controls: {{nist-800-53-r5: [AC-3]}}
"
    ))
}

#[test]
fn a_valid_pack_is_accepted_and_its_digest_depends_on_every_byte() {
    let text = with_condition("has(props.encryption)");
    let ruleset = load(&catalog(), &[("a.yaml", &text)], digest).unwrap();
    assert_eq!(ruleset.rules().len(), 1);
    assert_eq!((ruleset.rules()[0].risk, ruleset.packs()[0].id.as_str()), (75, "p"));
    let other = load(&catalog(), &[("a.yaml", &format!("{text} "))], digest).unwrap();
    assert_ne!(ruleset.digest(), other.digest());
}

#[test]
fn one_error_is_reported_at_its_place() {
    let cases: Vec<(String, &str)> = vec![
        (
            with_condition("props.encrypton != null"),
            "packs/p.yaml:7:20: `aws.s3.bucket` has no property `encrypton`: did you mean `encryption`?",
        ),
        (
            with_condition("default(props.encryption.rules[0].algoritm, '') != ''"),
            "packs/p.yaml:7:48: there is no `algoritm` here: did you mean `algorithm`?",
        ),
        (
            with_condition("props.encryption.rules.exists(r, r.algo == 'x')"),
            "packs/p.yaml:7:49: there is no `algo` here",
        ),
        (
            with_condition("'has(props.encryption) && '"),
            "packs/p.yaml:7:39: a value was expected, not the end of the expression",
        ),
        (with_condition("\"props.name == 'a' &&& true\""), "packs/p.yaml:7:35: `&` is not part of CEL"),
        (
            with_condition("|\n    has(props.encryption) &&\n    has(props.versionin)"),
            "packs/p.yaml:9:15: `aws.s3.bucket` has no property `versionin`: did you mean `versioning`?",
        ),
        (with_condition(">\n    has(props.encryption)\n    && foo(1)"), "packs/p.yaml:9:8: there is no function `foo`"),
        (
            with_condition("has(props.encryption)\n    && has(props.nam)"),
            "packs/p.yaml:8:18: `aws.s3.bucket` has no property `nam`: did you mean `name`?",
        ),
        (
            with_condition("neighbors('attachd_to', 'out', '*').size() > 0"),
            "packs/p.yaml:7:24: no collector delivers edges of type `attachd_to`: did you mean `attached_to`?",
        ),
        (
            with_condition("neighbors('attached_to', 'out', 'aws.kms.kei').size() > 0"),
            "packs/p.yaml:7:46: no collector delivers nodes of type `aws.kms.kei`: did you mean `aws.kms.key`?",
        ),
        (
            with_condition("nodes_of('aws.kms.key').all(k, k.props.enable)"),
            "packs/p.yaml:7:53: `aws.kms.key` has no property `enable`: did you mean `enabled`?",
        ),
        (
            with_condition("nodes_of('aws.kms.key').filter(k, true)[0].props.enabld"),
            "packs/p.yaml:7:63: `aws.kms.key` has no property `enabld`: did you mean `enabled`?",
        ),
        (
            with_condition("props.name.matches('a{1000}{1000}')"),
            "packs/p.yaml:7:33: the pattern is too large when compiled: lower its repeat counts",
        ),
        (with_condition("prop.name == ''"), "packs/p.yaml:7:14: `prop` is not known here: did you mean `props`?"),
        (with_condition("true"), ""),
        (with_condition("12"), "packs/p.yaml:7:14: `condition` is text: put quotes around this"),
        (with_condition("''"), "packs/p.yaml:7:14: `condition` is empty"),
        (with_condition("[a]"), "packs/p.yaml:7:14: `condition` is text, not a list"),
        (with_condition("'true'\n  wen: 'true'"), "packs/p.yaml:8:3: a rule has no `wen`: did you mean `when`?"),
        (with_condition("'true'\n  risk: 101"), "packs/p.yaml:8:9: `risk` is a whole number from 0 to 100"),
        (
            with_condition("'true'\n  values: {a: nod.id}"),
            "packs/p.yaml:8:15: `nod` is not known here: did you mean `node`?",
        ),
        (
            with_condition("'true'\n  when: 1 +"),
            "packs/p.yaml:8:12: a value was expected, not the end of the expression",
        ),
        (
            with_condition("'true'").replace("severity: high", "severity: hihg"),
            "packs/p.yaml:5:13: `hihg` is not one of info, low, medium, high, critical",
        ),
        (
            with_condition("'true'").replace("aws.s3.bucket", "aws.s3.buckt"),
            "packs/p.yaml:6:14: no collector delivers nodes of type `aws.s3.buckt`: did you mean `aws.s3.bucket`?",
        ),
        (
            with_condition("'true'").replace("AC-3", "AC-99"),
            "packs/p.yaml:10:31: `nist-800-53-r5` has no control `AC-99`",
        ),
        (
            with_condition("'true'").replace("nist-800-53-r5", "nist"),
            "packs/p.yaml:10:14: there is no framework `nist`: known are nist-800-53-r5",
        ),
        (
            with_condition("'true'").replace("{nist-800-53-r5: [AC-3]}", "{}"),
            "packs/p.yaml:10:13: `controls` is empty: map the rule to at least one control",
        ),
        (
            with_condition("'true'").replace("[AC-3]", "[AC-3, AC-3]"),
            "packs/p.yaml:10:37: control `AC-3` is listed twice",
        ),
        (
            with_condition("'true'").replace("{{ node.name }}", "{{ node.nam }}"),
            "packs/p.yaml:8:27: a node has no `nam`: did you mean `name`?",
        ),
        (
            with_condition("'true'").replace("{{ node.name }}", "{{ node.name"),
            "packs/p.yaml:8:19: `{{` is not closed by `}}`",
        ),
        (
            with_condition("'true'").replace("id: r1", "id: R 1"),
            "packs/p.yaml:3:7: `R 1` is no id: use at most 100 of a-z, 0-9 and -",
        ),
        (with_condition("'true'").replace("  title: T\n", ""), "packs/p.yaml:3:3: the rule has no `title`: add it"),
        (rule("- id: r1\n  id: r2\n"), "packs/p.yaml:4:3: `id` is given twice in this map"),
        (
            "pack: {id: p, version: 1.0, title: P}\nrules: []\n".to_owned(),
            "packs/p.yaml:1:24: `version` is text: put quotes around this",
        ),
        (
            "pack: {id: p, version: \"1\", title: P, x: y}\nrules: []\n".to_owned(),
            "packs/p.yaml:1:39: a pack has no `x`: it has id, version, title, source, description",
        ),
        ("pack: {id: p, version: \"1\", title: P}\n".to_owned(), "packs/p.yaml:1:1: the file has no `rules`: add it"),
        ("- 1\n".to_owned(), "packs/p.yaml:1:1: a pack file is a map, not a list"),
        (String::new(), "packs/p.yaml:1:1: a pack file is a map, not nothing"),
    ];
    let mut wrong = Vec::new();
    for (text, expect) in cases {
        let got = if expect.is_empty() { continue } else { refused(&text) };
        if got != [expect] {
            wrong.push(format!("{text}\n  expected {expect}\n  got      {}", got.join("\n           ")));
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn broken_yaml_is_reported_at_its_line() {
    for (text, start) in [
        ("pack: {id: p\nrules: [", "packs/p.yaml:"),
        ("pack:\n  id: p\n title: x\n", "packs/p.yaml:3:"),
        ("pack: \u{7}", "packs/p.yaml:1:"),
        ("a: 1\n---\nb: 2\n", "packs/p.yaml:"),
    ] {
        let errors = refused(text);
        assert_eq!(errors.len(), 1, "{text:?}: {errors:?}");
        assert!(errors[0].starts_with(start), "{text:?}: {errors:?}");
    }
}

#[test]
fn every_error_of_a_pack_is_reported_at_once() {
    let text = rule(
        "- id: r1
  title: T
  severity: bad
  node_type: aws.kms.key
  condition: props.enabld
  when: 1 +
  message: m
  remediation: R
  controls: {nist-800-53-r5: [AC-3, XX-1]}
- id: r2
  colour: red
",
    );
    let lines: Vec<String> = refused(&text).iter().map(|error| error.split(": ").next().unwrap().to_owned()).collect();
    let expect = [
        "packs/p.yaml:5:13",
        "packs/p.yaml:7:20",
        "packs/p.yaml:8:12",
        "packs/p.yaml:11:37",
        "packs/p.yaml:12:3",
        "packs/p.yaml:12:3",
        "packs/p.yaml:12:3",
        "packs/p.yaml:12:3",
        "packs/p.yaml:12:3",
        "packs/p.yaml:12:3",
        "packs/p.yaml:12:3",
        "packs/p.yaml:13:3",
    ];
    assert_eq!(lines, expect);
}

#[test]
fn rule_and_pack_ids_are_unique_within_and_across_packs() {
    let first = with_condition("'true'");
    let twice = format!("{first}{}", first.split_once("rules:\n").unwrap().1);
    assert_eq!(refused(&twice), ["packs/p.yaml:11:7: rule `r1` exists already in packs/p.yaml:3: give it another id"]);
    let errors = load(&catalog(), &[("b.yaml", &first), ("a.yaml", &first)], digest).unwrap_err();
    let errors: Vec<String> = errors.iter().map(ToString::to_string).collect();
    let expect = [
        "b.yaml:1:7: pack `p` exists already in a.yaml:1: give it another id",
        "b.yaml:3:7: rule `r1` exists already in a.yaml:3: give it another id",
    ];
    assert_eq!(errors, expect);
}

#[test]
fn a_bad_reload_leaves_the_old_ruleset_in_place() {
    let catalog = catalog();
    let good = with_condition("has(props.encryption)");
    let mut active = load(&catalog, &[("p.yaml", &good)], digest).unwrap();
    let before = active.digest();
    for text in [with_condition("props.nothing"), with_condition("'true'").replace("r1", "r2")] {
        match load(&catalog, &[("p.yaml", &text)], digest) {
            Ok(new) => active = new,
            Err(errors) => {
                assert_eq!(errors.len(), 1);
                assert_eq!((active.digest(), active.rules()[0].id.as_str()), (before, "r1"));
            }
        }
    }
    assert_eq!(active.rules()[0].id, "r2");
}

#[test]
fn hostile_packs_end_quickly_in_an_error_with_a_place() {
    let endless = with_condition(&format!("'{}true'", "true || ".repeat(100_000)));
    assert_eq!(refused(&endless), ["packs/p.yaml:7:15: the expression is longer than 16384 bytes: split the rule"]);
    let deep = with_condition(&format!("'{}true{}'", "(".repeat(100_000), ")".repeat(100_000)));
    assert_eq!(refused(&deep), ["packs/p.yaml:7:15: the expression is longer than 16384 bytes: split the rule"]);
    let nested = with_condition(&format!("'{}true{}'", "(".repeat(8_000), ")".repeat(8_000)));
    assert_eq!(refused(&nested), ["packs/p.yaml:7:63: the expression is nested more than 48 deep"]);

    let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..20 {
        let aliases = vec![format!("*a{}", level - 1); 10].join(", ");
        bomb.extend(["a", &level.to_string(), ": &a", &level.to_string(), " [", &aliases, "]\n"]);
    }
    let flow = format!("pack: {}1{}", "[".repeat(100_000), "]".repeat(100_000));
    let block = (0..2_000).map(|depth| " ".repeat(depth) + "a:\n").collect::<Vec<_>>().concat();
    let large = format!("pack: {{id: p, version: \"1\", title: P}}\nrules: []\n#{}", "x".repeat(2_000_000));
    let many = format!("pack: {{id: p, version: \"1\", title: P}}\nrules:\n{}", "- {}\n".repeat(100_000));
    for text in [bomb, flow, block, large, many] {
        let errors = refused(&text);
        assert!(!errors.is_empty() && errors.len() <= 200, "{}", errors.len());
        assert!(errors[0].starts_with("packs/p.yaml:"), "{}", errors[0]);
    }
}
