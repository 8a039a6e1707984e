//! What people read: tables and times.

use std::io::Write;

use serde_json::Value;

/// `println!` for a process that must not die because nobody reads any more, such as `windfall up | head`.
macro_rules! tell {
    ($($text:tt)*) => { $crate::output::line(&mut std::io::stdout(), format_args!($($text)*)) };
}

/// `eprintln!` in the same way.
macro_rules! note {
    ($($text:tt)*) => { $crate::output::line(&mut std::io::stderr(), format_args!($($text)*)) };
}

pub(crate) use {note, tell};

/// Writes a line, whether anybody reads it or not.
pub fn line(to: &mut impl Write, text: std::fmt::Arguments<'_>) {
    let _ = writeln!(to, "{text}");
}

/// Rows under a heading, columns as wide as they must be. Cells are cut to one line of `WIDEST` characters.
pub fn table(heading: &[&str], rows: &[Vec<String>]) -> String {
    const WIDEST: usize = 60;
    let cut = |cell: &str| -> String {
        let line: String = cell.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        if line.chars().count() <= WIDEST {
            return line;
        }
        line.chars().take(WIDEST - 3).chain("...".chars()).collect()
    };
    let mut lines: Vec<Vec<String>> = vec![heading.iter().map(|cell| cell.to_uppercase()).collect()];
    lines.extend(rows.iter().map(|row| row.iter().map(|cell| cut(cell)).collect()));
    let widths: Vec<usize> = (0..heading.len())
        .map(|column| {
            lines
                .iter()
                .filter_map(|line| line.get(column))
                .map(|cell| cell.chars().count())
                .max()
                .unwrap_or(0)
        })
        .collect();
    let mut text = String::new();
    for line in lines {
        let mut printed = String::new();
        for (cell, width) in line.iter().zip(&widths) {
            printed.push_str(&format!("{cell:<width$}  "));
        }
        text.push_str(printed.trim_end());
        text.push('\n');
    }
    text
}

/// JSON for people.
pub fn pretty(value: &Value) -> String {
    serde_json::to_string_pretty(value).unwrap_or_else(|_| value.to_string())
}

/// Milliseconds since the Unix epoch as `2026-01-31 12:34:56` UTC.
pub fn utc(unix_ms: u64) -> String {
    let seconds = unix_ms / 1000;
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = civil(days);
    let (hour, minute, second) = (rest / 3600, rest / 60 % 60, rest % 60);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}")
}

/// The date that is so many days after 1970-01-01 (Howard Hinnant, "chrono-compatible low-level date algorithms").
fn civil(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468;
    let era = shifted / 146_097;
    let day_of_era = shifted % 146_097;
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    (year_of_era + era * 400 + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let text = table(&["vm", "cpu"], &[vec!["vm-1".into(), "1".into()], vec!["x".into(), "2000".into()]]);
        assert_eq!(text, "VM    CPU\nvm-1  1\nx     2000\n");
    }

    #[test]
    fn a_cell_stays_on_its_line() {
        let text = table(&["a"], &[vec!["x\ny".repeat(60)]]);
        assert_eq!(text.lines().count(), 2);
        assert!(text.lines().all(|line| line.chars().count() <= 60));
    }

    #[test]
    fn dates_are_right_around_a_leap_day() {
        assert_eq!(utc(0), "1970-01-01 00:00:00");
        assert_eq!(utc(951_782_400_000), "2000-02-29 00:00:00");
        assert_eq!(utc(1_709_251_199_000), "2024-02-29 23:59:59");
        assert_eq!(utc(1_709_251_200_000), "2024-03-01 00:00:00");
    }
}
