//! The shipped patches: each makes something of its own failing fixture that a shell reads, and whatever was collected stays data in it.
//!
//! No patch is run. What a shell makes of one is seen by having bash read it as the body of a function and show how it understood that.

use std::collections::BTreeMap;
use std::process::{Command, Stdio};

use compliance::{About, Form, Patch, Rule, Ruleset, Verdict};
use domain::NodeId;
use serde_json::{Value, json};

use super::world::{FIXTURES, ruleset, verdict, world};

/// A patch, or why there is none.
type Made = Result<String, String>;

/// One word that needs no quotes; what a hostile value stands in the place of.
const TAME: &str = "cairntame";

/// Tries everything by which a shell or Terraform would take a value for more than a value.
const HOSTILE: [&str; 4] = [
    "a'; printf pwned; '\"$(printf pwned)`printf pwned`${HOME}%{if true}\" && } { ) ( | > * ~ ! # \\",
    "x\" ] } ${file(\"/etc/passwd\")} %{ for a in b } \\\" \\",
    "'\\''$(printf pwned)'\\''",
    "日本 ünïcode; printf pwned",
];

/// What would end a line, or show something else than what is run.
const UNSHOWN: [&str; 4] = ["a\nprintf pwned\n", "a\r\nb", "a\u{1b}[2Jb", "safe\u{202e}evil"];

/// Runs a shell on a script; what it said.
fn shell(program: &str, args: &[&str], script: &str) -> Result<String, String> {
    use std::io::Write as _;
    let mut child = Command::new(program)
        .args(args)
        .env_clear()
        .env("PATH", "/nonexistent")
        .env("LC_ALL", "C.UTF-8")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| format!("{program}: {error}"))?;
    child.stdin.take().unwrap().write_all(script.as_bytes()).map_err(|error| error.to_string())?;
    let done = child.wait_with_output().map_err(|error| error.to_string())?;
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    if done.status.success() && said.is_empty() {
        Ok(String::from_utf8_lossy(&done.stdout).into_owned())
    } else {
        Err(format!("{program} {args:?}: {said}"))
    }
}

/// Whether both shells can read it.
fn read_by_shells(script: &str) -> Result<(), String> {
    shell("/bin/sh", &["-n"], script)?;
    shell("/bin/bash", &["-n"], script).map(drop)
}

/// How bash understands it. Restricted and without programs: were the text to end the function, nothing that follows could do anything.
fn understood(script: &str) -> Result<String, String> {
    let wrapped = format!("patch_() {{\n{script}\n}}\ndeclare -f patch_\n");
    shell("/bin/bash", &["--norc", "--noprofile", "-r"], &wrapped)
}

fn quoted_for_shell(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

fn quoted_for_terraform(text: &str) -> String {
    json!(text).to_string().replace("${", "$${").replace("%{", "%%{")
}

struct Failing<'r> {
    rule: &'r Rule,
    case: Value,
}

/// The failing fixtures of rules that have patches.
fn failing(ruleset: &Ruleset) -> Vec<Failing<'_>> {
    let mut all = Vec::new();
    for (_, text) in FIXTURES {
        let fixtures: BTreeMap<String, BTreeMap<String, Vec<Value>>> = serde_saphyr::from_str(text).unwrap();
        for (rule_id, mut cases) in fixtures {
            let rule = ruleset.rule(&rule_id).unwrap();
            if !rule.patches.is_empty() {
                all.extend(cases.remove("fail").unwrap().into_iter().map(|case| Failing { rule, case }));
            }
        }
    }
    all
}

/// The values of the finding that a fixture makes, if it fails.
fn values(ruleset: &Ruleset, rule: &Rule, case: &Value) -> Option<Value> {
    let (snapshot, this) = world(case, &rule.node_types[0]);
    match verdict(ruleset, rule, &snapshot, &this) {
        Verdict::Fail { values, .. } => Some(values),
        _ => None,
    }
}

/// `name`: the node's name, and its resource too where an id may hold it.
fn rendered(patch: &Patch, rule: &Rule, name: &str, values: &Value) -> Result<String, String> {
    let id = |resource: &str| NodeId::new("aws", "eu-central-1", &rule.node_types[0], resource);
    let node = id(name).or_else(|_| id(TAME)).unwrap();
    patch.render(About { node: &node, node_name: name, values })
}

/// Places of texts in a document, as JSON pointers.
fn texts(value: &Value, at: &str, found: &mut Vec<String>) {
    match value {
        Value::String(_) => found.push(at.to_owned()),
        Value::Array(items) => {
            for (n, item) in items.iter().enumerate() {
                texts(item, &format!("{at}/{n}"), found);
            }
        }
        Value::Object(entries) => {
            for (name, item) in entries {
                texts(item, &format!("{at}/{}", name.replace('~', "~0").replace('/', "~1")), found);
            }
        }
        _ => {}
    }
}

fn with(value: &Value, at: &str, text: &str) -> Value {
    let mut changed = value.clone();
    *changed.pointer_mut(at).unwrap() = json!(text);
    changed
}

