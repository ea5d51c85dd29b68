//! Answers: tables for people. Columns are aligned and without lines, so that they can be cut and
//! searched as well.

use comfy_table::{CellAlignment, Table as Grid};

use crate::client::ApiError;

/// A table with a header in capitals.
pub struct Table {
    grid: Grid,
    rows: usize,
}

impl Table {
    /// Columns whose name begins with `>` hold numbers and are aligned to the right.
    #[must_use]
    pub fn new(columns: &[&str]) -> Self {
        let mut grid = Grid::new();
        grid.load_style(comfy_table::presets::NOTHING);
        let names = columns
            .iter()
            .map(|name| name.trim_start_matches('>').to_uppercase());
        grid.set_header(names.collect::<Vec<String>>());
        for (index, name) in columns.iter().enumerate() {
            if let Some(column) = grid.column_mut(index) {
                column.set_padding((0, 2));
                if name.starts_with('>') {
                    column.set_cell_alignment(CellAlignment::Right);
                }
            }
        }
        Self { grid, rows: 0 }
    }

    pub fn row(&mut self, cells: Vec<String>) {
        self.grid.add_row(cells);
        self.rows += 1;
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// The lines, without blanks at their ends.
    #[must_use]
    pub fn text(&self) -> String {
        self.grid.trim_fmt()
    }
}

/// Names and values below one another, aligned.
#[must_use]
pub fn pairs(pairs: &[(&str, String)]) -> String {
    let width = pairs.iter().map(|(name, _)| name.len()).max().unwrap_or(0) + 2;
    let lines = pairs.iter().map(|(name, value)| {
        let line = format!("{name:width$}{value}");
        line.trim_end().to_owned()
    });
    lines.collect::<Vec<String>>().join("\n")
}

/// The members of a list, separated by commas; `-` for none.
pub fn listed<T: ToString>(items: impl IntoIterator<Item = T>) -> String {
    let items: Vec<String> = items.into_iter().map(|item| item.to_string()).collect();
    match items.is_empty() {
        true => "-".to_owned(),
        false => items.join(","),
    }
}

/// `1 record`, `2 records`.
#[must_use]
pub fn counted(count: u64, thing: &str) -> String {
    format!("{count} {thing}{}", if count == 1 { "" } else { "s" })
}

/// The value, or `-`.
pub fn or_dash<T: ToString>(value: Option<T>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

/// An error of the cluster as JSON; null for none.
#[must_use]
pub fn error_json(error: Option<&ApiError>) -> serde_json::Value {
    error.map_or(
        serde_json::Value::Null,
        |error| serde_json::json!({ "code": error.code.name(), "message": error.to_string() }),
    )
}

/// Bytes for people: `12.3 MB` (powers of 1000).
#[must_use]
#[allow(clippy::cast_precision_loss, reason = "three digits are shown")]
pub fn size(bytes: u64) -> String {
    let mut value = bytes as f64;
    for unit in ["B", "kB", "MB", "GB"] {
        if value < 999.95 {
            return match unit {
                "B" => format!("{bytes} B"),
                _ => format!("{value:.1} {unit}"),
            };
        }
        value /= 1000.0;
    }
    format!("{value:.1} TB")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_stand_to_the_right_and_lines_have_no_blanks_at_their_end() {
        let mut table = Table::new(&["name", ">count"]);
        table.row(vec!["orders".to_owned(), "7".to_owned()]);
        table.row(vec!["a".to_owned(), "1234".to_owned()]);
        assert_eq!(table.text(), "NAME    COUNT\norders      7\na        1234");
    }

    #[test]
    fn sizes_are_short() {
        assert_eq!(size(999), "999 B");
        assert_eq!(size(1_234_567), "1.2 MB");
        assert_eq!(size(999_999), "1.0 MB");
    }
}
