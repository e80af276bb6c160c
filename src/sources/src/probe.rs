//! Detects the format of a file by its content and its name: each possible format, with a score.

use std::io::Read;
use std::path::{Path, PathBuf};

use arrow::datatypes::SchemaRef;
use serde::de::IgnoredAny;
use vexact_core::error::Result;

use super::csv::{CsvFile, CsvOptions};
use super::input::Input;
use super::json::{JsonFile, JsonFormat};
use super::scan::Records;
use super::{csv, describe, ipc, parquet};

/// Number of bytes of a file that are inspected.
const SAMPLE_BYTES: u64 = 1 << 16;
/// Delimiters that are tried, in this order, if a header line has no comma.
const DELIMITERS: [char; 4] = [',', '\t', ';', '|'];

/// A form of file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Apache Parquet.
    Parquet,
    /// Arrow IPC, the file or the stream format.
    Arrow {
        /// True for the stream format.
        is_stream: bool,
    },
    /// An Excel sheet, which is read in Python.
    Excel,
    /// Delimited text with a header line.
    Csv(char),
    /// JSON.
    Json(JsonFormat),
    /// Lines of text.
    Line,
}

impl Format {
    /// Returns the format family: parquet, arrow, excel, csv, json or line.
    pub fn kind(self) -> &'static str {
        match self {
            Self::Parquet => "parquet",
            Self::Arrow { .. } => "arrow",
            Self::Excel => "excel",
            Self::Csv(_) => "csv",
            Self::Json(_) => "json",
            Self::Line => "line",
        }
    }

    /// Returns the format within its family.
    pub fn name(self) -> &'static str {
        match self {
            Self::Arrow { is_stream: false } => "arrow_file",
            Self::Arrow { is_stream: true } => "arrow_stream",
            Self::Excel => "xlsx",
            Self::Csv('\t') => "tsv",
            Self::Json(JsonFormat::Lines) => "json_lines",
            Self::Json(JsonFormat::Array) => "json_array",
            other => other.kind(),
        }
    }
}

/// A possible format of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// The format.
    pub format: Format,
    /// Score from 1 to 100.
    pub score: u8,
    /// Evidence for the format.
    pub reason: String,
}

/// Result of probing a file.
#[derive(Debug, Clone)]
pub struct Probe {
    /// Path as it was given.
    pub path: PathBuf,
    /// The columns, if the file can be read in the format of the first candidate.
    pub schema: Option<SchemaRef>,
    /// Table name that is derived from the file's name.
    pub suggested_table_name: String,
    /// Unusual properties of the file.
    pub warnings: Vec<String>,
    /// Possible formats, best first; empty if no known format can read the file.
    pub candidates: Vec<Candidate>,
}

impl Probe {
    /// Returns `high` for a score of at least 85, `medium` for at least 50, `low` below, or `none`
    /// if there is no candidate.
    pub fn confidence(&self) -> &'static str {
        match self.candidates.first().map(|best| best.score) {
            Some(85..) => "high",
            Some(50..) => "medium",
            Some(_) => "low",
            None => "none",
        }
    }
}

/// Probes a file. Unusual properties are warnings, not errors.
///
/// # Errors
/// A missing or unreadable file.
pub fn probe(input: &Input) -> Result<Probe> {
    let path = input.path();
    let (candidates, mut warnings) = candidates(input)?;
    let schema = candidates.first().and_then(|best| match schema(input, best.format) {
        Ok(schema) => schema,
        Err(error) => {
            warnings.push(error.to_string());
            None
        }
    });
    Ok(Probe { path: path.into(), schema, suggested_table_name: table_name(path), warnings, candidates })
}

/// Returns the format in which to read a file.
///
/// # Errors
/// A missing or unreadable file, or one of an unknown format.
pub fn detect(input: &Input) -> Result<Format> {
    let (candidates, warnings) = candidates(input)?;
    candidates.first().map(|best| best.format).ok_or_else(|| {
        let expected = "expected Parquet, Arrow IPC, Excel, CSV, JSON or lines of text";
        super::bad_file(input.path(), &format!("{expected}, got another file ({})", warnings.join("; ")))
    })
}

fn schema(input: &Input, format: Format) -> Result<Option<SchemaRef>> {
    let inputs = vec![input.clone()];
    let records: Box<dyn Records> = match format {
        Format::Parquet => Box::new(parquet::ParquetFile::open(input)?),
        Format::Arrow { .. } => Box::new(ipc::IpcFile::open(input)?),
        Format::Csv(delimiter) => Box::new(CsvFile::infer(inputs, CsvOptions::delimited(delimiter)?)?),
        Format::Json(format) => Box::new(JsonFile::infer_by_first(input, format)?),
        Format::Excel | Format::Line => return Ok(None),
    };
    Ok(Some(SchemaRef::clone(records.schema())))
}