/// A patch with a hostile value is the one with a tame value, but for that value, and is read so.
fn check(form: Form, tame: &str, hostile: &str, value: &str) -> Result<(), String> {
    let wrong = |why: &str| format!("{why}\n--- {value:?}\n{hostile}\n--- tame\n{tame}");
    if form == Form::Terraform {
        let expect = tame.replace(&format!("\"{TAME}\""), &quoted_for_terraform(value));
        return if hostile == expect { Ok(()) } else { Err(wrong("another text")) };
    }
    let quoted = quoted_for_shell(value);
    if hostile != tame.replace(TAME, &quoted) {
        return Err(wrong("another text"));
    }
    read_by_shells(hostile).map_err(|why| wrong(&why))?;
    let (tame_read, hostile_read) =
        (understood(tame).map_err(|why| wrong(&why))?, understood(hostile).map_err(|why| wrong(&why))?);
    if hostile_read == tame_read.replace(TAME, &quoted) {
        Ok(())
    } else {
        Err(wrong(&format!("bash reads:\n{hostile_read}\n--- and the tame one:\n{tame_read}")))
    }
}

#[test]
fn every_patch_is_made_of_its_own_failing_fixture_and_read_by_shells() {
    let ruleset = ruleset();
    let mut wrong = Vec::new();
    let mut made: BTreeMap<(&str, usize), bool> = BTreeMap::new();
    for Failing { rule, case } in failing(&ruleset) {
        let values = values(&ruleset, rule, &case).unwrap();
        for (at, patch) in rule.patches.iter().enumerate() {
            let text = rendered(patch, rule, "this", &values);
            *made.entry((rule.id.as_str(), at)).or_default() |= text.is_ok();
            match text {
                Ok(text) if patch.form == Form::Shell => {
                    if let Err(why) = read_by_shells(&text).and_then(|()| understood(&text).map(drop)) {
                        wrong.push(format!("{}: {why}\n{text}", rule.id));
                    }
                }
                Ok(text) => assert!(!text.contains("{{"), "{}: {text}", rule.id),
                // What was not read cannot be in a patch; nothing else may keep one from being made of what we wrote ourselves.
                Err(why) if why.ends_with("was not read") || why.ends_with("is empty") => {}
                Err(why) => wrong.push(format!("{}: {why} in {values}", rule.id)),
            }
        }
    }
    let never = made.iter().filter(|(_, is_made)| !**is_made);
    wrong.extend(never.map(|((rule, at), _)| format!("{rule}: patch {at} is made of none of its failing fixtures")));
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
    assert!(made.len() > 90, "{}", made.len());
}

#[test]
fn whatever_was_collected_stays_data_in_every_patch() {
    let ruleset = ruleset();
    let (mut wrong, mut tried) = (Vec::new(), 0);
    for Failing { rule, case } in failing(&ruleset) {
        let mut places = Vec::new();
        texts(&case["props"], "/props", &mut places);
        texts(&case["nodes"], "/nodes", &mut places);
        places.retain(|at| !(at.starts_with("/nodes") && at.ends_with("/type")));
        for patch in &rule.patches {
            // The node's own names; then each text that a target told, by way of the rule.
            let plain = values(&ruleset, rule, &case).unwrap();
            let mut pairs: Vec<(Made, Vec<(String, Made)>)> = Vec::new();
            let all = || HOSTILE.into_iter().chain(UNSHOWN);
            pairs.push((
                rendered(patch, rule, TAME, &plain),
                all().map(|value| (value.to_owned(), rendered(patch, rule, value, &plain))).collect(),
            ));
            for at in &places {
                let of = |text: &str| {
                    let values = values(&ruleset, rule, &with(&case, at, text))?;
                    Some(rendered(patch, rule, "this", &values))
                };
                if let Some(tame) = of(TAME) {
                    let hostile = all().filter_map(|value| Some((value.to_owned(), of(value)?)));
                    pairs.push((tame, hostile.collect()));
                }
            }
            for (tame, hostile) in pairs {
                let Ok(tame) = tame else { continue };
                if !tame.contains(TAME) {
                    continue;
                }
                for (value, text) in hostile {
                    tried += 1;
                    let told = match text {
                        // An id refuses the value, so the patch is the tame one.
                        Ok(text) if text == tame => Ok(()),
                        Ok(text) if UNSHOWN.contains(&value.as_str()) => {
                            Err(format!("{value:?} is in a patch:\n{text}"))
                        }
                        Ok(text) => check(patch.form, &tame, &text, &value),
                        Err(why) if UNSHOWN.contains(&value.as_str()) && why.ends_with("is not shown") => Ok(()),
                        Err(why) => Err(format!("{value:?}: {why}")),
                    };
                    if let Err(why) = told {
                        wrong.push(format!("{}: {why}", rule.id));
                    }
                }
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
    assert!(tried > 200, "{tried}");
}

#[test]
fn a_value_that_were_not_quoted_would_be_noticed() {
    let tame = format!("aws x --name {TAME}\n");
    for (hostile, value) in [("a; printf pwned", "a; printf pwned"), ("a", "b"), ("'a'b'", "a'b")] {
        assert!(check(Form::Shell, &tame, &tame.replace(TAME, hostile), value).is_err(), "{hostile}");
    }
    assert!(understood("aws x a; printf pwned").unwrap() != understood("aws x 'a; printf pwned'").unwrap());
    let why = understood("true\n}\nprintf pwned >/dev/null\n{\ntrue").unwrap_err();
    assert!(why.contains("restricted"), "a restricted shell writes nowhere: {why}");
}
