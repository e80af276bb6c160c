//! Rows that REPLACE removes without firing a trigger.
//!
//! A BEFORE trigger records the keys of rows that have one of the new row's unique values, and an
//! AFTER trigger logs the keys whose rows were removed. Records of rows that stayed (an upsert, an
//! ignored insert) are harmless: a record only names a key to check.

use vexact_core::sql::ident;

use super::table::{Unique, UniqueColumn};
use super::trigger::{NOW, Plan, op};

impl Plan<'_> {
    /// Records the keys of rows that have NEW's unique values.
    pub(super) fn note_statements(&self, itself: &str, watched: &[&Unique]) -> Vec<String> {
        let (_, noted) = self.key_slots();
        let note = |(at, unique): (usize, &&Unique)| {
            let columns = || unique.columns.iter().map(|column| self.noted(column)).enumerate();
            let slots: Vec<_> = columns().map(|(slot, _)| format!("u{slot}")).collect();
            let values: Vec<_> = columns().map(|(_, column)| column).collect();
            let keys: Vec<_> = self.schema.key_columns().map(|key| self.references.stored(&key.name)).collect();
            let known = columns().map(|(slot, column)| format!("n.u{slot} = +{column}"));
            let known: Vec<_> =
                known.chain(keys.iter().enumerate().map(|(slot, key)| format!("n.k{slot} = +{key}"))).collect();
            format!(
                "INSERT INTO _vexact_displaced(tbl, idx, {}, {noted}) SELECT {}, {at}, {}, {} {} AND NOT EXISTS \
                 (SELECT 1 FROM _vexact_displaced AS n WHERE n.tbl = {} AND n.idx = {at} AND {})",
                slots.join(", "),
                self.id,
                values.join(", "),
                keys.join(", "),
                self.candidates(unique, itself),
                self.id,
                known.join(" AND "),
            )
        };
        watched.iter().enumerate().map(note).collect()
    }

    /// Logs the keys recorded for NEW's unique values that no row has now.
    pub(super) fn displaced_statements(&self, watched: &[&Unique]) -> Vec<String> {
        let statements = |(at, unique): (usize, &&Unique)| {
            let noted = |(slot, column): (usize, &UniqueColumn)| {
                let value = self.value_of(column, |name| self.references.changed("NEW", name, "NULL"));
                // A default was recorded as the other row has it.
                let collation = match self.default_of(column) {
                    Some(_) if !column.is_binary() => format!(" COLLATE {}", ident(&column.collation)),
                    _ => String::new(),
                };
                format!("u{slot} = +{value}{collation}")
            };
            let noted: Vec<_> = unique.columns.iter().enumerate().map(noted).collect();
            self.gone_of_noted(&format!("tbl = {} AND idx = {at} AND {}", self.id, noted.join(" AND ")))
        };
        watched.iter().enumerate().flat_map(statements).collect()
    }

    /// Logs the recorded keys that no row has now, and removes the records.
    pub(super) fn gone_of_noted(&self, noted: &str) -> Vec<String> {
        let (slots, _) = self.key_slots();
        let keys: Vec<_> = (0..self.schema.key().len()).map(|slot| format!("n.k{slot}")).collect();
        let statements = [
            format!(
                "INSERT INTO _vexact_log(time, version, op, {slots}) SELECT {NOW}, {}, {}, {} FROM _vexact_displaced AS n \
                 WHERE {}{noted} AND NOT {}",
                self.version,
                op::GONE,
                keys.join(", "),
                self.is_open(),
                self.exists(|slot, _| format!("n.k{slot}")),
            ),
            format!(
                "DELETE FROM _vexact_displaced WHERE {noted} AND NOT {}",
                self.exists(|slot, _| format!("_vexact_displaced.k{slot}")),
            ),
        ];
        statements.into_iter().chain(self.close()).collect()
    }

    /// `FROM` and `WHERE`: the rows of other keys that have NEW's values in a unique index.
    /// `itself` is the row whose key does not count: NEW before an insert, OLD before an update.
    /// The predicate of a partial index is there for SQLite to use the index; one that cannot be
    /// written is left out, as more candidates are harmless.
    pub(super) fn candidates(&self, unique: &Unique, itself: &str) -> String {
        let references = &self.references;
        let same = unique.columns.iter().map(|column| {
            let stored = self.value_of(column, |name| references.stored(name));
            format!("{stored} = {} COLLATE {}", self.coming(column), ident(&column.collation))
        });
        let predicate = unique.predicate.iter().map(|predicate| predicate.over(|name| references.stored(name)));
        let other = self.schema.key_columns().map(|key| {
            // A row id that SQLite will choose is -1 here, or unknown to old versions.
            let unknown = if itself == "NEW" && self.table.is_row_id(&key.name) {
                format!(" OR {} = -1", references.changed("NEW", &key.name, "NULL"))
            } else {
                String::new()
            };
            let own = references.changed(itself, &key.name, "NULL");
            format!("{} IS NOT {own} COLLATE BINARY{unknown}", references.stored(&key.name))
        });
        let conditions: Vec<_> = same.chain(predicate).collect();
        let other: Vec<_> = other.collect();
        let named = unique.columns.iter().flat_map(UniqueColumn::sources);
        let named = named.chain(unique.predicate.iter().flat_map(|predicate| predicate.columns()));
        let from = references.from(named.chain(self.schema.key_columns().map(|key| key.name.as_str())));
        format!("FROM {from} WHERE {} AND ({})", conditions.join(" AND "), other.join(" OR "))
    }

    /// Returns SQL for the value of a unique index in a row, whose columns `value` writes.
    fn value_of(&self, column: &UniqueColumn, value: impl Fn(&str) -> String) -> String {
        match &column.expression {
            Some(expression) => expression.over(value),
            None => value(column.name.as_deref().unwrap_or_default()),
        }
    }

    /// Returns SQL for the value that the index will hold for NEW, before the write: REPLACE
    /// substitutes the default for NULL in a NOT NULL column.
    fn coming(&self, column: &UniqueColumn) -> String {
        self.value_of(column, |name| {
            let value = self.references.changed("NEW", name, "NULL");
            match self.table.default(name) {
                Some(default) => format!("coalesce({value}, {default})"),
                None => value,
            }
        })
    }

    /// Returns SQL for the value of NEW in a record. If the column has a default, the value is read
    /// from the stored row, because only that row has the default as it will be stored.
    fn noted(&self, column: &UniqueColumn) -> String {
        match (self.default_of(column), &column.name) {
            (Some(_), Some(name)) => {
                let references = &self.references;
                format!("coalesce({}, {})", references.changed("NEW", name, "NULL"), references.stored(name))
            }
            _ => self.coming(column),
        }
    }

    fn default_of(&self, column: &UniqueColumn) -> Option<&str> {
        column.name.as_deref().and_then(|name| self.table.default(name))
    }
}
