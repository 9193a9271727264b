//! Reads a report: unpacks it a line at a time, and checks all of it before anything is done with it.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read};

use bytes::{Buf as _, Bytes};
use domain::{Coverage, Error, NodeId, Page, Result, ScopeId, SourceId};
use flate2::bufread::MultiGzDecoder;
use inventory::{EdgeKey, NodeKey, Prepared};
use wire::report::{CALLS, Call, End, Head, LINE_BYTES, Line, SCOPES, Scope, UNPACKED_BYTES, VERSION};

/// Largest count or number: a statement writes numbers as JSON's doubles (RFC 8785).
const NUMBER: u64 = 1 << 53;
/// Farthest that a clock can be off, in milliseconds: some three centuries.
const CLOCK_MS: i64 = 1 << 43;
/// Longest name or version of a program or a host, in bytes.
const NAME_BYTES: usize = 255;
/// Longest reason why a scope was not seen, or a call failed, in bytes.
const REASON_BYTES: usize = 4_096;

fn invalid(message: impl Into<String>) -> Error {
    Error::Invalid { field: None, message: message.into() }
}

/// The lines of a report.
pub(super) struct Lines {
    from: BufReader<std::io::Take<MultiGzDecoder<bytes::buf::Reader<Bytes>>>>,
    line: Vec<u8>,
}

impl Lines {
    pub(super) fn new(report: Bytes) -> Self {
        // One byte more than may be: whoever gets there is over.
        let most = UNPACKED_BYTES as u64 + 1;
        Self { from: BufReader::new(MultiGzDecoder::new(report.reader()).take(most)), line: Vec::new() }
    }

    /// The next line.
    pub(super) fn next(&mut self) -> Result<Option<Line>> {
        self.line.clear();
        let most = LINE_BYTES as u64 + 1;
        let read = (&mut self.from).take(most).read_until(b'\n', &mut self.line);
        read.map_err(|_| invalid("the report is not gzip, or is cut short"))?;
        if self.from.get_ref().limit() == 0 {
            return Err(Error::Limit { which: "bytes of an unpacked report", max: UNPACKED_BYTES as u64 });
        }
        if self.line.is_empty() {
            return Ok(None);
        }
        if self.line.last() != Some(&b'\n') {
            if self.line.len() > LINE_BYTES {
                return Err(Error::Limit { which: "bytes of a line of a report", max: LINE_BYTES as u64 });
            }
            return Err(invalid("the last line of the report has no end: it is cut short"));
        }
        let wrong = |error: serde_json::Error| {
            let text: String = error.to_string().chars().filter(|c| !c.is_control()).take(300).collect();
            invalid(format!("a line of the report is not what it should be: {text}"))
        };
        serde_json::from_slice(&self.line).map(Some).map_err(wrong)
    }
}

/// What a report holds beside its pages.
#[derive(Debug)]
pub(super) struct Outline {
    pub(super) head: Head,
    pub(super) scopes: Vec<Scope>,
    pub(super) end: End,
}

fn is_name(name: &str) -> bool {
    (1..=64).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'_' | b'-'))
}

