//! `CREATE TABLE ... USING ...`: which file, in which form, becomes the table, and whether it takes INSERT.
//!
//! | USING | options besides `path` | INSERT |
//! |---|---|---|
//! | `csv`, `tsv` | `delimiter` | yes: a file with the rows behind takes the old one's place |
//! | `json` | `format`: `json_lines` or `json_array` (by content if not given) | as csv, into JSON lines |
//! | `line` | `mode`, `split_delimiter`, `regex_pattern`, `mappings`, `skip_empty_lines` | no |
//! | `parquet` | | into a folder: each INSERT is one more file in it |
//! | `arrow` | | no |
//!
//! With declared columns, the path of a table that takes INSERT may be of a file that is not there yet: the first INSERT makes
//! it, and before that the table cannot be read.

use std::path::Path;
use std::sync::Arc;

use datafusion::catalog::TableProvider;
use vexact_core::error::Result;

use super::create::CreateTable;
use super::csv::{self, CsvFile};
use super::insert::{Encoding, TextSink};
use super::ipc;
use super::json::{JsonFile, JsonFormat};
use super::line::{LineColumn, LineField, LineFile, LineMode, parse_mappings};
use super::parquet::{ParquetFile, has_refused_name};
use super::parquet_table::ParquetTable;
use super::probe::{Format, detect};
use super::scan::{FileTable, Records};

const KNOWN: &str = "csv, tsv, json, line, parquet, arrow";

/// The table that a statement describes.
///
/// # Errors
/// An unknown format or option, a missing path or file, declared columns that are not those of the file.
pub async fn open(create: &CreateTable) -> Result<Arc<dyn TableProvider>> {
    match create.format.as_str() {
        "csv" => csv(create, ','),
        "tsv" => csv(create, '\t'),
        "json" | "jsonl" | "ndjson" => json(create),
        "line" => line(create),
        "parquet" => parquet(create),
        "arrow" | "ipc" => arrow(create),
        other => Err(create.refusal(&format!("unknown format {other:?}: expected one of {KNOWN}"))),
    }
}

fn csv(create: &CreateTable, delimiter: char) -> Result<Arc<dyn TableProvider>> {
    create.check_options(&["path", "delimiter"])?;
    let path = Path::new(create.required("path")?);
    let delimiter = create.character("delimiter", delimiter)?;
    let file = match create.schema() {
        Some(schema) => CsvFile::declared(path, delimiter, &schema)?,
        None => CsvFile::infer(path, delimiter)?,
    };
    let encoding = Encoding::Csv { delimiter: csv::delimiter_byte(delimiter)? };
    Ok(text_table(path, encoding, Arc::new(file)))
}

fn json(create: &CreateTable) -> Result<Arc<dyn TableProvider>> {
    create.check_options(&["path", "format"])?;
    let path = Path::new(create.required("path")?);
    let format = match create.option("format") {
        Some(name) => name.parse()?,
        None => match path.exists().then(|| detect(path)).transpose()? {
            Some(Format::Json(format)) => format,
            _ => JsonFormat::Lines,
        },
    };
    let file = match create.schema() {
        Some(schema) => JsonFile::declared(path, format, &schema)?,
        None => JsonFile::infer(path, format)?.with_vectors()?,
    };
    Ok(match format {
        JsonFormat::Lines => text_table(path, Encoding::JsonLines, Arc::new(file)),
        JsonFormat::Array => {
            FileTable::read_only(Arc::new(file), "a JSON array ends with its bracket: expected format json_lines")
        }
    })
}

fn text_table(path: &Path, encoding: Encoding, records: Arc<dyn Records>) -> Arc<dyn TableProvider> {
    let sink = TextSink { path: path.into(), schema: Arc::clone(records.schema()), encoding };
    FileTable::with_sink(records, Arc::new(sink))
}

fn line(create: &CreateTable) -> Result<Arc<dyn TableProvider>> {
    create.check_options(&["path", "mode", "split_delimiter", "regex_pattern", "mappings", "skip_empty_lines"])?;
    let path = Path::new(create.required("path")?);
    let pattern = create.option("regex_pattern").unwrap_or_default();
    let by_pattern = if pattern.is_empty() { "split" } else { "regex" };
    let delimiter = create.option("split_delimiter").unwrap_or(",").replace("\\t", "\t");
    let mode = LineMode::new(create.option("mode").unwrap_or(by_pattern), &delimiter, pattern)?;
    let columns = match (create.option("mappings"), create.columns.as_slice()) {
        (Some(mappings), []) => parse_mappings(mappings)?,
        (None, []) => Vec::new(),
        (None, declared) => declared_columns(&mode, declared),
        (Some(mappings), declared) => {
            let mut columns = parse_mappings(mappings)?;
            let names: Vec<&str> = columns.iter().map(|column| column.name.as_str()).collect();
            let expected: Vec<&str> = declared.iter().map(|(name, _)| name.as_str()).collect();
            if names != expected || columns.iter().any(|column| column.data_type.is_some()) {
                let (names, expected) = (names.join(", "), expected.join(", "));
                let problem =
                    format!("expected name:field for each of the declared columns [{expected}], got [{names}]");
                return Err(create.refusal(&format!("option mappings: {problem}")));
            }
            for (column, (_, data_type)) in columns.iter_mut().zip(declared) {
                column.data_type = Some(data_type.clone());
            }
            columns
        }
    };
    let file = LineFile::open(path, columns, mode, create.flag("skip_empty_lines", true)?)?;
    file.check()?;
    Ok(FileTable::read_only(Arc::new(file), "USING line says how lines are read, and not how they are written"))
}

/// Declared columns are the fields in their order; groups of their names, or the groups in their order.
fn declared_columns(mode: &LineMode, declared: &[(String, arrow::datatypes::DataType)]) -> Vec<LineColumn> {
    let field = |place: usize, name: &str| match mode {
        LineMode::Split(_) => LineField::Index(place),
        LineMode::Regex(regex) if regex.capture_names().flatten().any(|group| group == name) => {
            LineField::Group(name.into())
        }
        LineMode::Regex(_) => LineField::Index(place + 1),
    };
    let column = |(place, (name, data_type)): (usize, &(String, arrow::datatypes::DataType))| LineColumn {
        name: name.clone(),
        field: field(place, name),
        data_type: Some(data_type.clone()),
    };
    declared.iter().enumerate().map(column).collect()
}

fn parquet(create: &CreateTable) -> Result<Arc<dyn TableProvider>> {
    create.check_options(&["path"])?;
    let written = create.required("path")?;
    let path = Path::new(written);
    let schema = create.schema();
    let is_folder = path.is_dir() || !path.exists() && schema.is_some() && !written.ends_with(".parquet");
    if is_folder {
        return Ok(Arc::new(ParquetTable::of_folder(path, schema)?));
    }
    let table = ParquetTable::of_file(path, schema.as_ref())?;
    Ok(match has_refused_name(path) {
        true => FileTable::read_only(Arc::new(ParquetFile::open(path)?), "a Parquet file is whole"),
        false => Arc::new(table),
    })
}

fn arrow(create: &CreateTable) -> Result<Arc<dyn TableProvider>> {
    create.check_options(&["path"])?;
    let file = ipc::IpcFile::open(Path::new(create.required("path")?))?;
    if let Some(schema) = create.schema() {
        super::scan::check_columns(file.path(), &schema, file.schema())?;
    }
    Ok(FileTable::read_only(Arc::new(file), "an Arrow file is whole: expected csv, JSON lines or a folder of parquet"))
}
