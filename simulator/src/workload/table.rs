//! Reading tables of others: CSV, plain or compressed.
//!
//! **Knows:** a path.
//! **Promises:** what cannot be used is refused with file, line, and what to do about it; nothing is guessed or skipped.
//! **Gives up:** repairing.

use std::fmt;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

use csv::{ErrorKind, StringRecord};

/// Why a trace is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TraceError {
    /// Which file.
    pub file: PathBuf,
    /// Which line, where it is one.
    pub line: Option<u64>,
    /// What is wrong with it.
    pub what: String,
    /// What to do.
    pub advice: String,
}

impl fmt::Display for TraceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        if let Some(line) = self.line {
            write!(f, ", line {line}")?;
        }
        write!(f, ": {}; {}", self.what, self.advice)
    }
}

impl std::error::Error for TraceError {}

impl TraceError {
    pub(crate) fn of_file(file: &Path, what: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { file: file.to_owned(), line: None, what: what.into(), advice: advice.into() }
    }
}

/// An open table, read row by row.
pub(crate) struct Table {
    file: PathBuf,
    columns: StringRecord,
    reader: csv::Reader<Box<dyn Read>>,
    row: StringRecord,
    rows: u64,
}

impl Table {
    /// Opens one and reads its header. Compression is recognised by its first bytes.
    pub fn open(file: &Path) -> Result<Self, TraceError> {
        let cannot = |error: std::io::Error| {
            TraceError::of_file(
                file,
                format!("cannot be read ({error})"),
                "check the path and its permissions",
            )
        };
        let mut opened = File::open(file).map_err(cannot)?;
        let mut start = Vec::new();
        opened.by_ref().take(2).read_to_end(&mut start).map_err(cannot)?;
        let compressed = start == [0x1f, 0x8b];
        if !compressed && file.extension().is_some_and(|ending| ending == "gz") {
            let what = "is named .gz and is not compressed with gzip";
            return Err(TraceError::of_file(file, what, "fetch it again, or take the .gz from its name"));
        }
        let whole = BufReader::with_capacity(1 << 16, std::io::Cursor::new(start).chain(opened));
        let text: Box<dyn Read> =
            if compressed { Box::new(flate2::read::MultiGzDecoder::new(whole)) } else { Box::new(whole) };
        let mut reader = csv::ReaderBuilder::new().from_reader(text);
        let columns = match reader.headers() {
            Ok(columns) => columns.clone(),
            Err(error) => return Err(refused(file, Some(1), &error)),
        };
        if columns.is_empty() {
            return Err(TraceError::of_file(
                file,
                "is empty",
                "fetch it again; the first line names the columns",
            ));
        }
        Ok(Self { file: file.to_owned(), columns, reader, row: StringRecord::new(), rows: 0 })
    }

    /// The column with one of these names.
    pub fn column(&self, names: &[&str]) -> Result<usize, TraceError> {
        self.optional(names).ok_or_else(|| TraceError {
            file: self.file.clone(),
            line: Some(1),
            what: format!("there is no column '{}'", names.join("' or '")),
            advice: format!("the columns are {}; name one so", shown(self.columns.iter())),
        })
    }

    /// The column with one of these names, if there is one.
    pub fn optional(&self, names: &[&str]) -> Option<usize> {
        self.columns.iter().position(|column| names.contains(&column.trim_start_matches('\u{feff}').trim()))
    }

    /// Columns whose name is a number, in their order: (number, column).
    pub fn numbered(&self) -> Vec<(u32, usize)> {
        self.columns
            .iter()
            .enumerate()
            .filter_map(|(at, name)| Some((name.trim().parse().ok()?, at)))
            .collect()
    }

    /// Columns whose name begins so: (name, column).
    pub fn beginning_with(&self, beginning: &str) -> Vec<(String, usize)> {
        let named = self.columns.iter().enumerate().filter(|(_, name)| name.starts_with(beginning));
        named.map(|(at, name)| (name.to_owned(), at)).collect()
    }

