//! The manifest, which lists the files of the store's state. It is replaced atomically, so there is
//! always one complete state.

use std::path::Path;
use std::sync::Arc;

use arrow::datatypes::{Field, Schema};
use serde::{Deserialize, Serialize};
use vexact_core::error::{Error, Result};
use vexact_core::folder::{NamedFile, bad, checksum};
use vexact_core::schema::ColumnType;

use super::format::StorageFormat;
use crate::version::{Definition, SyncMode};

/// Its name.
pub(super) const MANIFEST: &str = "manifest.json";

/// Format version that this code writes, and the only one that it reads.
const VERSION: u32 = 1;

/// A state of the store. As a file it is one JSON object whose last member is `"xxh64"`, the
/// checksum of all bytes before that member.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Manifest {
    pub version: u32,
    pub format: String,
    /// Number of states saved so far; 0 in a new folder.
    pub saves: u64,
    pub applied_seq: i64,
    pub last_time: i64,
    pub extra: String,
    pub tables: Vec<TableEntry>,
    /// The files of delete bitmaps.
    pub bitmaps: Vec<NamedFile>,
    /// The state of the text indexes that belongs to the tables; left out without an index.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<i64>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct TableEntry {
    pub name: String,
    pub columns: Vec<ColumnEntry>,
    /// Positions in `columns`.
    pub key: Vec<usize>,
    /// `destructive` or `temporal`.
    pub mode: String,
    pub failed: Option<String>,
    pub segments: Vec<SegmentEntry>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct ColumnEntry {
    pub name: String,
    /// A type string of the schema.
    #[serde(rename = "type")]
    pub column_type: String,
    pub nullable: bool,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct SegmentEntry {
    pub file: NamedFile,
    pub rows: usize,
    /// Bitmap of the live rows; `None` if all rows are live.
    pub live: Option<BitmapEntry>,
}

/// One bit a row, least significant first, set for live rows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct BitmapEntry {
    pub rows: usize,
    pub file: String,
    pub offset: usize,
}

/// The part that is read first: it is the same in all versions.
#[derive(Deserialize)]
struct Head {
    version: u32,
    format: String,
}

/// Returns the format of a store's folder, and the sync mode of its tables, if it has any. Returns
/// `None` if the folder is no store, or if its manifest cannot be read: opening the store reports
/// the error.
pub(super) fn made_with(folder: &Path) -> Option<(StorageFormat, Option<SyncMode>)> {
    #[derive(Deserialize)]
    struct Table {
        mode: String,
    }
    #[derive(Deserialize)]
    struct Kind {
        format: String,
        tables: Vec<Table>,
    }
    let kind: Kind = serde_json::from_slice(&std::fs::read(folder.join(MANIFEST)).ok()?).ok()?;
    let formats = [StorageFormat::ArrowIpc, StorageFormat::Parquet];
    let format = formats.into_iter().find(|format| format.to_string() == kind.format)?;
    let modes = [SyncMode::Destructive, SyncMode::Temporal];
    let mode = kind.tables.first().and_then(|table| modes.into_iter().find(|mode| mode.name() == table.mode));
    Some((format, mode))
}

fn later_version(version: u32) -> String {
    format!(
        "the replicas have format version {version}, and this version of vexact reads version {VERSION}: open them with the version \
         that made them, or use another folder"
    )
}

const SEAL: &str = ",\"xxh64\":\"";
const SEAL_END: &str = "\"}\n";
const SUM_DIGITS: usize = 16;

impl Manifest {
    /// Returns the manifest of a new folder.
    pub fn empty(format: StorageFormat) -> Self {
        Self {
            version: VERSION,
            format: format.to_string(),
            saves: 0,
            applied_seq: 0,
            last_time: 0,
            extra: String::new(),
            tables: Vec::new(),
            bitmaps: Vec::new(),
            text: None,
        }
    }

    pub fn to_json(&self) -> Result<String, serde_json::Error> {
        let mut text = serde_json::to_string(self)?;
        text.truncate(text.len() - 1);
        let sum = checksum(text.as_bytes());
        text.extend([SEAL, &sum, SEAL_END]);
        Ok(text)
    }

    /// Reads [`Self::to_json`].
    pub fn of_json(content: &[u8], path: &Path, format: StorageFormat) -> Result<Self> {
        let damaged = |problem: String| bad(path, format!("the manifest is damaged: {problem}"));
        // Another version may be sealed in another way.
        let head = serde_json::from_slice::<Head>(content);
        if let Some(head) = head.as_ref().ok().filter(|head| head.version != VERSION) {
            return Err(bad(path, later_version(head.version)));
        }
        let sealed = content.strip_suffix(SEAL_END.as_bytes()).and_then(|rest| rest.split_last_chunk::<SUM_DIGITS>());
        let sealed = sealed.and_then(|(rest, sum)| Some((rest.strip_suffix(SEAL.as_bytes())?, sum)));
        let Some((body, sum)) = sealed else { return Err(damaged("expected a checksum at its end".into())) };
        let (sum, got) = (String::from_utf8_lossy(sum), checksum(body));
        if sum != got {
            return Err(damaged(format!("expected the xxHash64 {sum}, got {got}")));
        }
        let head = head.map_err(|error| damaged(error.to_string()))?;
        if head.format != format.to_string() {
            return Err(bad(path, format!("expected a folder of {format}, got one of {}", head.format)));
        }
        serde_json::from_slice(content).map_err(|error| damaged(error.to_string()))
    }

