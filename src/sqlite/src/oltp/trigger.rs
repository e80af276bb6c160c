//! The triggers that write the change log, as SQL text.
//!
//! The log holds states, not operations: after each change of a key some AFTER trigger runs later
//! than the change, reads the row of that key again and logs what it found, a row or none. So the
//! order in which SQLite fires triggers does not matter, and a log row is correct whatever caused
//! it.
//!
//! [`super::displaced`] handles rows that REPLACE removes without firing a trigger;
//! [`super::reference`] handles the names of columns.
//!
//! While the log is full ([`super::limit`]) nothing is logged; values are still checked.
//!
//! The SQL text also runs on old versions of SQLite and uses only built-in functions. It relies on
//! no constraint of its own tables, because the conflict clause of the outer statement overrides
//! that of an inner one.

use rusqlite::Connection;
use vexact_core::error::{Error, Result};
use vexact_core::schema::{ColumnType, TableSchema, is_row_id_name};
use vexact_core::sql::ident;

use super::check::{checked, refusal};
use super::limit::{CLOSE, IS_OPEN};
use super::reference::References;
use super::table::{RowId, Table, Unique, UniqueColumn};
use super::{log, meta};

/// Microseconds since the Unix epoch, at the milliseconds that SQLite's clock has. It may go back:
/// to prevent that, a trigger would have to read or write one more table for each row, so the
/// reader of the log corrects it.
pub(super) const NOW: &str = "CAST((julianday('now') - 2440587.5) * 86400000 + 0.5 AS INTEGER) * 1000";

/// Operations of log rows.
pub(super) mod op {
    /// A transaction of the engine ends here.
    pub const COMMIT: i64 = 0;
    /// The row of this key is now this.
    pub const ROW: i64 = 1;
    /// The key has no row now.
    pub const GONE: i64 = 2;
}

/// One trigger: its name and the statement that creates it.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Trigger {
    pub name: String,
    pub sql: String,
}

impl Trigger {
    /// Returns true if the trigger records the rows that a statement may remove, before it removes
    /// them.
    pub fn is_note(&self) -> bool {
        self.name.contains("_note_")
    }
}

/// Inputs of the triggers of one table.
pub(super) struct Plan<'a> {
    pub(super) table: &'a Table,
    pub(super) schema: &'a TableSchema,
    pub(super) id: i64,
    pub(super) version: i64,
    pub(super) references: References<'a>,
    /// The unique index through which a key finds its row.
    lookup: &'a Unique,
    /// The unique values that can displace rows of other keys: first those of an insert, then those
    /// that only an update has.
    watched: Vec<&'a Unique>,
    /// Number of values in `watched` that belong to an insert.
    watched_by_insert: usize,
    /// SQLite computes a generated column of NEW, before an update, from the columns that the
    /// triggers name: so they name all.
    reads_whole_row: bool,
    /// True if the log has a limit; a log of format version 1 has none.
    is_limited: bool,
}

