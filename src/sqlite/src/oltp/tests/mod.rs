//! Capture against an oracle: the log, replayed over the rows that were there at registration,
//! gives the table.

mod app;
mod changes;
mod cost;
mod displaced;
mod engine;
mod lifecycle;
mod limit;
mod registry;
mod values;

use std::collections::BTreeMap;

use rusqlite::types::Value;
use rusqlite::{Connection, params};
use vexact_core::schema::TableSchema;
use vexact_core::sql::ident;

use crate::oltp::capture::{self, Registered};
use crate::oltp::log::{self, Operation};

/// A file with one captured table, and its replica.
pub(super) struct Captured {
    conn: Connection,
    registered: Registered,
    replica: BTreeMap<String, Vec<Value>>,
    applied: i64,
}

pub(super) fn schema(name: &str, columns: &[(&str, &str)], key: &[&str]) -> TableSchema {
    let columns: Vec<_> = columns.iter().map(|(name, kind)| (name.to_string(), kind.to_string())).collect();
    TableSchema::try_new(name, &columns, &key.iter().map(|name| name.to_string()).collect::<Vec<_>>()).unwrap()
}

impl Captured {
    fn new(ddl: &str, name: &str, columns: &[(&str, &str)], key: &[&str]) -> Self {
        let conn = Connection::open_in_memory().unwrap();
        conn.execute_batch("PRAGMA foreign_keys = ON; PRAGMA trusted_schema = OFF").unwrap();
        conn.execute_batch(ddl).unwrap();
        let registered = capture::install(&conn, &schema(name, columns, key)).unwrap();
        let mut captured = Self { conn, registered, replica: BTreeMap::new(), applied: 0 };
        captured.replica = captured.table();
        captured.applied = log::last_seq(&captured.conn).unwrap();
        captured
    }

    fn key(&self, row: &[Value]) -> String {
        format!("{:?}", self.registered.schema.key().iter().map(|at| &row[*at]).collect::<Vec<_>>())
    }

    fn table(&self) -> BTreeMap<String, Vec<Value>> {
        let columns: Vec<_> = self.registered.schema.columns().iter().map(|column| ident(&column.name)).collect();
        let sql = format!("SELECT {} FROM {}", columns.join(", "), ident(self.registered.schema.name()));
        let mut statement = self.conn.prepare(&sql).unwrap();
        let row = |row: &rusqlite::Row<'_>| {
            (0..columns.len()).map(|at| row.get(at)).collect::<rusqlite::Result<Vec<Value>>>()
        };
        statement.query_map([], row).unwrap().map(|row| row.map(|row| (self.key(&row), row)).unwrap()).collect()
    }

    /// Applies the log; returns its number of changes.
    fn sync(&mut self) -> Vec<(Operation, Vec<Value>)> {
        let versions = log::versions(&self.conn).unwrap();
        let through = log::last_seq(&self.conn).unwrap();
        let mut changes = Vec::new();
        let mut time = 0;
        log::each_change(&self.conn, self.applied, through, 0, |change| {
            assert!(change.time >= time, "time went back");
            time = change.time;
            if change.operation != Operation::Commit && versions[&change.version].table == self.registered.id {
                let width = self.registered.schema.columns().len();
                let row = (0..width).map(|at| Value::try_from(change.value(at).unwrap()).unwrap()).collect::<Vec<_>>();
                changes.push((change.operation, row));
            }
            Ok(())
        })
        .unwrap();
        self.applied = through;
        for (operation, row) in &changes {
            match operation {
                Operation::Row => drop(self.replica.insert(self.key(row), row.clone())),
                _ => drop(self.replica.remove(&self.key(row))),
            }
        }
        changes
    }

    /// Runs statements one by one; after each, the replayed log equals the table.
    fn run(&mut self, statements: &[&str]) {
        for statement in statements {
            self.conn.execute_batch(statement).unwrap_or_else(|error| panic!("{statement}: {error}"));
            self.check(statement);
        }
    }

    fn check(&mut self, what: &str) {
        let changes = self.sync();
        assert_eq!(self.replica, self.table(), "after {what}, which logged {changes:?}");
    }

    fn refusal(&mut self, statement: &str) -> String {
        let error = self.conn.execute_batch(statement).expect_err(statement).to_string();
        assert_eq!(self.sync(), [], "{statement}");
        error
    }
}

pub(super) const USERS: &str = "CREATE TABLE users(id INTEGER PRIMARY KEY, email TEXT UNIQUE, n INTEGER)";
pub(super) const USER_COLUMNS: [(&str, &str); 3] = [("id", "int64"), ("email", "utf8"), ("n", "int64")];

pub(super) fn users() -> Captured {
    Captured::new(USERS, "users", &USER_COLUMNS, &["id"])
}
