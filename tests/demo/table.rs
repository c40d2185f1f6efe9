//! Prints rows in columns.

use std::io::IsTerminal as _;

const GREEN: &str = "\x1b[32m";
const RED: &str = "\x1b[31m";
const PLAIN: &str = "\x1b[0m";

/// One row.
#[derive(Debug)]
pub(crate) struct Line {
    /// Tool, what it tried, what came back, verdict, rule or reason.
    pub(crate) cells: [String; 5],
}

/// Prints the rows below a head; verdicts are coloured on a terminal.
pub(crate) fn print(lines: &[Line]) {
    let head = ["tool", "tried", "came back", "verdict", "rule or reason"];
    let mut widths = head.map(str::len);
    for line in lines {
        for (width, cell) in widths.iter_mut().zip(&line.cells) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let is_terminal = std::io::stdout().is_terminal();
    println!("{}", row(&head.map(str::to_owned), &widths, false));
    println!("{}", widths.map(|width| "─".repeat(width)).join("  "));
    for line in lines {
        println!("{}", row(&line.cells, &widths, is_terminal));
    }
}

fn row(cells: &[String; 5], widths: &[usize; 5], is_coloured: bool) -> String {
    let cells: Vec<String> = cells
        .iter()
        .zip(widths)
        .map(|(cell, width)| {
            let padded = format!("{cell:<width$}");
            match cell.as_str() {
                "allow" if is_coloured => format!("{GREEN}{padded}{PLAIN}"),
                "deny" if is_coloured => format!("{RED}{padded}{PLAIN}"),
                _ => padded,
            }
        })
        .collect();
    cells.join("  ").trim_end().to_owned()
}