/// Returns a name that SQL accepts without quotes.
pub(crate) fn table_name(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
    let plain = [".gz", ".gzip", ".zst", ".zstd"].iter().find_map(|suffix| name.strip_suffix(suffix)).unwrap_or(&name);
    let stem = Path::new(plain).file_stem().unwrap_or_default().to_string_lossy();
    let name: String = stem.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
    match name.trim_matches('_') {
        "" => "table_1".into(),
        name if name.starts_with(|c: char| c.is_ascii_digit()) => format!("t_{name}"),
        name => name.into(),
    }
}

/// Returns, per thousand rows, the number of rows with as many cells as the first; 0 if the first
/// has only one cell.
fn share_as_first(rows: &[usize]) -> usize {
    match rows.first() {
        Some(width) if *width > 1 => 1000 * rows.iter().filter(|cells| *cells == width).count() / rows.len(),
        _ => 0,
    }
}

/// Returns a file's suffix in lower case, without that of its compression.
pub(crate) fn extension(path: &Path) -> String {
    let suffix = |path: &Path| path.extension().and_then(|suffix| suffix.to_str()).unwrap_or_default().to_lowercase();
    match suffix(path).as_str() {
        "gz" | "gzip" | "zst" | "zstd" => path.file_stem().map(|stem| suffix(Path::new(stem))).unwrap_or_default(),
        other => other.to_owned(),
    }
}

/// Returns the possible formats of a file, best first, and its unusual properties.
fn candidates(input: &Input) -> Result<(Vec<Candidate>, Vec<String>)> {
    let mut bytes = Vec::new();
    let read = input.decompressed()?.take(SAMPLE_BYTES + 1).read_to_end(&mut bytes);
    read.map_err(|error| input.failed(error))?;
    let is_whole = bytes.len() as u64 <= SAMPLE_BYTES;
    bytes.truncate(SAMPLE_BYTES as usize);
    let sample = Sample { is_whole, extension: extension(input.path()), bytes };
    let mut warnings = Vec::new();
    let mut candidates = sample.binary();
    if candidates.is_empty() {
        candidates = sample.text(&mut warnings);
    }
    // A name alone is better than nothing: reading the file reports what is wrong with it.
    if let Some(named) =
        sample.named().filter(|named| candidates.iter().all(|known| known.format.kind() != named.kind()))
    {
        let extension = &sample.extension;
        if candidates.iter().all(|known| known.score < 90) {
            warnings.push(format!("the name ends in .{extension}, the content is not of that form"));
            // Text under the name of a binary format is a damaged file of that format, unless it
            // clearly is another one.
            let score = if matches!(named, Format::Parquet | Format::Arrow { .. } | Format::Excel) { 60 } else { 10 };
            candidates.push(Candidate { format: named, score, reason: format!("the name ends in .{extension}") });
        }
    }
    candidates.sort_by_key(|candidate| std::cmp::Reverse(candidate.score));
    Ok((candidates, warnings))
}

/// The beginning of a file.
struct Sample {
    bytes: Vec<u8>,
    is_whole: bool,
    extension: String,
}

impl Sample {
    fn named(&self) -> Option<Format> {
        Some(match self.extension.as_str() {
            "parquet" | "pq" => Format::Parquet,
            "arrow" | "feather" | "ipc" => Format::Arrow { is_stream: false },
            "arrows" => Format::Arrow { is_stream: true },
            "xlsx" | "xlsm" => Format::Excel,
            "csv" => Format::Csv(','),
            "tsv" => Format::Csv('\t'),
            "json" | "jsonl" | "ndjson" => Format::Json(JsonFormat::Lines),
            "log" => Format::Line,
            _ => return None,
        })
    }

    /// Returns the points for a name that matches the format.
    fn bonus(&self, format: Format, points: u8) -> u8 {
        if self.named().is_some_and(|named| named.kind() == format.kind()) { points } else { 0 }
    }

    fn binary(&self) -> Vec<Candidate> {
        let found = |format, score, reason: &str| vec![Candidate { format, score, reason: reason.into() }];
        let bytes = self.bytes.as_slice();
        if bytes.starts_with(b"PAR1") {
            return found(Format::Parquet, 100, "begins as Parquet does");
        }
        if bytes.starts_with(ipc::MAGIC) {
            return found(Format::Arrow { is_stream: false }, 100, "begins as an Arrow file does");
        }
        if bytes.starts_with(&ipc::CONTINUATION) {
            let format = Format::Arrow { is_stream: true };
            return found(format, 90 + self.bonus(format, 10), "begins as an Arrow stream does");
        }
        if bytes.starts_with(b"PK\x03\x04") {
            let has_sheet = bytes.windows(3).any(|name| name == b"xl/");
            let score = if has_sheet { 90 } else { 0 } + self.bonus(Format::Excel, 10);
            if score > 0 {
                return found(Format::Excel, score, "an archive as Excel writes it");
            }
        }
        Vec::new()
    }