impl<'a> Plan<'a> {
    /// # Errors
    /// A column that the table does not have; a key that is not unique; a unique index on an
    /// expression that cannot be written over the new row.
    pub fn try_new(
        conn: &Connection,
        table: &'a Table,
        schema: &'a TableSchema,
        id: i64,
        version: i64,
    ) -> Result<Self> {
        let refused = |problem: String| Err(Error::Engine(format!("table {:?}: {problem}", schema.name())));
        for column in schema.columns() {
            if table.column(&column.name).is_some() || table.is_hidden_row_id(&column.name) {
                continue;
            }
            if let (true, RowId::Column(key)) = (is_row_id_name(&column.name), &table.row_id) {
                return refused(format!("expected its INTEGER PRIMARY KEY {key:?}, got the row id, which is the same"));
            }
            let names: Vec<_> = table.columns.iter().map(|column| column.name.as_str()).collect();
            return refused(format!("no column {:?}: expected one of [{}]", column.name, names.join(", ")));
        }
        let is_key = |column: &str| schema.key_columns().any(|key| key.name.eq_ignore_ascii_case(column));
        let within_key = |unique: &&Unique| {
            !unique.is_partial && unique.columns.iter().all(|column| column.name.as_deref().is_some_and(is_key))
        };
        let Some(lookup) = table.unique.iter().rev().find(within_key) else {
            let key: Vec<_> = schema.key_columns().map(|column| column.name.as_str()).collect();
            let key = key.join(", ");
            return refused(format!("the key ({key}) is not unique in SQLite: expected a PRIMARY KEY or UNIQUE on it"));
        };
        // A row that is displaced through the key has the new row's key: its state is logged
        // anyway.
        let displaces = |unique: &&Unique| {
            !schema
                .key_columns()
                .all(|key| unique.columns.iter().any(|column| column.is(&key.name) && column.is_binary()))
        };
        let mut watched: Vec<_> = table.unique.iter().filter(displaces).collect();
        // Before an insert, the row id that SQLite will choose is not known.
        let is_hidden = |column: &UniqueColumn| -> Result<bool> {
            let mut is_of_row_id = column.expression.is_none() && column.name.is_none();
            for source in column.sources() {
                let is_itself = column.expression.is_some() && table.is_row_id(source);
                is_of_row_id |= is_itself || table.is_of_row_id(conn, source)?;
            }
            Ok(is_of_row_id)
        };
        for unique in &watched {
            for column in &unique.columns {
                if is_hidden(column)? {
                    return refused(format!(
                        "unique index {:?} is on an expression of the row id, or on one whose columns cannot be told, so rows \
                         that REPLACE removes through it cannot be captured: expected an expression of other columns (a generated \
                         column can hold it)",
                        unique.name
                    ));
                }
            }
        }
        let watched_by_insert = watched.len();
        // The row that is updated can go with the one that it displaces, by a foreign key: then
        // nothing follows the update.
        if table.is_cascaded {
            watched.extend(table.unique.iter().filter(|unique| !displaces(unique)));
        }
        let mut named: Vec<&str> = schema.columns().iter().map(|column| column.name.as_str()).collect();
        for unique in &watched {
            match unique.sources() {
                Some(sources) => named.extend(sources),
                None => named.extend(unique.columns.iter().flat_map(UniqueColumn::sources)),
            }
        }
        let is_of_generated = |unique: &&Unique| {
            unique.columns.iter().flat_map(UniqueColumn::sources).any(|name| table.is_generated(name))
        };
        let reads_whole_row = watched.iter().any(is_of_generated);
        if reads_whole_row {
            named.extend(table.columns.iter().map(|column| column.name.as_str()));
        }
        let references = References::new(table, id, named.into_iter());
        let is_limited = meta::exists(conn)? || !log::exists(conn)?;
        Ok(Self {
            table,
            schema,
            id,
            version,
            references,
            lookup,
            watched,
            watched_by_insert,
            reads_whole_row,
            is_limited,
        })
    }

    /// Returns the maximum number of unique values in one record.
    pub fn widest_watched(&self) -> usize {
        self.watched.iter().map(|unique| unique.columns.len()).max().unwrap_or(0)
    }

    /// The statement that creates the table that the triggers join, if they need it.
    pub fn absent_table(&self) -> Option<String> {
        self.references.absent_table()
    }

