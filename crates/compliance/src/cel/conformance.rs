//! A table per operator and function, written from the CEL specification.

use serde_json::json;

use super::{Program, Scope, Subject};
use crate::cel::Machine;
use crate::snapshot::{Snapshot, SnapshotBuilder};

fn world() -> Snapshot {
    let mut builder = SnapshotBuilder::new();
    let props = json!({
        "name": "web", "count": 3, "big": 18_446_744_073_709_551_615_u64, "ratio": 1.5, "on": true, "none": null,
        "list": [1, 2, 3], "words": ["a", "b"], "map": {"a": 1, "b": {"c": "deep"}}, "one": "x",
        "statement": [{"effect": "Allow", "action": ["s3:*"]}, {"effect": "Deny"}], "created": "2026-01-01T00:00:00Z",
        "account_id": "1",
    });
    builder.node("t:r:aws.a:1", "aws.a", "web", "r", "t", json!({"env": "prod"}), props);
    builder.node("t:r:aws.b:1", "aws.b", "b1", "r", "t", json!({}), json!({"port": 22, "account_id": "1"}));
    builder.node("t:r:aws.b:2", "aws.b", "b2", "r", "t", json!({}), json!({"port": 80, "account_id": "1"}));
    builder.node("t:r:aws.b:3", "aws.b", "b3", "r", "t", json!({}), json!({"port": 443, "account_id": "2"}));
    builder.node("t:r:aws.c:1", "aws.c", "c1", "r", "t", json!({}), json!({}));
    builder.edge("t:r:aws.a:1", "t:r:aws.b:1", "attached_to", json!({"device": 0}));
    builder.edge("t:r:aws.a:1", "t:r:aws.b:2", "attached_to", json!({}));
    builder.edge("t:r:aws.c:1", "t:r:aws.a:1", "contains", json!({}));
    builder.edge("t:r:aws.b:1", "t:r:aws.c:1", "member_of", json!({}));
    builder.edge("t:r:aws.a:1", "t:r:aws.gone:1", "attached_to", json!({}));
    builder.build()
}

/// The value as text with its type for what prints alike; `error: …` for an error.
fn outcome(snapshot: &Snapshot, text: &str) -> String {
    let program = match Program::compile(text, Scope::default()) {
        Ok(program) => program,
        Err(error) => return format!("refused at {}: {}", error.at, error.message),
    };
    let index = snapshot.find("t:r:aws.a:1").unwrap();
    let node = snapshot.node(index).unwrap();
    let now = "2026-11-22T03:00:00Z".parse().unwrap();
    let mut machine = Machine::new(Subject { snapshot, index, node, now });
    match program.eval(&mut machine) {
        Ok(value) => match value.type_name() {
            "string" => format!("{:?}", value.display()),
            "uint" => format!("{}u", value.display()),
            "bytes" => format!("b{}", value.display()),
            "double" => format!("{:?}", value.display().parse::<f64>().unwrap()),
            _ => value.display(),
        },
        Err(fault) => format!("error: {}", fault.cause),
    }
}

