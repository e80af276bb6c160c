//! `CREATE TABLE ... USING ...`: chooses the file and its format, and decides if the table accepts
//! INSERT.
//!
//! | USING | options besides `path` | INSERT |
//! |---|---|---|
//! | `csv`, `tsv` | `delimiter`, `header`, `null_values`, `quote`, `escape`, `comment`, `skip_rows`, `encoding`, `decimal` | yes, with only `delimiter`: a file with the rows appended takes the old one's place |
//! | `json` | `format`: `json_lines` or `json_array` (by content if not given) | as csv, into JSON lines |
//! | `line` | `mode`, `split_delimiter`, `regex_pattern`, `mappings`, `skip_empty_lines` | no |
//! | `parquet` | | into a folder: each INSERT adds a file to it |
//! | `arrow` | | no |
//!
//! The path may be a URL of an object store: then Parquet is read in place, INSERT into a folder adds
//! an object, and files of other formats are downloaded when the table is made. Folders `name=value`
//! of Parquet files are columns.
//!
//! With declared columns, the path of a table that accepts INSERT need not exist yet: the first
//! INSERT creates the file, and before that the table cannot be read.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use datafusion::catalog::TableProvider;
use vexact_core::error::Result;

use super::create::CreateTable;
use super::csv::{CsvFile, CsvOptions};
use super::download;
use super::input::{Input, local_path};
use super::inputs::{PARQUET, Paths, has_suffix, is_pattern};
use super::insert::{Encoding, TextSink};
use super::ipc;
use super::json::{JsonFile, JsonFormat};
use super::line_columns::{LineColumn, LineField, LineMode, parse_mappings};
use super::line_file::LineFile;
use super::object_stores::{ObjectStores, is_remote};
use super::parquet::{ParquetFile, has_refused_name, is_partitioned};
use super::parquet_dataset::{Declared, ParquetDataset};
use super::parquet_table::ParquetTable;
use super::probe::{Format, detect};
use super::scan::{FileTable, Records, check_columns};

const KNOWN: &str = "csv, tsv, json, line, parquet, arrow";

/// Opens the table that a statement describes.
///
/// # Errors
/// An unknown format or option, a missing path or file, declared columns that are not those of the
/// file.
pub async fn open(stores: &Arc<ObjectStores>, create: &CreateTable) -> Result<Arc<dyn TableProvider>> {
    match create.format.as_str() {
        "csv" => csv(create, ',', remote(stores, create, Format::Csv(',')).await?),
        "tsv" => csv(create, '\t', remote(stores, create, Format::Csv('\t')).await?),
        "json" | "jsonl" | "ndjson" => json(create, remote(stores, create, Format::Json(JsonFormat::Lines)).await?),
        "line" => line(create, remote(stores, create, Format::Line).await?),
        "parquet" => parquet(stores, create).await,
        "arrow" | "ipc" => arrow(create, remote(stores, create, Format::Arrow { is_stream: false }).await?),
        other => Err(create.refusal(&format!("unknown format {other:?}: expected one of {KNOWN}"))),
    }
}

/// Returns the files of a path in an object store, downloaded; `None` for a path of this machine.
async fn remote(stores: &Arc<ObjectStores>, create: &CreateTable, format: Format) -> Result<Option<Vec<Input>>> {
    match create.option("path") {
        Some(path) if is_remote(path) => download::inputs(stores, Paths::from(path), format).await.map(Some),
        _ => Ok(None),
    }
}

fn csv(create: &CreateTable, delimiter: char, remote: Option<Vec<Input>>) -> Result<Arc<dyn TableProvider>> {
    const OPTIONS: [&str; 10] = [
        "path",
        "delimiter",
        "header",
        "null_values",
        "quote",
        "escape",
        "comment",
        "skip_rows",
        "encoding",
        "decimal",
    ];
    create.check_options(&OPTIONS)?;
    let plain = CsvOptions::delimited(create.character("delimiter", delimiter)?)?;
    let mut options = plain.clone();
    let byte = |key: &str, default: Option<u8>| match create.option(key) {
        None => Ok(default),
        Some("") => Ok(None),
        Some(_) => {
            let character = create.character(key, '"')?;
            let byte = u8::try_from(character).ok().filter(u8::is_ascii);
            byte.map(Some).ok_or_else(|| create.refusal(&format!("option {key}: expected an ASCII character")))
        }
    };
    options.has_header = create.flag("header", true)?;
    options.dialect.quote = byte("quote", options.dialect.quote)?;
    options.dialect.escape = byte("escape", None)?;
    options.dialect.comment = byte("comment", None)?;
    options.rules.decimal = byte("decimal", Some(b'.'))?.unwrap_or(b'.');
    if let Some(texts) = create.option("null_values") {
        options.rules.null_values = texts.split(',').map(|text| text.trim().to_owned()).collect();
    }
    if let Some(number) = create.option("skip_rows") {
        let refused = || create.refusal(&format!("option skip_rows: expected a whole number, got {number:?}"));
        options.skip_rows = number.parse().map_err(|_| refused())?;
    }
    if let Some(name) = create.option("encoding") {
        options.encoding = name.parse()?;
    }
    let is_plain = options == plain;
    let (inputs, path) = text_inputs(create, Format::Csv(','), remote)?;
    let file = match create.schema() {
        Some(schema) => CsvFile::declared(inputs, options, &schema)?,
        None => CsvFile::infer(inputs, options)?,
    };
    let encoding = Encoding::Csv { delimiter: plain.dialect.delimiter };
    Ok(match path {
        Some(path) if is_plain => text_table(&path, encoding, Arc::new(file)),
        Some(_) => FileTable::read_only(Arc::new(file), "its options say how CSV is read, and not how it is written"),
        None => FileTable::read_only(Arc::new(file), SEVERAL),
    })
}

