//! What the router knows of names: the tables of SQLite, the replicas, the session's own.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use futures::FutureExt;

use crate::error::Result;
use crate::oltp::sql::failed;
use crate::oltp::{Oltp, capture};
use crate::replica::Snapshot;
use crate::router::{Names, OlapTable, Owner};
use crate::session::Session;

pub(super) type TableNames = Arc<HashSet<String>>;

/// The tables and views of SQLite, in lower case, read again when the schema has changed.
#[derive(Debug, Default)]
pub(super) struct SqliteTables {
    known: Arc<Mutex<Option<(i64, TableNames)>>>,
}

impl SqliteTables {
    pub async fn current(&self, oltp: &Oltp) -> Result<TableNames> {
        let known = Arc::clone(&self.known);
        oltp.read(move |conn| {
            let version = capture::schema_version(conn)?;
            let mut known = known.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some((_, names)) = known.as_ref().filter(|(known, _)| *known == version) {
                return Ok(Arc::clone(names));
            }
            let names = conn
                .prepare_cached("SELECT lower(name) FROM sqlite_master WHERE type IN ('table', 'view')")
                .and_then(|mut statement| statement.query_map([], |row| row.get(0))?.collect())
                .map(Arc::new)
                .map_err(failed(|| "reading the names of tables"))?;
            *known = Some((version, Arc::clone(&names)));
            Ok(names)
        })
        .await
    }
}

/// The names at one time.
pub(super) struct EngineNames<'e> {
    pub session: &'e Session,
    pub snapshot: Arc<Snapshot>,
    pub sqlite: TableNames,
    /// In lower case: the tables of a source, which hide SQLite's of the same name.
    pub followed: Vec<String>,
}

impl Names for EngineNames<'_> {
    fn in_sqlite(&self, table: &str) -> bool {
        let table = table.to_ascii_lowercase();
        self.sqlite.contains(&table) && !self.followed.contains(&table)
    }

    fn olap(&self, table: &str) -> Option<OlapTable> {
        let own = self.session.own_tables().into_iter().find(|name| name.eq_ignore_ascii_case(table));
        if let Some(name) = own {
            // The session's own provider answers at once.
            let provider = self.session.context().table_provider(name.as_str()).now_or_never()?.ok()?;
            return Some(OlapTable { name, schema: provider.schema(), owner: Owner::Session });
        }
        let version = &self.snapshot.table(table)?.version;
        Some(OlapTable {
            name: version.definition().name.clone(),
            schema: Arc::clone(version.schema()),
            owner: Owner::Replica,
        })
    }
}
