//! Creates sources and sinks on disk: `CREATE SOURCE TABLE` and `CREATE SINK TABLE`.

use std::path::Path;
use std::sync::Arc;

use datafusion::catalog::TableProvider;
use datafusion::prelude::SessionContext;
use vexact_core::error::Result;
use vexact_sources::create::{CreateTable, TableKind};

use super::api::{StreamFrame, sink_table};
use super::csv_dir::CsvDir;
use super::file_sink::{FileFormat, FileSink};
use super::sink::SinkTable;
use super::source::SourceTable;

/// Creates the source or the sink of a statement, as a table of a catalog.
///
/// # Errors
/// An unknown format or option; a missing folder, or an empty one without declared columns.
pub fn stream_table(context: &SessionContext, create: &CreateTable) -> Result<Arc<dyn TableProvider>> {
    Ok(match create.kind {
        TableKind::Sink => sink_table(sink(create)?),
        _ => StreamFrame::of_source(context, source(create)?).provider(),
    })
}

/// Creates the source of `CREATE SOURCE TABLE t [(columns)] USING csv OPTIONS (path: 'FOLDER' [,
/// delimiter: ','] [, batch_bytes: 8388608])`.
///
/// # Errors
/// Another format, an invalid option, a folder that is missing or, without declared columns, has no
/// file from which to infer them.
fn source(create: &CreateTable) -> Result<Arc<dyn SourceTable>> {
    if create.format != "csv" {
        return Err(create.refusal(&format!("unknown source {}: expected USING csv, of a folder", create.format)));
    }
    create.check_options(&["path", "delimiter", "batch_bytes"])?;
    let (folder, delimiter) = (Path::new(create.required("path")?), create.character("delimiter", ',')?);
    let source = match create.schema() {
        Some(schema) => CsvDir::declared(folder, delimiter, &schema)?,
        None => CsvDir::infer(folder, delimiter)?,
    };
    Ok(Arc::new(match create.option("batch_bytes") {
        None => source,
        Some(bytes) => {
            source.with_batch_bytes(bytes.parse().map_err(|_| {
                create.refusal(&format!("option batch_bytes: expected a whole number, got {bytes:?}"))
            })?)?
        }
    }))
}

/// Creates the sink of `CREATE SINK TABLE s [(columns)] USING csv | json | parquet OPTIONS (path:
/// 'FILE' [, delimiter: ','])`.
///
/// # Errors
/// Another format, an invalid option, a missing folder.
fn sink(create: &CreateTable) -> Result<Arc<dyn SinkTable>> {
    let format = match create.format.as_str() {
        "csv" => {
            create.check_options(&["path", "delimiter"])?;
            FileFormat::Csv { delimiter: create.character("delimiter", ',')? }
        }
        "json" | "parquet" => {
            create.check_options(&["path"])?;
            if create.format == "json" { FileFormat::Json } else { FileFormat::Parquet }
        }
        other => return Err(create.refusal(&format!("unknown sink {other}: expected USING csv, json or parquet"))),
    };
    Ok(Arc::new(FileSink::try_new(Path::new(create.required("path")?), format, create.schema())?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use vexact_sources::create::parse;

    fn refusal(sql: &str) -> String {
        let create = parse(sql).unwrap().unwrap();
        let refused = match create.kind {
            TableKind::Sink => sink(&create).map(|_| ()),
            _ => source(&create).map(|_| ()),
        };
        refused.unwrap_err().to_string()
    }

    #[test]
    fn statements_name_a_folder_or_a_file_with_its_columns() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("a.csv"), "x;v\n1;[1 2]\n").unwrap();
        let path = folder.path().display();
        let found = parse(&format!("CREATE SOURCE TABLE s USING csv OPTIONS(path: '{path}', delimiter: ';')")).unwrap();
        let schema = source(&found.unwrap()).unwrap().schema();
        let types: Vec<String> = schema.fields().iter().map(|field| field.data_type().to_string()).collect();
        assert_eq!(types, ["Int64", "FixedSizeList(2 x Float32)"]);
        let declared = format!("CREATE SOURCE TABLE s (x STRING) USING csv OPTIONS(path: '{path}')");
        assert_eq!(source(&parse(&declared).unwrap().unwrap()).unwrap().schema().field(0).name(), "x");
        for format in ["csv", "json", "parquet"] {
            let sql = format!("CREATE SINK TABLE s (x INT) USING {format} OPTIONS(path: '{path}/out')");
            let sink = sink(&parse(&sql).unwrap().unwrap()).unwrap();
            assert_eq!(sink.schema().unwrap().fields().len(), 1);
            assert_eq!(sink.can_truncate(), format != "parquet");
        }
    }

    #[test]
    fn statements_that_name_nothing_are_refused() {
        for (sql, problem) in [
            (
                "CREATE SOURCE TABLE s USING json OPTIONS(path: '/')",
                "CREATE SOURCE TABLE s: unknown source json: expected USING csv",
            ),
            ("CREATE SOURCE TABLE s USING csv", "CREATE SOURCE TABLE s: option path: expected a value, got none"),
            ("CREATE SOURCE TABLE s USING csv OPTIONS(path: '/no where')", "folder not found: /no where"),
            (
                "CREATE SOURCE TABLE s (x INT) USING csv OPTIONS(path: '/', batch_bytes: 0)",
                "batch_bytes: expected at least 1",
            ),
            (
                "CREATE SOURCE TABLE s (x INT) USING csv OPTIONS(path: '/', batch_bytes: 'x')",
                "batch_bytes: expected a whole number",
            ),
            (
                "CREATE SINK TABLE s USING xlsx OPTIONS(path: 'a')",
                "CREATE SINK TABLE s: unknown sink xlsx: expected USING csv, json",
            ),
            (
                "CREATE SINK TABLE s USING json OPTIONS(path: 'a', delimiter: ',')",
                "CREATE SINK TABLE s: unknown option \"delimiter\"",
            ),
            ("CREATE SINK TABLE s USING csv OPTIONS(path: '/')", "expected a file to write, got a folder"),
        ] {
            let got = refusal(sql);
            assert!(got.contains(problem), "{sql}: {got}");
        }
    }
}