    /// The next row, until there is none.
    pub fn next_row(&mut self) -> Result<Option<Row<'_>>, TraceError> {
        match self.reader.read_record(&mut self.row) {
            Ok(true) => {
                self.rows += 1;
                let line = self.row.position().map_or(0, csv::Position::line);
                Ok(Some(Row { file: &self.file, columns: &self.columns, row: &self.row, line }))
            }
            Ok(false) if self.rows == 0 => {
                let what = "has a header and no rows";
                Err(TraceError::of_file(&self.file, what, "fetch it again, or leave it out"))
            }
            Ok(false) => Ok(None),
            Err(error) => {
                let line = self.reader.position().line();
                Err(refused(&self.file, Some(line), &error))
            }
        }
    }
}

fn refused(file: &Path, line: Option<u64>, error: &csv::Error) -> TraceError {
    let line = error.position().map(csv::Position::line).or(line);
    let (what, advice) = match error.kind() {
        ErrorKind::Utf8 { err, .. } => (
            format!("field {} is not UTF-8", err.field() + 1),
            "convert it, for instance with 'iconv -f latin1 -t utf8'".to_owned(),
        ),
        ErrorKind::UnequalLengths { expected_len, len, .. } => (
            format!("the row has {len} fields and the header {expected_len}"),
            "look for a cut line, or a comma in a field without quotes".to_owned(),
        ),
        ErrorKind::Io(error) => (
            format!("reading broke off ({error})"),
            "the file is damaged or incomplete: fetch it again".to_owned(),
        ),
        _ => (error.to_string(), "write it as comma-separated values with a header".to_owned()),
    };
    TraceError { file: file.to_owned(), line, what, advice }
}

fn shown<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let names: Vec<&str> = names.collect();
    match names.get(..12) {
        Some(first) if names.len() > 13 => format!("{} and {} more", first.join(", "), names.len() - 12),
        _ => names.join(", "),
    }
}

/// One row of a table.
pub(crate) struct Row<'a> {
    file: &'a Path,
    columns: &'a StringRecord,
    row: &'a StringRecord,
    line: u64,
}

impl Row<'_> {
    /// What stands in a column.
    pub fn text(&self, column: usize) -> &str {
        self.row.get(column).unwrap_or_default().trim()
    }

    /// A name: text that is not empty.
    pub fn name(&self, column: usize) -> Result<&str, TraceError> {
        match self.text(column) {
            "" => Err(self.refused(column, "is empty", "every row needs one")),
            name => Ok(name),
        }
    }

    /// A finite number of either sign.
    pub fn signed(&self, column: usize) -> Result<f64, TraceError> {
        match self.text(column).parse::<f64>() {
            Ok(number) if number.is_finite() => Ok(number),
            _ => Err(self.refused(column, "is not a number", "it should be a finite decimal number")),
        }
    }

    /// A finite number that is not negative.
    pub fn number(&self, column: usize) -> Result<f64, TraceError> {
        let number = self.signed(column)?;
        if number < 0.0 {
            return Err(self.refused(column, "is negative", "it should be 0 or more"));
        }
        Ok(number)
    }

    /// A whole number that is not negative.
    pub fn whole(&self, column: usize) -> Result<u32, TraceError> {
        let number = self.number(column)?;
        if number.fract() == 0.0 && number <= f64::from(u32::MAX) {
            return Ok(number as u32);
        }
        Err(self.refused(column, "is not a whole number", "it should be a count below 2^32"))
    }

    /// This row cannot be used because of this column.
    pub fn refused(&self, column: usize, what: &str, advice: &str) -> TraceError {
        let name = self.columns.get(column).unwrap_or_default();
        let value: String = self.text(column).chars().take(40).collect();
        self.wrong(format!("{name} '{value}' {what}"), advice)
    }

    /// This row cannot be used.
    pub fn wrong(&self, what: impl Into<String>, advice: impl Into<String>) -> TraceError {
        TraceError {
            file: self.file.to_owned(),
            line: Some(self.line),
            what: what.into(),
            advice: advice.into(),
        }
    }
}