    /// The names of all files but its own.
    pub fn files(&self) -> impl Iterator<Item = &str> {
        let segments = self.tables.iter().flat_map(|table| &table.segments).map(|segment| &segment.file);
        segments.chain(&self.bitmaps).map(|file| file.name.as_str())
    }
}

impl TableEntry {
    /// The entry of a table without its segments.
    pub fn try_new(definition: &Definition, failed: Option<String>) -> Result<Self> {
        let column = |field: &Arc<Field>| {
            let column_type = ColumnType::of_arrow(field.data_type())
                .filter(|column_type| &column_type.arrow() == field.data_type() && field.metadata().is_empty());
            let column_type = column_type.ok_or_else(|| {
                Error::InvalidArgument(format!(
                    "{}.{}: expected a column of a registered type, got {field}, which cannot be stored",
                    definition.name,
                    field.name()
                ))
            })?;
            Ok(ColumnEntry {
                name: field.name().clone(),
                column_type: column_type.to_string(),
                nullable: field.is_nullable(),
            })
        };
        Ok(Self {
            name: definition.name.clone(),
            columns: definition.schema.fields().iter().map(column).collect::<Result<_>>()?,
            key: definition.key.clone(),
            mode: definition.mode.name().to_owned(),
            failed,
            segments: Vec::new(),
        })
    }

    /// Returns the definition of the replica, or a description of the problem if the entry is
    /// invalid.
    pub fn definition(&self) -> Result<Definition, String> {
        let of_table = |problem: String| format!("table {:?}: {problem}", self.name);
        let field = |column: &ColumnEntry| {
            let column_type = ColumnType::parse(&column.column_type).map_err(|error| of_table(error.to_string()))?;
            Ok(Field::new(&column.name, column_type.arrow(), column.nullable))
        };
        let fields: Vec<Field> = self.columns.iter().map(field).collect::<Result<_, String>>()?;
        if let Some(key) = self.key.iter().find(|key| **key >= fields.len()) {
            return Err(of_table(format!("expected key columns below {}, got {key}", fields.len())));
        }
        let mode = [SyncMode::Destructive, SyncMode::Temporal].into_iter().find(|mode| mode.name() == self.mode);
        let mode = mode.ok_or_else(|| of_table(format!("expected destructive or temporal, got {:?}", self.mode)))?;
        let schema = Arc::new(Schema::new(fields));
        Ok(Definition { name: self.name.clone(), schema, key: self.key.clone(), mode })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_damaged_byte_of_a_manifest_is_noticed() {
        let path = Path::new("manifest.json");
        let manifest = Manifest { applied_seq: 7, extra: "é\"".into(), ..Manifest::empty(StorageFormat::Parquet) };
        let text = manifest.to_json().unwrap();
        assert!(serde_json::from_str::<serde_json::Value>(&text).unwrap().get("xxh64").is_some());
        let read = |bytes: &[u8]| Manifest::of_json(bytes, path, StorageFormat::Parquet);
        assert_eq!(read(text.as_bytes()).unwrap(), manifest);
        for at in 0..text.len() {
            let mut bytes = text.clone().into_bytes();
            bytes[at] ^= 1;
            assert!(read(&bytes).is_err(), "byte {at}");
            assert!(read(&text.as_bytes()[..at]).is_err(), "cut at {at}");
        }
    }

    #[test]
    fn other_versions_and_formats_are_refused_by_name() {
        let path = Path::new("manifest.json");
        let manifest = Manifest { version: 97, ..Manifest::empty(StorageFormat::Parquet) };
        let later = manifest.to_json().unwrap();
        let error = Manifest::of_json(later.as_bytes(), path, StorageFormat::Parquet).unwrap_err().to_string();
        assert!(error.starts_with("manifest.json: the replicas have format version 97, and"), "{error}");
        assert!(error.contains("reads version 1: "), "{error}");
        let other = Manifest::empty(StorageFormat::Parquet).to_json().unwrap();
        let error = Manifest::of_json(other.as_bytes(), path, StorageFormat::ArrowIpc).unwrap_err().to_string();
        assert_eq!(error, "manifest.json: expected a folder of arrow_ipc, got one of parquet");
    }
}