fn is_machine(machine: &str) -> bool {
    machine.len() == 16 && machine.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// The scope that a collector shows.
pub(super) fn scope_id(machine: &str, name: &str) -> Result<ScopeId> {
    format!("host:{machine}:{name}").parse()
}

/// The source of a machine's reports, apart from jobs and other machines (ADR 0037). Of the machine and not of its agent: the next agent of
/// the machine goes on where the one before it ended.
pub(super) fn source_id(machine: &str) -> Result<SourceId> {
    SourceId::agent_of(machine)
}

/// Whether an agent may speak of a node: it is its machine, or on it.
fn is_own(machine: &str, id: &NodeId) -> bool {
    let resource = id.resource();
    id.provider() == "host"
        && id.node_type().starts_with("host.")
        && (resource == machine || resource.strip_prefix(machine).is_some_and(|rest| rest.starts_with('/')))
}

fn check_page(machine: &str, page: &Page) -> Result<()> {
    let named =
        page.nodes.iter().map(|node| &node.id).chain(page.edges.iter().flat_map(|edge| [&edge.source, &edge.target]));
    for id in named {
        if !is_own(machine, id) {
            let shown: String = id.to_string().chars().take(200).collect();
            return Err(Error::Forbidden {
                message: format!(
                    "`{shown}` is not on the machine `{machine}`: an agent speaks for its own machine only"
                ),
            });
        }
    }
    Prepared::new(&source_id(machine)?, page).map(drop)
}

/// A page of the graph.
pub(super) fn page(scope: &ScopeId, page: wire::report::Page) -> Page {
    Page { scope: scope.clone(), nodes: page.nodes, edges: page.edges }
}

/// The keys of what is gone.
pub(super) fn keys(gone: &wire::report::Gone) -> Result<(Vec<NodeKey>, Vec<EdgeKey>)> {
    let nodes = gone.nodes.iter().map(|key| key.parse()).collect::<Result<_>>()?;
    let edges = gone.edges.iter().map(|key| key.parse()).collect::<Result<_>>()?;
    Ok((nodes, edges))
}

fn check_head(head: &Head) -> Result<()> {
    if head.version != VERSION {
        return Err(invalid(format!("this server reads version {VERSION} of reports, not {}", head.version)));
    }
    if !is_machine(&head.machine) {
        return Err(invalid("`machine` is 16 lower-case hex digits"));
    }
    if head.epoch > NUMBER || head.sequence > NUMBER {
        return Err(invalid("`epoch` and `sequence` are at most 2^53"));
    }
    if head.clock_offset_ms.is_some_and(|by| !(-CLOCK_MS..=CLOCK_MS).contains(&by)) {
        return Err(invalid("`clock_offset_ms` is more than any clock can be off"));
    }
    if head.program.version.len() > NAME_BYTES || head.program.host.len() > NAME_BYTES {
        return Err(invalid("`version` and `host` of the program are at most 255 bytes"));
    }
    Ok(())
}

fn check_scope(scope: &Scope) -> Result<()> {
    if [scope.nodes, scope.edges, scope.calls].iter().any(|count| *count > NUMBER) {
        return Err(invalid("a scope's counts are at most 2^53"));
    }
    if scope.coverage.reason().is_some_and(|reason| reason.len() > REASON_BYTES) {
        return Err(invalid("the reason why a scope was not seen is at most 4 KiB"));
    }
    // Only a plugin that a server runs is given something to begin from; a difference of an agent names its base.
    if scope.coverage == Coverage::Unchanged {
        return Err(invalid("a scope that did not change is left out"));
    }
    Ok(())
}

fn check_call(call: &Call) -> Result<()> {
    if call.size > NUMBER {
        return Err(invalid("a call's size is at most 2^53"));
    }
    if call.error.as_ref().is_some_and(|error| error.len() > REASON_BYTES) {
        return Err(invalid("the reason why a call failed is at most 4 KiB"));
    }
    Ok(())
}

/// Checks a whole report. Nothing of it is kept in memory but a line at a time.
pub(super) fn check(report: Bytes) -> Result<Outline> {
    let mut lines = Lines::new(report);
    let Some(Line::Head(head)) = lines.next()? else { return Err(invalid("the first line of a report is its head")) };
    check_head(&head)?;
    let mut calls = 0;
    let (mut scopes, mut names): (Vec<Scope>, BTreeSet<String>) = (Vec::new(), BTreeSet::new());
    loop {
        let line = lines.next()?.ok_or_else(|| invalid("the report has no end: it is cut short"))?;
        match line {
            Line::Head(_) => return Err(invalid("a report has one head")),
            Line::Scope(scope) => {
                if !is_name(&scope.name) || !names.insert(scope.name.clone()) {
                    return Err(invalid("a scope has a name of 1 to 64 of a-z, 0-9, `.`, `_`, `-`, once in a report"));
                }
                if scopes.len() == SCOPES {
                    return Err(Error::Limit { which: "scopes of a report", max: SCOPES as u64 });
                }
                check_scope(&scope)?;
                scopes.push(scope);
                calls = 0;
            }
            Line::End(end) => {
                if lines.next()?.is_some() {
                    return Err(invalid("nothing comes after the end of a report"));
                }
                if end.forget.len() > SCOPES || end.forget.iter().any(|name| !is_name(name) || names.contains(name)) {
                    return Err(invalid("`forget` names scopes that are not reported"));
                }
                return Ok(Outline { head, scopes, end });
            }
            inside => {
                let scope = scopes.last().ok_or_else(|| invalid("a page belongs to a scope: begin one first"))?;
                match inside {
                    Line::Page(items) => {
                        check_page(&head.machine, &page(&scope_id(&head.machine, &scope.name)?, items))?;
                    }
                    Line::Gone(gone) => keys(&gone).map(drop)?,
                    Line::Calls(told) => {
                        calls += told.len();
                        if calls > CALLS {
                            return Err(Error::Limit { which: "calls of a scope", max: CALLS as u64 });
                        }
                        told.iter().try_for_each(check_call)?;
                    }
                    _ => {}
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    const HEAD: &str = r#"{"head":{"version":1,"machine":"00112233445566aa","epoch":1,"sequence":1,"at":"2026-11-28T00:00:00.000Z","program":{"version":"1","sha256":"0000000000000000000000000000000000000000000000000000000000000000","config_sha256":"0000000000000000000000000000000000000000000000000000000000000000","host":"h"}}}"#;
    const SCOPE: &str = r#"{"scope":{"name":"sudo","digest":"0000000000000000000000000000000000000000000000000000000000000000","coverage":{"coverage":"complete"},"nodes":1,"edges":0,"calls":0,"started":"2026-11-28T00:00:00.000Z","finished":"2026-11-28T00:00:00.000Z"}}"#;
    const END: &str = r#"{"end":{"state":"0000000000000000000000000000000000000000000000000000000000000000"}}"#;

    fn packed(pieces: &[&[u8]]) -> Bytes {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        for piece in pieces {
            encoder.write_all(piece).unwrap();
        }
        encoder.finish().unwrap().into()
    }

    fn of(lines: &[&str]) -> Result<Outline> {
        check(packed(&[(lines.join("\n") + "\n").as_bytes()]))
    }

    fn node(id: &str) -> String {
        format!(r#"{{"page":{{"nodes":[{{"id":"{id}","name":"n"}}]}}}}"#)
    }

    #[test]
    fn a_whole_report_is_read() {
        let outline = of(&[HEAD, SCOPE, &node("host:local:host.user:00112233445566aa/root"), END]).unwrap();
        assert_eq!((outline.scopes.len(), outline.head.sequence), (1, 1));
        assert!(of(&[HEAD, END]).unwrap().scopes.is_empty());
    }

    #[test]
    fn what_is_cut_out_of_order_or_of_another_form_is_refused() {
        for lines in [
            vec![END],
            vec![HEAD],
            vec![HEAD, SCOPE],
            vec![HEAD, HEAD, END],
            vec![HEAD, SCOPE, SCOPE, END],
            vec![HEAD, r#"{"page":{}}"#, END],
            vec![HEAD, END, END],
            vec![HEAD, SCOPE, r#"{"gone":{"nodes":["zz"]}}"#, END],
        ] {
            assert!(matches!(of(&lines), Err(Error::Invalid { .. })), "{lines:?}");
        }
        assert!(matches!(check(Bytes::from_static(b"no gzip")), Err(Error::Invalid { .. })));
        let whole = packed(&[HEAD.as_bytes(), b"\n", END.as_bytes(), b"\n"]);
        assert!(check(whole.slice(..whole.len() - 9)).is_err());
    }

    #[test]
    fn numbers_that_a_statement_cannot_hold_or_no_clock_can_be_off_are_refused() {
        let changed = |text: &str, from: &str, to: &str| {
            assert!(text.contains(from));
            text.replace(from, to)
        };
        for value in ["9223372036854775807", "-9223372036854775808"] {
            let head = changed(HEAD, r#""at""#, &format!(r#""clock_offset_ms":{value},"at""#));
            assert!(matches!(of(&[&head, END]), Err(Error::Invalid { .. })), "{value}");
        }
        for member in [r#""epoch":1"#, r#""sequence":1"#] {
            let head = changed(HEAD, member, &format!("{}9007199254740993", member.trim_end_matches('1')));
            assert!(matches!(of(&[&head, END]), Err(Error::Invalid { .. })), "{member}");
        }
        for member in [r#""nodes":1"#, r#""edges":0"#, r#""calls":0"#] {
            let scope = changed(SCOPE, member, &format!("{}9007199254740993", member.trim_end_matches(['0', '1'])));
            assert!(matches!(of(&[HEAD, &scope, END]), Err(Error::Invalid { .. })), "{member}");
        }
        let reason = format!(r#""coverage":"partial","reason":"{}""#, "x".repeat(REASON_BYTES + 1));
        let scope = changed(SCOPE, r#""coverage":"complete""#, &reason);
        assert!(matches!(of(&[HEAD, &scope, END]), Err(Error::Invalid { .. })));
        let call = r#"{"system":"file","operation":"o","started":"2026-11-28T00:00:00.000Z","finished":"2026-11-28T00:00:00.000Z"}"#;
        let calls = format!(r#"{{"calls":[{}]}}"#, vec![call; 5_000].join(","));
        let five = [HEAD, SCOPE, &calls, &calls, &calls, &calls, END];
        assert!(of(&five).is_ok());
        assert!(matches!(of(&[&five[..6], &[&calls, END]].concat()), Err(Error::Limit { .. })));
    }

    #[test]
    fn attack_22_an_agent_speaks_for_its_own_machine_only() {
        for id in [
            "host:local:host.machine:00112233445566ab",
            "host:local:host.user:00112233445566aa0/root",
            "host:local:host.user:root",
            "aws:us-east-1:aws.ec2.instance:00112233445566aa",
        ] {
            assert!(matches!(of(&[HEAD, SCOPE, &node(id), END]), Err(Error::Forbidden { .. })), "{id}");
        }
        let edge = r#"{"page":{"edges":[{"source":"host:local:host.machine:00112233445566aa","target":"host:local:host.machine:00112233445566ab","type":"contains"}]}}"#;
        assert!(matches!(of(&[HEAD, SCOPE, edge, END]), Err(Error::Forbidden { .. })));
    }

    #[test]
    fn attack_26_a_gzip_bomb_a_long_line_and_deep_nesting_are_refused_in_bounded_memory() {
        // 1 GiB of blanks and line ends in about one MiB.
        let blanks = vec![b'\n'; 1 << 20];
        let bomb: Vec<&[u8]> = std::iter::repeat_n(blanks.as_slice(), 256).collect();
        let bomb = packed(&bomb);
        assert!(bomb.len() < 1 << 20);
        assert!(check(bomb).is_err());
        let line = " ".repeat(LINE_BYTES + 10);
        assert!(matches!(check(packed(&[line.as_bytes()])), Err(Error::Limit { .. })));
        // Lines that are fine, and too many of them.
        let page = format!("{}\n", r#"{"page":{}}"#).repeat(10_000);
        let head = format!("{HEAD}\n{SCOPE}\n");
        let mut pieces: Vec<&[u8]> = vec![head.as_bytes()];
        pieces.extend(std::iter::repeat_n(page.as_bytes(), UNPACKED_BYTES / page.len() + 1));
        assert!(matches!(check(packed(&pieces)), Err(Error::Limit { .. })));
        let deep =
            format!(r#"{{"page":{{"nodes":[{{"id":"a:r:a.x:1","name":"n","properties":{{"p":{}"#, "[".repeat(500_000));
        assert!(matches!(of(&[HEAD, SCOPE, &deep, END]), Err(Error::Invalid { .. })));
    }
}