    /// The triggers, in order of their names.
    pub fn triggers(&self) -> Vec<Trigger> {
        let table = ident(&self.table.name);
        let mut triggers = vec![
            self.trigger("insert", &format!("AFTER INSERT ON {table}"), &self.row_statements()),
            self.trigger("update", &format!("AFTER UPDATE{} ON {table}", self.of_registered()), &self.row_statements()),
            self.trigger("rekey", &format!("AFTER UPDATE{} ON {table}", self.of_key()), &self.gone_statements()),
            self.trigger("delete", &format!("AFTER DELETE ON {table}"), &self.gone_statements()),
        ];
        let of = self.of_watched();
        for (name, event, itself, watched) in [
            ("insert", "INSERT", "NEW", &self.watched[..self.watched_by_insert]),
            ("update", &*format!("UPDATE{of}"), "OLD", &self.watched[..]),
        ] {
            if watched.is_empty() {
                continue;
            }
            let any: Vec<_> =
                watched.iter().map(|unique| format!("EXISTS (SELECT 1 {})", self.candidates(unique, itself))).collect();
            let mut any = any.join(" OR ");
            if itself == "OLD" && self.reads_whole_row {
                let columns = self.table.columns.iter().filter(|column| !column.is_generated);
                let columns: Vec<_> =
                    columns.map(|column| self.references.changed("NEW", &column.name, "NULL")).collect();
                any = format!("({any}) AND coalesce(1, {})", columns.join(", "));
            }
            if self.is_limited {
                any = format!("{IS_OPEN} AND ({any})");
            }
            let head = format!("BEFORE {event} ON {table} WHEN {any}");
            triggers.push(self.trigger(&format!("note_{name}"), &head, &self.note_statements(itself, watched)));
            let head = format!("AFTER {event} ON {table} WHEN EXISTS (SELECT 1 FROM _vexact_displaced)");
            triggers.push(self.trigger(&format!("displaced_{name}"), &head, &self.displaced_statements(watched)));
        }
        if self.table.is_cascaded && !self.watched.is_empty() {
            let noted = format!("tbl = {}", self.id);
            let head = format!("AFTER DELETE ON {table} WHEN EXISTS (SELECT 1 FROM _vexact_displaced WHERE {noted})");
            triggers.push(self.trigger("displaced_delete", &head, &self.gone_of_noted(&noted)));
        }
        triggers.sort();
        triggers
    }

    fn trigger(&self, name: &str, head: &str, statements: &[String]) -> Trigger {
        let name = format!("{}{name}", prefix(self.id));
        let sql = format!("CREATE TRIGGER {name} {head} BEGIN {}; END", statements.join("; "));
        Trigger { name, sql }
    }

    /// The new row, as it is in the table now: other triggers may have touched it.
    fn row_statements(&self) -> Vec<String> {
        let mut statements = Vec::new();
        for at in self.schema.key().iter().copied().filter(|at| self.may_be_null(*at)) {
            let column = self.references.changed("NEW", &self.schema.columns()[at].name, "0");
            let refusal = refusal(self.schema, at, " for a key, got NULL");
            statements.push(format!("SELECT CASE WHEN {column} IS NULL THEN {refusal} END"));
        }
        let count = self.schema.columns().len();
        let slots: Vec<_> = (0..count).map(|at| format!("c{at}")).collect();
        let values: Vec<_> = (0..count).map(|at| self.value(at)).collect();
        let from = self.references.from(self.schema.columns().iter().map(|column| column.name.as_str()));
        let has_key = self.has_key(|_, column| self.references.changed("NEW", column, "NULL"));
        let checked: Vec<_> = (0..count).filter(|at| self.is_checked(*at)).collect();
        let is_logged = match (self.is_limited, checked.is_empty()) {
            (false, _) => String::new(),
            (true, true) => self.is_open(),
            // Not true of any row, but each value is computed, and so checked, where it is not
            // logged.
            (true, false) => {
                let checked: Vec<_> = checked.iter().map(|at| format!("({} IS NULL)", values[*at])).collect();
                format!("({IS_OPEN} OR {} < 0) AND ", sum(&checked))
            }
        };
        statements.push(format!(
            "INSERT INTO _vexact_log(time, version, op, {}) SELECT {NOW}, {}, {}, {} FROM {from} WHERE {is_logged}{has_key}",
            slots.join(", "),
            self.version,
            op::ROW,
            values.join(", "),
        ));
        statements.extend(self.close());
        statements
    }

    fn value(&self, at: usize) -> String {
        let value = self.references.stored(&self.schema.columns()[at].name);
        if self.is_checked(at) { checked(self.schema, at, &value) } else { value }
    }

    /// Returns true if SQLite may store values in the column that its registered type cannot hold.
    fn is_checked(&self, at: usize) -> bool {
        let column = &self.schema.columns()[at];
        let is_integer = matches!(&self.table.row_id, RowId::Column(name) if name.eq_ignore_ascii_case(&column.name));
        !(is_integer && column.column_type == ColumnType::Int64)
    }