#[track_caller]
fn check(cases: &[(&str, &str)]) {
    let snapshot = world();
    let wrong: Vec<String> = cases
        .iter()
        .map(|(text, expect)| {
            (text, expect, {
                let t = std::time::Instant::now();
                let o = outcome(&snapshot, text);
                if t.elapsed().as_millis() > 200 {
                    println!("SLOW {:?} {:.60}", t.elapsed(), text);
                }
                o
            })
        })
        .filter(|(_, expect, got)| {
            if expect.ends_with('…') { !got.starts_with(expect.trim_end_matches('…')) } else { *got != **expect }
        })
        .map(|(text, expect, got)| format!("{text}\n  expected {expect}\n  got      {got}"))
        .collect();
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn literals() {
    check(&[
        ("null", "null"),
        ("true", "true"),
        ("42", "42"),
        ("0x2A", "42"),
        ("-0x1", "-1"),
        ("-9223372036854775808", "-9223372036854775808"),
        ("9223372036854775807", "9223372036854775807"),
        ("9223372036854775808", "refused at 0: the number does not fit…"),
        ("-9223372036854775809", "refused at 0: the number does not fit…"),
        ("18446744073709551615u", "18446744073709551615u"),
        ("18446744073709551616u", "refused at 0: 18446744073709551616 is not a number…"),
        ("1.5e3", "1500.0"),
        (".5", "0.5"),
        ("1a", "refused at 1: put a blank…"),
        ("\"a\\n\\x41\\u00e9\\101\"", "\"a\\nAéA\""),
        ("r'a\\n'", "\"a\\\\n\""),
        ("'''two\nlines'''", "\"two\\nlines\""),
        ("'two\nlines'", "refused at 0: the string does not end on its line…"),
        ("'open", "refused at 0: the string does not end"),
        ("'\\q'", "refused at 1: this escape is unknown…"),
        ("b'\\xff\\000a'", "bff0061"),
        ("[1, 2,]", "[1,2]"),
        ("{'a': 1, 'b': [true]}", "{\"a\":1,\"b\":[true]}"),
        ("{'a': 1, 'a': 2}", "error: the map has one key twice"),
        ("{1: 'a', 1u: 'b'}", "error: the map has one key twice"),
        ("{[]: 1}", "error: a map's key is…"),
        ("1 // comment\n + 1", "2"),
    ]);
}

#[test]
fn integers_overflow_is_an_error() {
    check(&[
        ("1 + 2 * 3", "7"),
        ("(1 + 2) * 3", "9"),
        ("10 - 2 - 3", "5"),
        ("7 / 2", "3"),
        ("-7 / 2", "-3"),
        ("-7 % 3", "-1"),
        ("1 / 0", "error: division by zero"),
        ("1 % 0", "error: division by zero"),
        ("1u / 0u", "error: division by zero"),
        ("9223372036854775807 + 1", "error: the number does not fit in 64 bits"),
        ("-9223372036854775808 - 1", "error: the number does not fit in 64 bits"),
        ("9223372036854775807 * 2", "error: the number does not fit in 64 bits"),
        ("-9223372036854775808 / -1", "error: the number does not fit in 64 bits"),
        ("-9223372036854775808 % -1", "error: the number does not fit in 64 bits"),
        ("-(-9223372036854775808)", "error: the number does not fit in 64 bits"),
        ("0u - 1u", "error: the number does not fit in 64 bits"),
        ("18446744073709551615u + 1u", "error: the number does not fit in 64 bits"),
        ("-1u", "error: `-` does not take uint"),
        ("1 + 1u", "error: `+` does not take int and uint"),
        ("1 + 1.0", "error: `+` does not take int and double"),
        ("1.0 / 0.0 > 1e308", "true"),
        ("1.0 % 2.0", "error: `%` does not take double and double"),
        ("props.count + 1", "4"),
        ("props.big", "18446744073709551615u"),
        ("--1", "1"),
    ]);
}

#[test]
fn strings_lists_and_bytes_concatenate() {
    check(&[
        ("'a' + 'b'", "\"ab\""),
        ("b'a' + b'b'", "b6162"),
        ("[1] + ['x']", "[1,\"x\"]"),
        ("'a' + 1", "error: `+` does not take string and int"),
        ("props.name + '!'", "\"web!\""),
        ("props.list + [4]", "[1,2,3,4]"),
    ]);
}

#[test]
fn equality_holds_across_numbers_and_never_across_other_types() {
    check(&[
        ("1 == 1.0", "true"),
        ("1 == 1u", "true"),
        ("1u == 1.0", "true"),
        ("9007199254740993 == 9007199254740992.0", "false"),
        ("1 == '1'", "false"),
        ("null == false", "false"),
        ("null == props.none", "true"),
        ("[1, 2] == [1.0, 2u]", "true"),
        ("[1, 2] == [2, 1]", "false"),
        ("{'a': 1} == {'a': 1.0}", "true"),
        ("props.map.b == {'c': 'deep'}", "true"),
        ("b'a' == b'a'", "true"),
        ("1 != 2", "true"),
        ("0.0 / 0.0 == 0.0 / 0.0", "false"),
        ("0.0 / 0.0 != 0.0 / 0.0", "true"),
        (
            "type(1) == int && type('') == string && type([]) == list && type({}) == map && type(null) == null_type",
            "true",
        ),
        ("type(type(1)) == type", "true"),
        ("type(props.count) == double", "false"),
    ]);
}

#[test]
fn order_is_by_value_and_strings_by_code_point() {
    check(&[
        ("1 < 2u", "true"),
        ("1 < 1.5", "true"),
        ("-1 < 18446744073709551615u", "true"),
        ("9007199254740993 > 9007199254740992.0", "true"),
        ("-2 < -1.5", "true"),
        ("-1 > -1.5", "true"),
        ("1 < 0.0 / 0.0", "false"),
        ("'a' < 'b'", "true"),
        ("'Z' < 'a'", "true"),
        ("'a' < 'aa'", "true"),
        ("false < true", "true"),
        ("b'a' <= b'b'", "true"),
        ("1 < '2'", "error: `<` does not take int and string"),
        ("[1] < [2]", "error: `<` does not take list and list"),
        ("null < 1", "error: `<` does not take null_type and int"),
        ("1 < 2 == true", "true"),
    ]);
}

#[test]
fn and_and_or_absorb_errors_on_either_side() {
    check(&[
        ("true && false", "false"),
        ("1 / 0 == 1 && false", "false"),
        ("false && 1 / 0 == 1", "false"),
        ("1 / 0 == 1 && true", "error: division by zero"),
        ("true && 1 / 0 == 1", "error: division by zero"),
        ("1 / 0 == 1 || true", "true"),
        ("true || 1 / 0 == 1", "true"),
        ("1 / 0 == 1 || false", "error: division by zero"),
        ("props.absent || true", "true"),
        ("'x' && false", "false"),
        ("'x' && true", "error: `&&` does not take string"),
        ("1 || false", "error: `||` does not take int"),
        ("true || false && false", "true"),
        ("!true || true", "true"),
        ("!1", "error: `!` does not take int"),
        ("true ? 1 : 1 / 0", "1"),
        ("false ? 1 / 0 : 2", "2"),
        ("1 ? 2 : 3", "error: `?:` does not take int"),
        ("true ? (false ? 1 : 2) : 3", "2"),
        ("true ? 1 : false ? 2 : 3", "1"),
        ("true ? false ? 1 : 2 : 3", "refused at 13: `:` was expected, not `?`"),
    ]);
}

#[test]
fn fields_that_are_missing_are_errors_and_has_is_false() {
    check(&[
        ("props.name", "\"web\""),
        ("props.map.b.c", "\"deep\""),
        ("props['map']['b'].c", "\"deep\""),
        ("props.absent", "error: there is no `absent`"),
        ("has(props.absent)", "false"),
        ("has(props.none)", "true"),
        ("has(props.map.b.c)", "true"),
        ("has(props.map.x.c)", "error: there is no `x`"),
        ("has({'a': null}.a)", "true"),
        ("has(props)", "refused at 0: `has` takes one field selection…"),
        ("props.name.x", "error: `field selection` does not take string"),
        ("props['absent']", "error: there is no `absent`"),
        ("props.list[0]", "1"),
        ("props.list[2.0]", "3"),
        ("props.list[3]", "error: there is no `[3]`"),
        ("props.list[-1]", "error: there is no `[-1]`"),
        ("props.list['a']", "error: `[]` does not take list and string"),
        ("{1: 'a'}[1u]", "\"a\""),
        ("default(props.absent, 7)", "7"),
        ("default(props.map.x.y, 'no')", "\"no\""),
        ("default(props.none, 'null')", "\"null\""),
        ("default(props.none.x, 'null')", "\"null\""),
        ("default(props.count, 7)", "3"),
        ("default(1 / 0, 7)", "error: division by zero"),
        ("node.id + node.type + node.name + node.region + node.provider", "\"t:r:aws.a:1aws.awebrt\""),
        ("node.tags.env", "\"prod\""),
        ("node.props.count", "3"),
        ("nod.id", "refused at 0: `nod` is not known here: did you mean `node`?"),
        ("node.nme", "refused at 5: a node has no `nme`: did you mean `name`?"),
    ]);
}

#[test]
fn membership() {
    check(&[
        ("2 in [1, 2]", "true"),
        ("2 in props.list", "true"),
        ("2.0 in props.list", "true"),
        ("'x' in props.list", "false"),
        ("'a' in props.map", "true"),
        ("'z' in {'a': 1}", "false"),
        ("1 in {1: 2}", "true"),
        ("'a' in 'abc'", "error: `in` does not take string and string"),
        ("!('a' in [])", "true"),
    ]);
}

#[test]
fn macros() {
    check(&[
        ("props.list.all(x, x > 0)", "true"),
        ("[].all(x, 1 / 0 == 1)", "true"),
        ("[0, 1].all(x, 1 / x == 5)", "false"),
        ("[0, 1].all(x, 1 / x == 1)", "error: division by zero"),
        ("props.list.exists(x, x == 2)", "true"),
        ("[0, 1].exists(x, 1 / x == 1)", "true"),
        ("[0].exists(x, 1 / x == 1)", "error: division by zero"),
        ("[].exists(x, true)", "false"),
        ("props.list.exists_one(x, x > 2)", "true"),
        ("props.list.exists_one(x, x > 1)", "false"),
        ("[0, 1].exists_one(x, 1 / x == 1)", "error: division by zero"),
        ("props.list.filter(x, x % 2 == 1)", "[1,3]"),
        ("[0].filter(x, 1 / x == 1)", "error: division by zero"),
        ("props.list.map(x, x * x)", "[1,4,9]"),
        ("props.list.map(x, x > 1, x * 10)", "[20,30]"),
        ("props.map.all(key, key in ['a', 'b'])", "true"),
        ("{'k': 1}.map(key, key)", "[\"k\"]"),
        ("[[1], [2, 3]].map(x, x.map(y, y + size(x)))", "[[2],[4,5]]"),
        ("[1].map(x, [2].map(x, x))", "[[2]]"),
        ("[1].exists(x, x)", "error: `the macro's predicate` does not take int"),
        ("1.exists(x, true)", "error: `a macro` does not take int"),
        ("(1).exists(x, true)", "error: `a macro` does not take int"),
        ("[1].all(1, true)", "refused at 4: the first argument…"),
        ("props.statement.exists(s, s.effect == 'Allow' && s.action.exists(a, a.endsWith('*')))", "true"),
        ("[1].map(x, x) == [1] && x == 1", "refused at 24: `x` is not known here"),
    ]);
}

#[test]
fn text_functions() {
    check(&[
        ("size('héllo')", "5"),
        ("'abc'.size() + [1, 2].size() + {'a': 1}.size() + size(b'xyz')", "9"),
        ("size(1)", "error: `size` does not take int"),
        ("'hello'.contains('ell') && 'hello'.startsWith('he') && 'hello'.endsWith('lo')", "true"),
        ("contains('a', 'a')", "refused at 0: there is no function `contains`…"),
        ("'a1b'.matches('[0-9]')", "true"),
        ("'abc'.matches('^b')", "false"),
        ("matches('abc', 'b')", "true"),
        ("'abc'.matches(props.name)", "false"),
        ("'abc'.matches('(')", "refused at 14: the pattern is wrong…"),
        ("'abc'.matches('a{1000}{1000}')", "refused at 14: the pattern is too large…"),
        ("'abc'.matches('a{1000}' + '{1000}')", "error: the pattern is too large…"),
        ("'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa!'.matches('(a+)+$')", "false"),
        ("'ABC'.lowerAscii() + 'abc'.upperAscii() + ' x '.trim()", "\"abcABCx\""),
        ("'a,b,'.split(',')", "[\"a\",\"b\",\"\"]"),
        ("'ab'.split('')", "[\"a\",\"b\"]"),
        ("'aXbX'.replace('X', '-')", "\"a-b-\""),
        ("['a', 'b'].join(', ') + ['c'].join()", "\"a, bc\""),
        ("[1].join()", "error: `join` does not take int"),
        ("'a'.startsWith()", "refused at 4: `startsWith` takes 1 arguments here, not 0"),
        ("'a'.startWith('a')", "refused at 4: there is no function `startWith`: did you mean `startsWith`?"),
    ]);
}

#[test]
fn conversions() {
    check(&[
        ("int('42') + int(1.9) + int(-1.9) + int(2u)", "44"),
        ("int(1e30)", "error: `1000000000000000000000000000000` does not convert…"),
        ("int('x')", "error: `x` does not convert to that type of number"),
        ("uint(-1)", "error: `-1` does not convert…"),
        ("uint('7')", "7u"),
        ("double('1.5') + double(1) + double(2u)", "4.5"),
        ("string(1) + string(1.5) + string(true) + string(b'x')", "\"11.5truex\""),
        ("string(b'\\xff')", "error: the bytes are not UTF-8"),
        ("bytes('é')", "bc3a9"),
        ("bool('true') && !bool('false')", "true"),
        ("bool('maybe')", "error: the text is neither…"),
        ("int(timestamp('1970-01-01T00:01:00Z'))", "60"),
        ("dyn(1) == 1", "true"),
        ("as_list('a') + as_list(['b']) + as_list(null)", "[\"a\",\"b\"]"),
    ]);
}

#[test]
fn times() {
    check(&[
        ("timestamp('2026-11-22T04:00:00.5+01:00')", "2026-11-22T03:00:00.5Z"),
        ("timestamp('yesterday')", "error: a time is…"),
        ("timestamp(0) + duration('1h30m')", "1970-01-01T01:30:00Z"),
        ("duration('1h') + timestamp(0) > timestamp(0)", "true"),
        ("timestamp(60) - timestamp(0) == duration('1m')", "true"),
        ("timestamp(0) - duration('1s')", "1969-12-31T23:59:59Z"),
        ("duration('90s') - duration('1.5s')", "88.5s"),
        ("duration('x')", "error: a duration is…"),
        ("timestamp('9999-12-31T23:59:59Z') + duration('1s')", "error: the time is out of range"),
        ("now", "2026-11-22T03:00:00Z"),
        ("now.getFullYear() * 10000 + now.getMonth() * 100 + now.getDate()", "20261022"),
        ("now.getDayOfWeek()", "0"),
        ("duration('90m').getHours() + duration('90m').getMinutes()", "91"),
        ("age_days(props.created)", "325"),
        ("age_days('2026-11-22T03:00:01Z')", "-1"),
        ("days_between(props.created, '2026-01-31T12:00:00Z')", "30"),
        ("age_days('N/A')", "error: a time is…"),
        ("now - duration('24h') < now", "true"),
    ]);
}

#[test]
fn addresses_and_ports() {
    check(&[
        ("cidr_contains('10.0.0.0/8', '10.1.0.0/16') && cidr_contains('10.0.0.0/8', '10.255.255.255')", "true"),
        ("cidr_contains('10.0.0.0/16', '10.0.0.0/8')", "false"),
        ("cidr_contains('0.0.0.0/0', '::/0') || cidr_contains('::/0', '10.0.0.1')", "false"),
        ("cidr_contains('::/0', '2001:db8::1')", "true"),
        ("cidr_contains('10.0.0.0/33', '10.0.0.1')", "error: `10.0.0.0/33` is not an address block…"),
        ("is_public_cidr('0.0.0.0/0') && is_public_cidr('8.8.8.8') && is_public_cidr('2600::/16')", "true"),
        ("is_public_cidr('10.2.0.0/16') || is_public_cidr('192.168.1.1') || is_public_cidr('fd00::/8')", "false"),
        ("is_any_cidr('0.0.0.0/0') && is_any_cidr('::/0') && !is_any_cidr('128.0.0.0/1')", "true"),
        ("port_in(22, 22, 22) && port_in(0, 65535, 22) && port_in(null, null, 22) && port_in(-1, -1, 22)", "true"),
        ("port_in(23, 80, 22)", "false"),
    ]);
}

#[test]
fn neighbours() {
    check(&[
        ("neighbors('attached_to', 'out', 'aws.b').map(n, n.props.port)", "[22,80]"),
        ("neighbors('attached_to', 'out', 'aws.b')[0].edge.device", "0"),
        ("has(neighbors('attached_to', 'out', 'aws.b')[1].edge.device)", "false"),
        ("neighbors('attached_to', 'in', 'aws.b')", "[]"),
        ("neighbors('contains', 'in', '*').map(n, n.type)", "[\"aws.c\"]"),
        ("neighbors('*', 'out', '*').size()", "2"),
        ("neighbors('nothing', 'out', '*').size() + neighbors('*', 'out', 'aws.nothing').size()", "0"),
        (
            "neighbors('attached_to', 'out', 'aws.b').exists(b, b.neighbors('member_of', 'out', 'aws.c').size() == 1)",
            "true",
        ),
        ("nodes_of('aws.b').map(n, n.name)", "[\"b1\",\"b2\"]"),
        ("neighbors('attached_to', 'up', 'aws.b')", "refused at 25: `up` is no direction…"),
        ("neighbors('attached_to', 'out')", "refused at 0: `neighbors` takes…"),
        ("nodes_of(props.name)", "refused at 0: `nodes_of` takes…"),
    ]);
}

#[test]
fn nothing_runs_or_nests_without_a_bound() {
    let ten = "[1,2,3,4,5,6,7,8,9,10]";
    let loops = format!(
        "{ten}.all(a, {ten}.all(b, {ten}.all(c, {ten}.all(d, {ten}.all(e, {ten}.all(f, {ten}.all(g, a + b + c + d + e + f + g > 0)))))))"
    );
    let absorbed = format!("({loops}) || true");
    let text = "x".repeat(1_000);
    let doubling = format!(
        "['{text}'].map(a, a + a + a + a + a + a + a + a).map(a, a + a + a + a + a + a + a + a).map(a, a + a + a + a + a + a + a + a).map(a, a + a + a + a + a + a + a + a).map(a, a + a + a + a + a + a + a + a).map(a, size(a))"
    );
    let deep = |open: &str, close: &str, n: usize| format!("{}1{}", open.repeat(n), close.repeat(n));
    let sum = vec!["1"; 2_000].join("+");
    let or = vec!["true"; 2_000].join("||");
    let selects = format!("props{}", ".a".repeat(2_000));
    let huge = deep("(", ")", 100_000);
    let parens = deep("(", ")", 7_000);
    let lists = deep("[", "]", 7_000);
    let nots = format!("{}true", "!".repeat(10_000));
    let negatives = format!("{}(1)", "-".repeat(10_000));
    let ternaries = "true ? 1 : ".repeat(1_000) + "1";
    let maps = "{1: ".repeat(3_000);
    let calls = deep("size(", ")", 2_000);
    check(&[
        (&loops, "error: cost limit of 1000000 steps reached"),
        (&absorbed, "error: cost limit of 1000000 steps reached"),
        (&doubling, "error: cost limit of 1000000 steps reached"),
        (&huge, "refused at 0: the expression is longer than 16384 bytes…"),
        (&parens, "refused at 48: the expression is nested more than 48 deep"),
        (&lists, "refused at 48: the expression is nested more than 48 deep"),
        (&nots, "refused…"),
        (&negatives, "refused…"),
        (&ternaries, "refused…"),
        (&maps, "refused…"),
        (&calls, "refused…"),
        (&sum, "refused at 255: the expression is more than 128 operations deep"),
        (&selects, "refused at 260: the expression is more than 128 operations deep"),
        (&or, "true"),
    ]);
}

#[test]
fn syntax_errors_say_where_and_what() {
    check(&[
        ("", "refused at 0: a value was expected, not the end of the expression"),
        ("1 +", "refused at 3: a value was expected, not the end of the expression"),
        ("(1", "refused at 2: `)` was expected, not the end of the expression"),
        ("1 2", "refused at 2: a literal was not expected here"),
        ("a b", "refused at 2: `b` was not expected here"),
        ("props.", "refused at 6: a name was expected, not the end of the expression"),
        ("for", "refused at 0: `for` is a reserved word of CEL"),
        ("1 = 2", "refused at 2: `=` is not part of CEL"),
        ("a # b", "refused at 2: `#` is not part of CEL"),
        ("[1 2]", "refused at 3: `]` was expected, not a literal"),
        ("{1, 2}", "refused at 2: `:` was expected, not `,`"),
        ("unknown(1)", "refused at 0: there is no function `unknown`"),
    ]);
}

proptest::proptest! {
    #[test]
    fn no_text_makes_the_parser_or_the_evaluation_panic(text in "[ -~]{0,80}") {
        outcome(&world(), &text);
    }

    #[test]
    fn no_row_of_tokens_makes_the_parser_or_the_evaluation_panic(
        words in proptest::collection::vec(
            proptest::sample::select(vec![
                "props", ".list", ".map", "[", "]", "(", ")", "{", "}", ",", ":", "?", "+", "-", "*", "/", "%", "==", "<", "&&",
                "||", "!", "in", "1", "2u", "1.5", "'a'", "null", "true", ".all(x,", "x", ".map(x,", "size(", "has(", "default(",
                "now", "node", ".id", "-9223372036854775808", "duration('1h')", "timestamp(0)", "int(", "string(",
            ]),
            0..24,
        )
    ) {
        outcome(&world(), &words.join(" "));
    }
}
