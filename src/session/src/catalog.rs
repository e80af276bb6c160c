//! Catalog of a session: its tables and views, by name. A view is replaced atomically, so a query
//! sees either the old view or the new one.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::{SchemaProvider, TableProvider};
use datafusion::common::{DataFusionError, Result, exec_err, plan_err};
use parking_lot::RwLock;
use vexact_replica::{ReplicaTable, Replicas};
use vexact_sources::inputs::{Paths, is_file_name};
use vexact_sources::object_stores::ObjectStores;
use vexact_sql::deep::Deep;

use super::column_case::is_of_spreadsheet;
use super::read::open;

/// The schema `public` of a session: its own tables and views, and the replicas, whose names are
/// not case-sensitive.
#[derive(Debug, Default)]
pub(super) struct Views {
    tables: RwLock<HashMap<String, Deep<Arc<dyn TableProvider>>>>,
    /// Stack size that the deepest view so far needs.
    stack: AtomicUsize,
    /// True once a table of pandas or Excel has had a column with upper case.
    has_upper_case: AtomicBool,
    replicas: Option<Arc<Replicas>>,
    /// Stores of the files that statements name; `None` if statements name no files.
    stores: Option<Arc<ObjectStores>>,
}

impl Views {
    /// Creates a catalog with the tables of a database.
    pub fn over(replicas: Arc<Replicas>) -> Self {
        Self { replicas: Some(replicas), ..Self::default() }
    }

    /// Sets the stores of the files that statements name.
    pub fn with_stores(self, stores: &Arc<ObjectStores>) -> Self {
        Self { stores: Some(Arc::clone(stores)), ..self }
    }

    /// Returns the replicas.
    pub fn replicas(&self) -> Option<&Arc<Replicas>> {
        self.replicas.as_ref()
    }

    /// Returns the session's own tables and views.
    pub fn own_names(&self) -> Vec<String> {
        self.tables.read().keys().cloned().collect()
    }

    /// Returns the name and columns of the session's own table that has this name in any case.
    pub fn own_table(&self, name: &str) -> Option<(String, SchemaRef)> {
        let tables = self.tables.read();
        let (name, table) = tables.iter().find(|(own, _)| own.eq_ignore_ascii_case(name))?;
        Some((name.clone(), table.schema()))
    }

    /// Returns the stack size that planning over the deepest view needs.
    pub fn stack(&self) -> usize {
        self.stack.load(Ordering::Relaxed)
    }

    /// Returns true if a column of a table of pandas or Excel may have upper case.
    pub fn has_upper_case(&self) -> bool {
        self.has_upper_case.load(Ordering::Relaxed)
    }

    /// Registers a table under a name, and releases the table that had the name before.
    pub fn replace(&self, name: &str, table: Arc<dyn TableProvider>) {
        let schema = table.schema();
        let has_upper_case = || schema.fields().iter().any(|field| field.name().chars().any(char::is_uppercase));
        if is_of_spreadsheet(&schema) && has_upper_case() {
            self.has_upper_case.store(true, Ordering::Relaxed);
        }
        let table = match table.get_logical_plan() {
            Some(plan) => {
                let view = Deep::of_plan(&plan, ());
                self.stack.fetch_max(view.stack(), Ordering::Relaxed);
                Deep::new(view.stack(), Arc::clone(&table))
            }
            None => Deep::new(0, table),
        };
        let replaced = self.tables.write().insert(name.to_owned(), table);
        drop(replaced);
    }

    /// Returns the name of a table that differs from this one only by case.
    fn in_another_case(&self, name: &str) -> Option<String> {
        self.own_names().into_iter().find(|other| other != name && other.to_lowercase() == name)
    }

    fn find(&self, name: &str) -> Option<Arc<dyn TableProvider>> {
        let own = self.tables.read().get(name).map(|own| Arc::clone(own));
        own.or_else(|| Some(Arc::new(ReplicaTable::find(self.replicas.as_ref()?, name)?)))
    }
}

/// Returns the reason why a replica cannot be dropped.
pub(super) fn is_a_replica(name: &str) -> String {
    format!(
        "table {name:?} is a replica: expected a table or view of the session's own (unregister_table({name:?}) of its engine ends a \
         replication)"
    )
}

#[async_trait]
impl SchemaProvider for Views {
    fn table_names(&self) -> Vec<String> {
        let mut names = self.own_names();
        if let Some(replicas) = &self.replicas {
            names.extend(replicas.snapshot().tables().map(|table| table.version.definition().name.clone()));
        }
        names.sort_unstable();
        names.dedup();
        names
    }

    async fn table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        match (self.find(name), self.in_another_case(name)) {
            (None, Some(other)) => plan_err!(
                "table '{name}' not found. Did you mean \"{other}\"? A name with upper case is written in quotes"
            ),
            // A file is a table of a session; an engine's queries read no files.
            (None, None) if self.replicas.is_none() && is_file_name(name) => match &self.stores {
                Some(stores) => match open(stores, Paths::from(name)).await {
                    Ok(file) => Ok(Some(file)),
                    Err(error) => Err(DataFusionError::External(Box::new(error))),
                },
                None => Ok(None),
            },
            (found, _) => Ok(found),
        }
    }

    fn register_table(&self, name: String, table: Arc<dyn TableProvider>) -> Result<Option<Arc<dyn TableProvider>>> {
        if self.table_exist(&name) {
            return exec_err!("table {name:?} exists already: expected another name");
        }
        self.replace(&name, table);
        Ok(None)
    }

    fn deregister_table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        let own = self.tables.write().remove(name);
        match own {
            None if self.table_exist(name) => exec_err!("{}", is_a_replica(name)),
            own => Ok(own.map(|table| Arc::clone(&table))),
        }
    }

    fn table_exist(&self, name: &str) -> bool {
        self.find(name).is_some()
    }
}