    fn text(&self, warnings: &mut Vec<String>) -> Vec<Candidate> {
        let bytes = self.bytes.strip_prefix("\u{feff}".as_bytes()).unwrap_or(&self.bytes);
        if bytes.trim_ascii().is_empty() {
            warnings.push(if bytes.is_empty() { "the file is empty".into() } else { "the file is white space".into() });
            return self.blank();
        }
        // A sample may end within a character.
        let text = match str::from_utf8(bytes) {
            Ok(text) => text,
            Err(error) if !self.is_whole && bytes.len() - error.valid_up_to() < 4 => {
                str::from_utf8(&bytes[..error.valid_up_to()]).unwrap_or_default()
            }
            Err(error) => {
                let at = error.valid_up_to();
                warnings.push(format!("the content is not text in UTF-8: byte {at} is 0x{:02x}", bytes[at]));
                return Vec::new();
            }
        };
        if text.contains('\0') {
            warnings.push("the content is not text: it has bytes of 0".into());
            return Vec::new();
        }
        let text = if self.is_whole { text } else { text.rsplit_once('\n').map_or(text, |(whole, _)| whole) };
        let json = self.json(text, warnings);
        json.into_iter().chain([self.csv(text, warnings), self.line(text)]).collect()
    }

    /// Returns the candidates for a file without content.
    fn blank(&self) -> Vec<Candidate> {
        let format = self.named().unwrap_or(Format::Csv(','));
        vec![Candidate { format, score: 10, reason: "by its name alone".into() }]
    }

    fn json(&self, text: &str, warnings: &mut Vec<String>) -> Option<Candidate> {
        let format = match text.trim_start().as_bytes().first()? {
            b'{' => Format::Json(JsonFormat::Lines),
            b'[' => Format::Json(JsonFormat::Array),
            _ => return None,
        };
        let points = self.bonus(format, 10);
        if format == Format::Json(JsonFormat::Array) {
            let inner = text.trim_start()[1..].trim_start();
            let is_of_objects = inner.starts_with(['{', ']']) || serde_json::from_str::<IgnoredAny>(text).is_ok();
            // A line that begins with a vector or a date in brackets is not JSON.
            let score = if is_of_objects { 90 } else { 30 };
            return Some(Candidate { format, score: score + points, reason: "begins with '['".into() });
        }
        if self.is_printed(text) {
            return Some(Candidate { format, score: 90 + points, reason: "an object over several lines".into() });
        }
        let mut lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
        let is_object = |line: &str| matches!(serde_json::from_str(line), Ok(serde_json::Value::Object(_)));
        let (mut good, mut all) = (0_usize, 0_usize);
        let mut first_bad = None;
        for (number, line) in lines.by_ref().take(100) {
            all += 1;
            match is_object(line) {
                true => good += 1,
                false => first_bad = first_bad.or(Some(number + 1)),
            }
        }
        if let Some(line) = first_bad {
            warnings.push(format!("line {line} is no JSON object"));
        }
        let score = (40 + 50 * good / all.max(1)) as u8;
        Some(Candidate {
            format,
            score: score + points,
            reason: format!("{good} of the first {all} lines are objects"),
        })
    }

    /// Returns true if a text begins with an object that spans several lines.
    fn is_printed(&self, text: &str) -> bool {
        let first_line = text.trim_start().lines().next().unwrap_or_default();
        if !matches!(first_line.trim_end().bytes().last(), Some(b'{' | b'[' | b',' | b':')) {
            return false;
        }
        match serde_json::Deserializer::from_str(text).into_iter::<IgnoredAny>().next() {
            Some(Ok(_)) => true,
            Some(Err(error)) => error.is_eof() && !self.is_whole,
            None => false,
        }
    }

