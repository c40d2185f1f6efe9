//! Text for people: tables, and bytes of others made harmless.

/// Columns, padded to their widest cell. The last one is not padded.
pub(super) fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let mut widths: Vec<usize> = head.iter().map(|cell| cell.chars().count()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let head = line(head.iter().copied(), &widths);
    let rows = rows
        .iter()
        .map(|row| line(row.iter().map(String::as_str), &widths));
    std::iter::once(head).chain(rows).collect()
}

/// A string that some other process chose, without anything that moves a cursor.
pub(super) fn harmless(text: &str) -> String {
    text.escape_debug().to_string()
}

fn line<'a>(cells: impl Iterator<Item = &'a str>, widths: &[usize]) -> String {
    let cells = cells.zip(widths);
    let padded: Vec<_> = cells
        .map(|(cell, width)| format!("{cell:<width$}"))
        .collect();
    format!("{}\n", padded.join("  ").trim_end())
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::{harmless, table};

    #[test]
    fn columns_line_up() {
        let rows = [
            vec!["web".to_owned(), "1".to_owned(), "x".to_owned()],
            vec!["invoices".to_owned(), "22".to_owned(), "y".to_owned()],
        ];
        expect![[r"
            tool      n   what
            web       1   x
            invoices  22  y
        "]]
        .assert_eq(&table(&["tool", "n", "what"], &rows));
    }

    #[test]
    fn escapes_stay_visible() {
        assert_eq!(harmless("a\x1b[2Jb\n"), "a\\u{1b}[2Jb\\n");
    }
}