    /// The old key, if no row has it now.
    fn gone_statements(&self) -> Vec<String> {
        let (slots, _) = self.key_slots();
        let old = |column: &str| self.references.changed("OLD", column, "NULL");
        let key: Vec<_> = self.schema.key_columns().map(|key| old(&key.name)).collect();
        let gone = format!(
            "INSERT INTO _vexact_log(time, version, op, {slots}) SELECT {NOW}, {}, {}, {} WHERE {}NOT {}",
            self.version,
            op::GONE,
            key.join(", "),
            self.is_open(),
            self.exists(|_, column| old(column)),
        );
        std::iter::once(gone).chain(self.close()).collect()
    }

    /// The part of a condition under which changes are logged.
    pub(super) fn is_open(&self) -> String {
        if self.is_limited { format!("{IS_OPEN} AND ") } else { String::new() }
    }

    /// The statement after one that logs.
    pub(super) fn close(&self) -> Option<String> {
        self.is_limited.then(|| CLOSE.to_owned())
    }

    pub(super) fn exists(&self, value: impl Fn(usize, &str) -> String) -> String {
        let from = self.references.from(self.schema.key_columns().map(|key| key.name.as_str()));
        format!("EXISTS (SELECT 1 FROM {from} WHERE {})", self.has_key(value))
    }

    /// A condition on the row `r`: it has the key whose parts `value` writes, bit for bit, found
    /// through the lookup's index.
    fn has_key(&self, value: impl Fn(usize, &str) -> String) -> String {
        let mut conditions = Vec::new();
        for (slot, key) in self.schema.key_columns().enumerate() {
            let (column, value) = (self.references.stored(&key.name), value(slot, &key.name));
            let collated = self.lookup.columns.iter().find(|part| part.is(&key.name) && !part.is_binary());
            if let Some(part) = collated {
                conditions.push(format!("{column} = {value} COLLATE {}", ident(&part.collation)));
            }
            conditions.push(format!("{column} = {value} COLLATE BINARY"));
        }
        conditions.join(" AND ")
    }

    /// Returns the columns of the key in the log and in `_vexact_displaced`.
    pub(super) fn key_slots(&self) -> (String, String) {
        let log: Vec<_> = self.schema.key().iter().map(|at| format!("c{at}")).collect();
        let notes: Vec<_> = (0..log.len()).map(|slot| format!("k{slot}")).collect();
        (log.join(", "), notes.join(", "))
    }

    fn may_be_null(&self, at: usize) -> bool {
        let name = &self.schema.columns()[at].name;
        !self.table.is_row_id(name) && self.table.column(name).is_none_or(|column| !column.not_null)
    }

    /// Updates of columns that are not registered change nothing.
    fn of_registered(&self) -> String {
        self.of(self.schema.columns().iter().map(|column| column.name.as_str()))
    }

    fn of_key(&self) -> String {
        self.of(self.schema.key_columns().map(|column| column.name.as_str()))
    }

    /// All columns by which a row can come to have a unique value, also by the predicate of its
    /// index.
    fn of_watched(&self) -> String {
        let sources: Option<Vec<_>> = self.watched.iter().map(|unique| unique.sources()).collect();
        sources.map_or_else(String::new, |sources| self.of(sources.into_iter().flatten()))
    }

    /// ` OF a, b`: the names by which an UPDATE can set these columns; nothing if a generated
    /// column is among them.
    fn of<'b>(&'b self, columns: impl Iterator<Item = &'b str>) -> String {
        let mut names: Vec<&str> = Vec::new();
        for column in columns {
            if self.table.is_generated(column) {
                return String::new();
            }
            names.push(column);
            if self.table.is_row_id(column) {
                names.extend(self.table.row_id_names());
            }
        }
        names.sort_unstable();
        names.dedup();
        let names: Vec<_> = names.into_iter().map(ident).collect();
        format!(" OF {}", names.join(", "))
    }
}

/// The sum of expressions, nested as little as can be: SQLite bounds the depth.
fn sum(terms: &[String]) -> String {
    match terms {
        [] => "0".to_owned(),
        [term] => term.clone(),
        terms => {
            let (left, right) = terms.split_at(terms.len() / 2);
            format!("({} + {})", sum(left), sum(right))
        }
    }
}

/// Returns the prefix of the names of a table's triggers.
pub(super) fn prefix(id: i64) -> String {
    format!("_vexact_{id}_")
}