    fn csv(&self, text: &str, warnings: &mut Vec<String>) -> Candidate {
        let cells = |delimiter: char| -> Vec<usize> {
            let mut reader = csv::reader(delimiter as u8);
            let reader = reader.has_headers(false).from_reader(text.as_bytes());
            let mut rows: Vec<usize> =
                reader.into_byte_records().take(100).map_while(Result::ok).map(|row| row.len()).collect();
            // The sample may end within quotes.
            if !self.is_whole && rows.len() > 1 && rows.len() < 100 {
                rows.pop();
            }
            rows
        };
        let first = if self.extension == "tsv" { '\t' } else { ',' };
        let tried = [first].into_iter().chain(DELIMITERS.into_iter().filter(|delimiter| *delimiter != first));
        // The best delimiter splits the most rows into as many cells as the first row; ties go to
        // the first delimiter.
        let found = tried.map(|delimiter| (delimiter, cells(delimiter))).rev();
        let found = found.max_by_key(|(_, rows)| share_as_first(rows)).filter(|(_, rows)| share_as_first(rows) > 0);
        let (delimiter, rows) = found.unwrap_or_else(|| (first, cells(first)));
        let format = Format::Csv(delimiter);
        let width = rows.first().copied().unwrap_or_default();
        let same = rows.iter().filter(|cells| **cells == width).count();
        let is_ragged = same < rows.len();
        let score = match width {
            0 | 1 => 35,
            _ if is_ragged => 45,
            _ if rows.len() == 1 => 60,
            _ => 85,
        };
        let bonus = self.bonus(format, if width > 1 { 10 } else { 50 });
        if is_ragged && bonus > 0 {
            let line = rows.iter().position(|cells| *cells != width).unwrap_or_default() + 1;
            warnings.push(format!("row {line} has {} cells, the header line has {width}", rows[line - 1]));
        }
        let shown = describe::shown(delimiter.to_string().as_bytes());
        let reason = format!("{same} of the first {} rows have {width} cells between {shown}", rows.len());
        Candidate { format, score: score + bonus, reason }
    }

    fn line(&self, text: &str) -> Candidate {
        let score = 30 + self.bonus(Format::Line, 60) + u8::from(self.extension == "txt") * 10;
        Candidate { format: Format::Line, score, reason: format!("{} lines of text", text.lines().count()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn probed(name: &str, content: &[u8]) -> Probe {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        std::fs::write(&path, content).unwrap();
        let mut probe = probe(&Input::open(&path).unwrap()).unwrap();
        probe.warnings.iter_mut().for_each(|warning| *warning = warning.replace(path.to_str().unwrap(), name));
        probe
    }

    #[test]
    fn the_first_candidate_is_what_the_file_is() {
        let long = format!("id,text\n{}", "1,ü\n".repeat(30_000));
        for (name, content, expected, confidence) in [
            ("a.csv", "id,n\n1,2\n", "csv", "high"),
            ("plain", "id,n\n1,2\n", "csv", "high"),
            ("one.csv", "id\n1\n", "csv", "high"),
            ("a.txt", "id;n\n1;2\n", "csv", "high"),
            ("a.tsv", "id\tn,m\n1\t2\n", "tsv", "high"),
            ("long.csv", long.as_str(), "csv", "high"),
            ("ragged.csv", "id,n\n1,2\n3\n", "csv", "medium"),
            ("lines", "{\"id\": 1}\n", "json_lines", "high"),
            ("array.json", " [{\"id\": 1}]", "json_array", "high"),
            ("a.log", "10:00 hello\n10:01 bye, all\n", "line", "high"),
            ("words.txt", "hello\nworld\n", "line", "low"),
            ("empty.csv", "", "csv", "low"),
            ("empty.parquet", "", "parquet", "low"),
            ("no.parquet", "hello this is not parquet\n", "parquet", "medium"),
            ("table.parquet", "a,b\n1,2\n", "csv", "high"),
        ] {
            let probe = probed(name, content.as_bytes());
            let got = probe.candidates.first().map(|best| best.format.name());
            assert_eq!((got, probe.confidence()), (Some(expected), confidence), "{name}: {probe:?}");
        }
    }

    #[test]
    fn oddities_are_warnings() {
        for (name, content, expected) in [
            ("ragged.csv", &b"id,n\n1,2\n3\n"[..], "row 3 has 1 cells, the header line has 2"),
            ("bytes.bin", b"\xff\xfe\x00", "the content is not text in UTF-8: byte 0 is 0xff"),
            ("zero", b"a\0b", "the content is not text: it has bytes of 0"),
            ("bad.jsonl", b"{\"a\": 1}\n{\n", "line 2 is no JSON object"),
            ("empty.csv", b"", "the file is empty"),
            ("text.parquet", b"a,b\n1,2\n3,4\n", "the name ends in .parquet, the content is not of that form"),
            ("half.arrow", b"ARROW1\0\0", "half.arrow: "),
        ] {
            let probe = probed(name, content);
            assert!(probe.warnings.iter().any(|warning| warning.contains(expected)), "{name}: {probe:?}");
        }
        assert!(probed("bytes.bin", b"\xff\xfe\x00").candidates.is_empty());
    }

    #[test]
    fn a_table_is_named_after_its_file() {
        for (name, expected) in [("My File (2).csv", "my_file__2"), ("2024.csv", "t_2024"), ("é.csv", "table_1")] {
            assert_eq!(probed(name, b"a,b\n1,2\n").suggested_table_name, expected);
        }
    }
}