/// Reason why several files under one name do not accept rows.
const SEVERAL: &str = "it is several files, a pipe, or in an object store: expected the path of one file";

fn json(create: &CreateTable, remote: Option<Vec<Input>>) -> Result<Arc<dyn TableProvider>> {
    create.check_options(&["path", "format"])?;
    let (inputs, path) = text_inputs(create, Format::Json(JsonFormat::Lines), remote)?;
    let format = match create.option("format") {
        Some(name) => name.parse()?,
        None => match inputs[0].is_there().then(|| detect(&inputs[0])).transpose()? {
            Some(Format::Json(format)) => format,
            _ => JsonFormat::Lines,
        },
    };
    let file = match create.schema() {
        Some(schema) => JsonFile::declared(inputs, format, &schema)?,
        None => JsonFile::infer(inputs, format)?.with_vectors()?,
    };
    Ok(match (format, path) {
        (JsonFormat::Lines, Some(path)) => text_table(&path, Encoding::JsonLines, Arc::new(file)),
        (JsonFormat::Lines, None) => FileTable::read_only(Arc::new(file), SEVERAL),
        (JsonFormat::Array, _) => {
            FileTable::read_only(Arc::new(file), "a JSON array ends with its bracket: expected format json_lines")
        }
    })
}

/// Returns the files of a statement's path, and the path itself if it is one file, which need not
/// exist yet.
fn text_inputs(
    create: &CreateTable,
    format: Format,
    remote: Option<Vec<Input>>,
) -> Result<(Vec<Input>, Option<PathBuf>)> {
    if let Some(inputs) = remote {
        return Ok((inputs, None));
    }
    let path = local_path(Path::new(create.required("path")?))?;
    if path.is_dir() || is_pattern(&path) {
        return Ok((Paths::from(&path).inputs(format)?, None));
    }
    let input = if path.exists() || create.columns.is_empty() { Input::open(&path)? } else { Input::of_file(&path) };
    let is_pipe = input.is_pipe();
    Ok((vec![input], (!is_pipe).then_some(path)))
}

fn text_table(path: &Path, encoding: Encoding, records: Arc<dyn Records>) -> Arc<dyn TableProvider> {
    let sink = TextSink { path: path.into(), schema: Arc::clone(records.schema()), encoding };
    FileTable::with_sink(records, Arc::new(sink))
}

fn line(create: &CreateTable, remote: Option<Vec<Input>>) -> Result<Arc<dyn TableProvider>> {
    create.check_options(&["path", "mode", "split_delimiter", "regex_pattern", "mappings", "skip_empty_lines"])?;
    let paths = match remote {
        Some(inputs) => Paths::Open(inputs),
        None => Paths::from(create.required("path")?),
    };
    let inputs = paths.inputs(Format::Line)?;
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
    let file = LineFile::open(inputs, columns, mode, create.flag("skip_empty_lines", true)?)?;
    file.check()?;
    Ok(FileTable::read_only(Arc::new(file), "USING line says how lines are read, and not how they are written"))
}

/// Maps declared columns to fields: to the fields in their order, or to groups of the same names,
/// or to the groups in their order.
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

async fn parquet(stores: &Arc<ObjectStores>, create: &CreateTable) -> Result<Arc<dyn TableProvider>> {
    create.check_options(&["path"])?;
    let written = create.required("path")?;
    let given = [PathBuf::from(written)];
    let is_in_store = is_remote(written);
    if is_in_store || is_partitioned(&given) {
        let is_one = is_in_store && (has_suffix(written, &PARQUET) || written.contains(['*', '?', '[']));
        let declared = Declared { columns: create.schema(), is_folder: !is_one };
        return Ok(Arc::new(ParquetDataset::open(stores, &given, declared).await?));
    }
    let path = &local_path(Path::new(written))?;
    let schema = create.schema();
    if is_pattern(path) {
        let inputs = Paths::from(path).inputs(Format::Parquet)?;
        let files = inputs.iter().map(ParquetFile::open).collect::<Result<Vec<_>>>()?;
        if let Some(declared) = schema {
            check_columns(inputs[0].path(), &declared, files[0].schema())?;
        }
        return Ok(Arc::new(ParquetTable::of_files(&inputs, &files)?));
    }
    let is_folder = path.is_dir() || !path.exists() && schema.is_some() && !written.ends_with(".parquet");
    if is_folder {
        return Ok(Arc::new(ParquetTable::of_folder(path, schema)?));
    }
    let input = Input::open(path)?;
    let table = ParquetTable::of_file(&input, schema.as_ref())?;
    Ok(match input.is_pipe() || has_refused_name(path) {
        true => FileTable::read_only(Arc::new(ParquetFile::open(&input)?), "a Parquet file is whole"),
        false => Arc::new(table),
    })
}

fn arrow(create: &CreateTable, remote: Option<Vec<Input>>) -> Result<Arc<dyn TableProvider>> {
    create.check_options(&["path"])?;
    let path = create.required("path")?;
    let input = match remote.as_deref() {
        None => Input::open(path)?,
        Some([input]) => input.clone(),
        Some(inputs) => {
            return Err(create.refusal(&format!("option path: expected one file, got {}", inputs.len())));
        }
    };
    let file = ipc::IpcFile::open(&input)?;
    if let Some(schema) = create.schema() {
        super::scan::check_columns(file.path(), &schema, file.schema())?;
    }
    Ok(FileTable::read_only(Arc::new(file), "an Arrow file is whole: expected csv, JSON lines or a folder of parquet"))
}
