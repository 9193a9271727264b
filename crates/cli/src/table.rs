//! Documents as text for people: aligned columns for lists, `name: value` lines for one thing.

use unicode_width::UnicodeWidthChar;

use crate::clean::clean;
use crate::doc::Doc;

/// What a list of a wire type shows: heading and field.
pub(crate) trait Table {
    const COLUMNS: &'static [(&'static str, &'static str)];
}

/// A column is not made narrower than this to fit a terminal.
const NARROWEST: usize = 8;
const GAP: usize = 2;

/// A list: a heading and a line per item. `width` is the terminal's, where the output is one.
pub(crate) fn list(columns: &[(&str, &str)], items: &[Doc], width: Option<usize>) -> String {
    let head = columns.iter().map(|(title, _)| (*title).to_owned()).collect();
    let row = |item: &Doc| columns.iter().map(|(_, field)| item.field(field).map_or_else(String::new, cell)).collect();
    aligned(std::iter::once(head).chain(items.iter().map(row)).collect(), width)
}

/// One thing: its plain fields, then a table for every field that is a list of objects.
pub(crate) fn detail(doc: &Doc, width: Option<usize>) -> String {
    let Doc::Map(fields) = doc else { return format!("{}\n", cell(doc)) };
    let is_table = |value: &Doc| matches!(value, Doc::List(items) if matches!(items.first(), Some(Doc::Map(_))));
    let mut rows = Vec::new();
    for (name, value) in fields.iter().filter(|(_, value)| !is_table(value)) {
        match value {
            Doc::Map(inner) if !inner.is_empty() => {
                rows.extend(
                    inner.iter().map(|(key, value)| vec![format!("{}.{}:", clean(name), clean(key)), cell(value)]),
                );
            }
            value => rows.push(vec![format!("{}:", clean(name)), cell(value)]),
        }
    }
    let mut out = aligned(rows, None);
    for (name, value) in fields.iter().filter(|(_, value)| is_table(value)) {
        let Doc::List(items) = value else { continue };
        let mut keys: Vec<&str> = Vec::new();
        for item in items {
            let Doc::Map(fields) = item else { continue };
            for (key, _) in fields {
                if !keys.contains(&key.as_str()) {
                    keys.push(key);
                }
            }
        }
        let titles: Vec<String> = keys.iter().map(|key| clean(key).to_uppercase().replace('_', " ")).collect();
        let columns: Vec<(&str, &str)> = titles.iter().map(String::as_str).zip(keys).collect();
        out.extend(["\n", &clean(name), ":\n", &list(&columns, items, width)]);
    }
    out
}

fn cell(value: &Doc) -> String {
    let text = match value {
        Doc::Null => "-".to_owned(),
        Doc::Text(text) => text.clone(),
        Doc::List(items) if items.is_empty() => "-".to_owned(),
        Doc::List(items) if !items.iter().any(|item| matches!(item, Doc::Map(_) | Doc::List(_))) => {
            items.iter().map(cell).collect::<Vec<_>>().join(", ")
        }
        other => other.to_compact_json(),
    };
    clean(&text).into_owned()
}

/// How many columns of a terminal the text takes, character by character: `cut` must count as this does.
fn width_of(text: &str) -> usize {
    text.chars().filter_map(UnicodeWidthChar::width).sum()
}

fn aligned(rows: Vec<Vec<String>>, width: Option<usize>) -> String {
    let count = rows.iter().map(Vec::len).max().unwrap_or(0);
    let mut widths = vec![0usize; count];
    for row in &rows {
        for (widest, cell) in widths.iter_mut().zip(row) {
            *widest = (*widest).max(width_of(cell));
        }
    }
    if let Some(most) = width {
        fit(&mut widths, most);
    }
    let mut out = String::new();
    for row in rows {
        let mut line = String::new();
        for (cell, column) in row.iter().zip(&widths) {
            let shown = cut(cell, *column);
            line.push_str(&shown);
            line.extend(std::iter::repeat_n(' ', column - width_of(&shown) + GAP));
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}

/// Takes from the widest column until the line fits or no column has more to give.
fn fit(widths: &mut [usize], most: usize) {
    let gaps = GAP * widths.len().saturating_sub(1);
    let mut over = (widths.iter().sum::<usize>() + gaps).saturating_sub(most);
    while over > 0 {
        match widths.iter_mut().max_by_key(|width| **width) {
            Some(widest) if *widest > NARROWEST => *widest -= 1,
            _ => return,
        }
        over -= 1;
    }
}

fn cut(text: &str, width: usize) -> String {
    if width_of(text) <= width {
        return text.to_owned();
    }
    let (mut out, mut used) = (String::new(), 0);
    for c in text.chars() {
        let wide = c.width().unwrap_or(0);
        if used + wide + 1 > width {
            break;
        }
        used += wide;
        out.push(c);
    }
    out.push('…');
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const COLUMNS: &[(&str, &str)] = &[("NAME", "name"), ("STATE", "state")];

    fn docs(json: &str) -> Vec<Doc> {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn columns_align_by_what_a_terminal_shows() {
        let items = docs(
            r#"[{"name":"web","state":"open"},{"name":"日本語","state":null},{"name":"a-long-name","state":["x","y"]},{}]"#,
        );
        assert_eq!(
            list(COLUMNS, &items, None),
            "NAME         STATE\nweb          open\n日本語       -\na-long-name  x, y\n\n"
        );
    }

    #[test]
    fn names_of_others_cannot_forge_lines_or_colours() {
        let items = docs(r#"[{"name":"a\n\u001b[32mweb  open\u202e\u009b1m","state":"fail"}]"#);
        let shown = list(COLUMNS, &items, None);
        assert_eq!(shown.lines().count(), 2, "{shown}");
        assert!(!shown.replace('\n', "").chars().any(crate::clean::is_unsafe), "{shown:?}");
        let shown = detail(&docs(r#"[{"a\u001b":"b\u001b","m":{"k\r":"v"},"t":[{"h\u001b":"\u0007"}]}]"#)[0], None);
        assert!(!shown.replace('\n', "").chars().any(crate::clean::is_unsafe), "{shown:?}");
    }

    #[test]
    fn a_narrow_terminal_cuts_the_widest_column_first() {
        let items = docs(r#"[{"name":"a-very-long-name-of-a-node","state":"open"}]"#);
        assert_eq!(list(COLUMNS, &items, Some(20)), "NAME           STATE\na-very-long-…  open\n");
        assert!(list(COLUMNS, &items, Some(1)).contains("a-very-…  open"));
    }

    #[test]
    fn one_thing_shows_its_fields_in_order_and_its_lists_as_tables() {
        let doc = &docs(
            r#"[{"id":"job_1","config":{"a":1},"error":null,"tasks":[{"key":"x","done":2},{"key":"y","error":"e"}]}]"#,
        )[0];
        assert_eq!(
            detail(doc, None),
            "id:        job_1\nconfig.a:  1\nerror:     -\n\ntasks:\nKEY  DONE  ERROR\nx    2\ny          e\n"
        );
    }

    proptest! {
        #[test]
        fn no_line_is_wider_than_the_terminal(names in prop::collection::vec(any::<String>(), 1..6), width in 24usize..100) {
            let items: Vec<Doc> = names.iter().map(|name| Doc::Map(vec![("name".to_owned(), Doc::Text(name.clone()))])).collect();
            for line in list(COLUMNS, &items, Some(width)).lines() {
                prop_assert!(width_of(line) <= width, "{line:?}");
            }
        }
    }
}
