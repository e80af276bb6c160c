//! Configuration of a sidecar: its source, its tables, and how it follows them.

use std::borrow::Cow;
use std::fmt;
use std::path::Path;
use std::time::Duration;

use vexact_core::database_path::refuse_uri;
use vexact_core::error::{Error, Result};
use vexact_core::schema::ColumnType;

/// Time range that each sweep reads again, before the newest time seen. A sweep finds rows that are
/// committed at most this much later than their `updated_at`, and rows that change again within one
/// tick of the clock.
pub const OVERLAP: Duration = Duration::from_secs(60);

/// A table that is followed by its clock columns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TimestampTableConfig {
    /// The table's name in the source; in PostgreSQL it may have a schema in front
    /// (`sales.orders`), which the name of the replica does not have.
    pub table_name: String,
    /// The names of the key columns.
    pub primary_key: Vec<String>,
    /// Column with the creation time of a row. It only decides whether a change counts as an
    /// insert.
    pub created_at_column: String,
    /// Column with the time of a row's last change. Rows in which it is NULL are not read.
    pub updated_at_column: String,
    /// The columns of the replica, besides the key's; empty: all.
    pub columns: Vec<String>,
    /// Configured types, by column name; the types of other columns are detected in the source.
    pub column_types: Vec<(String, ColumnType)>,
}

impl TimestampTableConfig {
    /// Returns the configured type of a column.
    pub(super) fn column_type(&self, column: &str) -> Option<ColumnType> {
        let exact = self.column_types.iter().find(|(name, _)| name == column);
        let found = exact.or_else(|| self.column_types.iter().find(|(name, _)| name.eq_ignore_ascii_case(column)));
        found.map(|(_, column_type)| *column_type)
    }

    /// The name of its replica.
    pub fn replica_name(&self, source: &SourceKind) -> String {
        match (source, self.table_name.rsplit_once('.')) {
            (SourceKind::Postgres, Some((_, table))) => table.to_owned(),
            _ => self.table_name.clone(),
        }
    }
}

/// Detection of deleted rows in the source.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum DeleteDetection {
    /// Deletes are not detected: a replica keeps deleted rows until it is copied again.
    #[default]
    Disabled,
    /// A row counts as deleted while this column is set: not NULL, false or 0, nor a text or BLOB
    /// with the meaning false: blanks, a number that is 0, `false`, `f`, `no`, `n` or `off` in any
    /// case, nothing but zero bytes.
    SoftDelete(String),
}

impl DeleteDetection {
    /// Reads `disabled` or `soft_delete:<column>`.
    ///
    /// # Errors
    /// Another text.
    pub fn parse(text: &str) -> Result<Self> {
        match text.split_once(':') {
            None if text == "disabled" => Ok(Self::Disabled),
            Some(("soft_delete", column)) if !column.trim().is_empty() && !column.contains('\0') => {
                Ok(Self::SoftDelete(column.trim().to_owned()))
            }
            _ => Err(Error::InvalidArgument(format!(
                "sidecar_delete_detection: expected \"disabled\" or \"soft_delete:<column>\", got {text:?}"
            ))),
        }
    }
}

/// Kind of the source database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SourceKind {
    /// A SQLite file.
    Sqlite,
    /// A PostgreSQL database.
    Postgres,
}

/// The settings of a sidecar. Its debug text has no password.
#[derive(Clone, PartialEq, Eq)]
pub struct SidecarConfig {
    /// A SQLite file, or `postgres://user:password@host:port/database`, with PostgreSQL's own
    /// parameters behind a `?`; `sslmode` is `disable`, `prefer` (where none is given), `require`,
    /// `verify-ca` or `verify-full`, the last two with `sslrootcert`, or with the system's root
    /// certificates.
    pub source: String,
    /// The tables to follow.
    pub tables: Vec<TimestampTableConfig>,
    /// Maximum number of rows of one table that a cycle reads; at least 1.
    pub poll_batch_size: u32,
    /// Detection of deleted rows.
    pub delete_detection: DeleteDetection,
    /// True if the engine also has a SQLite file of its own.
    pub enable_oltp: bool,
    /// See [`OVERLAP`].
    pub overlap: Duration,
}

impl fmt::Debug for SidecarConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { source, tables, poll_batch_size, delete_detection, enable_oltp, overlap } = self;
        f.debug_struct("SidecarConfig")
            .field("source", &without_password(source))
            .field("tables", tables)
            .field("poll_batch_size", poll_batch_size)
            .field("delete_detection", delete_detection)
            .field("enable_oltp", enable_oltp)
            .field("overlap", overlap)
            .finish()
    }
}

/// The address of a server with `***` instead of its password.
fn without_password(source: &str) -> Cow<'_, str> {
    let Some((scheme, mut rest)) = source.split_once("://") else { return source.into() };
    let mut shown = format!("{scheme}://");
    if let (Some(colon), Some(at)) = (rest.find([':', '@', '/']), rest.rfind('@'))
        && rest[colon..].starts_with(':')
    {
        shown += &format!("{}:***", &rest[..colon]);
        rest = &rest[at.max(colon)..];
    }
    for (at, pair) in rest.split('&').enumerate() {
        shown += if at > 0 { "&" } else { "" };
        shown += match pair.find("password=") {
            Some(name) if name == 0 || pair[..name].ends_with('?') => &pair[..name + "password=".len()],
            _ => pair,
        };
        shown += if shown.ends_with("password=") { "***" } else { "" };
    }
    shown.into()
}

impl SidecarConfig {
    /// A sidecar with the defaults: 500 rows a cycle, no deletes, no SQLite file of its own.
    pub fn new(source: impl Into<String>, tables: Vec<TimestampTableConfig>) -> Self {
        Self {
            source: source.into(),
            tables,
            poll_batch_size: 500,
            delete_detection: DeleteDetection::Disabled,
            enable_oltp: false,
            overlap: OVERLAP,
        }
    }

    /// Returns the kind of the source, by the scheme of its address.
    pub fn kind(&self) -> SourceKind {
        let scheme = self.source.split_once("://").map(|(scheme, _)| scheme.to_ascii_lowercase());
        match scheme.as_deref() {
            Some("postgres" | "postgresql") => SourceKind::Postgres,
            _ => SourceKind::Sqlite,
        }
    }

    /// Rejects invalid settings; does not check the address of a server.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`]: no source, another scheme, no tables, a table twice, an empty or repeated name, a size of 0.
    pub(super) fn check_settings(&self) -> Result<()> {
        let refused = |problem: String| Err(Error::InvalidArgument(problem));
        if self.source.trim().is_empty() {
            return refused("sidecar_source: expected a SQLite file or postgres://.., got an empty text".into());
        }
        match (self.kind(), self.source.split_once("://")) {
            (SourceKind::Postgres, _) => {}
            (SourceKind::Sqlite, Some((scheme, _))) => {
                return refused(format!("sidecar_source: expected a SQLite file or postgres://.., got {scheme}://"));
            }
            (SourceKind::Sqlite, None) if self.source == ":memory:" => {
                return refused("sidecar_source: expected a SQLite file, got \":memory:\"".into());
            }
            (SourceKind::Sqlite, None) => refuse_uri("sidecar_source", Path::new(&self.source))?,
        }
        if self.tables.is_empty() {
            return refused("sidecar_tables: expected at least one table to follow, got none".into());
        }
        if self.poll_batch_size == 0 {
            return refused("sidecar_poll_batch_size: expected at least 1, got 0".into());
        }
        let mut seen: Vec<String> = Vec::new();
        for table in &self.tables {
            check_table(table)?;
            let name = table.replica_name(&self.kind()).to_ascii_lowercase();
            if name.starts_with("_vexact_") {
                return refused(format!("sidecar_tables: table name {:?} is reserved", table.table_name));
            }
            if seen.contains(&name) {
                return refused(format!("sidecar_tables: table {:?} is named twice", table.table_name));
            }
            seen.push(name);
        }
        Ok(())
    }
}

fn check_table(table: &TimestampTableConfig) -> Result<()> {
    let refused = |problem: String| Err(Error::InvalidArgument(problem));
    if table.table_name.is_empty() {
        return refused("sidecar_tables: table_name: expected a name, got an empty text".into());
    }
    let of = |what: &str| format!("sidecar_tables: table {:?}: {what}", table.table_name);
    let names = [&table.table_name, &table.created_at_column, &table.updated_at_column];
    let typed = table.column_types.iter().map(|(name, _)| name);
    let names = names.into_iter().chain(&table.primary_key).chain(&table.columns).chain(typed.clone());
    if let Some(name) = names.into_iter().find(|name| name.contains('\0')) {
        return refused(of(&format!("expected names without NUL characters, got {name:?}")));
    }
    if table.primary_key.is_empty() {
        return refused(of("primary_key: expected at least one column, got none"));
    }
    if table.created_at_column.is_empty() || table.updated_at_column.is_empty() {
        return refused(of("created_at_column and updated_at_column: expected names, got an empty text"));
    }
    let typed: Vec<String> = typed.cloned().collect();
    let lists = [("primary_key", &table.primary_key), ("columns", &table.columns), ("column_types", &typed)];
    for (what, names) in lists {
        for (at, name) in names.iter().enumerate() {
            if name.is_empty() {
                return refused(of(&format!("{what}: expected names, got an empty text")));
            }
            if names[..at].iter().any(|before| before.eq_ignore_ascii_case(name)) {
                return refused(of(&format!("{what}: duplicate column {name:?}")));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(name: &str) -> TimestampTableConfig {
        TimestampTableConfig {
            table_name: name.into(),
            primary_key: vec!["id".into()],
            created_at_column: "created_at".into(),
            updated_at_column: "updated_at".into(),
            columns: Vec::new(),
            column_types: Vec::new(),
        }
    }

    #[test]
    fn wrong_settings_are_named() {
        let error = |config: SidecarConfig| config.check().unwrap_err().to_string();
        assert!(error(SidecarConfig::new("", vec![table("t")])).contains("sidecar_source"));
        assert!(error(SidecarConfig::new("mysql://x/y", vec![table("t")])).contains("got mysql://"));
        assert!(error(SidecarConfig::new("a.db", vec![])).contains("at least one table"));
        assert!(error(SidecarConfig::new("a.db", vec![table("t"), table("T")])).contains("\"T\" is named twice"));
        assert!(
            error(SidecarConfig { poll_batch_size: 0, ..SidecarConfig::new("a.db", vec![table("t")]) })
                .contains("got 0")
        );
        let keyless = TimestampTableConfig { primary_key: Vec::new(), ..table("t") };
        assert!(error(SidecarConfig::new("a.db", vec![keyless])).contains("primary_key"));
        let cut = TimestampTableConfig { columns: vec!["a".into(), "b\0c".into()], ..table("t") };
        assert!(error(SidecarConfig::new("a.db", vec![cut])).ends_with("without NUL characters, got \"b\\0c\""));
        SidecarConfig::new("a.db", vec![table("t")]).check().unwrap();
        for wrong in ["hard", "soft_delete:", "soft_delete", "Disabled", "soft_delete:a\0b"] {
            let error = DeleteDetection::parse(wrong).unwrap_err().to_string();
            assert!(error.ends_with(&format!("got {wrong:?}")), "{error}");
        }
        assert_eq!(DeleteDetection::parse("soft_delete:gone").unwrap(), DeleteDetection::SoftDelete("gone".into()));
    }

    #[test]
    fn the_debug_text_has_no_password() {
        for (source, expected) in [
            ("postgres://me:p%40ss@h:5/d?sslmode=require", "postgres://me:***@h:5/d?sslmode=require"),
            ("postgres://me:p@ss:w/o?rd@h/d", "postgres://me:***@h/d"),
            ("postgres://me@h/d?password=secret&user=a", "postgres://me@h/d?password=***&user=a"),
            ("postgres://me@h/d", "postgres://me@h/d"),
            ("/data/a:b@c.db", "/data/a:b@c.db"),
        ] {
            let text = format!("{:?}", SidecarConfig::new(source, Vec::new()));
            assert!(text.contains(&format!("source: {expected:?}")), "{text}");
        }
    }

    #[test]
    fn replicas_of_postgres_have_no_schema_in_their_name() {
        let config = SidecarConfig::new("postgres://me@h/d", vec![table("a.t"), table("b.t")]);
        assert_eq!(config.tables[0].replica_name(&config.kind()), "t");
        assert!(config.check().unwrap_err().to_string().contains("\"b.t\" is named twice"));
        assert_eq!(table("a.t").replica_name(&SourceKind::Sqlite), "a.t");
    }
}
