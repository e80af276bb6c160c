//! Executes statements by call: their placeholders become numbers, then SQLite runs them or the
//! router chooses a side.

use arrow::array::RecordBatch;
use vexact_core::entry::entry;
use vexact_core::error::{Error, Result};
use vexact_core::param::{Params, Statement, to_sqlite};
use vexact_core::sql::{excerpt, within};
use vexact_router as router;
use vexact_sql::deep::stack_of_text;
use vexact_sqlite::oltp::{Collation, FunctionDefinition, ResultTypes};

use super::HtapEngine;

impl HtapEngine {
    /// Executes one DML or DDL statement, always on SQLite, and returns the affected rows, 0 for
    /// DDL.
    ///
    /// # Errors
    /// As [`vexact_sqlite::oltp::Oltp::execute`]; a placeholder without a value, a list that is not
    /// alone in `IN (?)`.
    pub async fn execute(&self, sql: &str, params: impl Into<Params>) -> Result<u64> {
        let oltp = &self.local("execute")?.oltp;
        let (sql, params) = router::by_number(sql, params.into())?;
        oltp.execute(sql, to_sqlite(&params)).await
    }

    /// Executes statements in one transaction, all or none, and returns the total of affected rows.
    ///
    /// # Errors
    /// As [`Self::execute`], with the number and the beginning of the statement.
    pub async fn execute_batch<S: Into<Statement>>(&self, statements: impl IntoIterator<Item = S>) -> Result<u64> {
        let oltp = &self.local("execute_batch")?.oltp;
        let statements: Vec<Statement> = statements.into_iter().map(Into::into).collect();
        let count = statements.len();
        let bound = |(at, Statement { sql, params }): (usize, Statement)| {
            let part = || format!("statement {} of {count} ({})", at + 1, excerpt(&sql));
            let (text, params) = router::by_number(&sql, params).map_err(|error| within(error, &part()))?;
            Ok((text.into_owned(), to_sqlite(&params)))
        };
        oltp.execute_batch(statements.into_iter().enumerate().map(bound).collect::<Result<_>>()?).await
    }

    /// Executes one prepared statement for each row of parameters, in one transaction, and returns
    /// the total of affected rows.
    ///
    /// # Errors
    /// As [`Self::execute`], with the number of the row; a list.
    pub async fn execute_many<P: Into<Params>>(&self, sql: &str, rows: impl IntoIterator<Item = P>) -> Result<u64> {
        let oltp = &self.local("execute_many")?.oltp;
        let (sql, rows) = router::rows_by_number(sql, rows.into_iter().map(Into::into))?;
        oltp.execute_many(sql, rows.iter().map(|row| to_sqlite(row)).collect()).await
    }

    /// Executes one INSERT, UPDATE or DELETE with RETURNING, in a transaction of its own, and
    /// returns its rows, with the types that [`Self::query`] gives the columns of tables.
    ///
    /// # Errors
    /// As [`Self::execute`]; a statement without RETURNING, before any effect. An error leaves
    /// everything unchanged.
    pub async fn execute_returning(&self, sql: &str, params: impl Into<Params>) -> Result<Vec<RecordBatch>> {
        let oltp = &self.local("execute_returning")?.oltp;
        let (sql, params) = router::by_number(sql, params.into())?;
        let types = ResultTypes { registered: Some(self.registered()), expressions: Vec::new() };
        oltp.execute_returning(sql, to_sqlite(&params), types).await
    }

    /// Returns the row id of the last row that a statement of this engine inserted; 0 before the
    /// first.
    ///
    /// # Errors
    /// An engine without a SQLite file of its own.
    pub fn last_insert_rowid(&self) -> Result<i64> {
        Ok(self.local("last_insert_rowid")?.oltp.last_insert_rowid())
    }

    /// Adds a scalar SQL function of the app to every connection of the SQLite file, for
    /// statements, indexes, generated columns and queries that SQLite answers.
    ///
    /// # Errors
    /// A name that SQLite or the queries on replicas have; more than 127 arguments.
    pub async fn create_function(&self, function: FunctionDefinition) -> Result<()> {
        let local = self.local("create_function")?;
        let name = function.name.to_ascii_lowercase();
        if self.session.has_function(&name) {
            return Err(Error::InvalidArgument(format!(
                "function {:?}: expected a name that the queries on replicas do not have",
                function.name
            )));
        }
        local.oltp.create_function(function).await
    }

    /// Adds a collation of the app to every connection of the SQLite file.
    ///
    /// # Errors
    /// A name that SQLite has.
    pub fn create_collation(&self, name: impl Into<String>, compare: Collation) -> Result<()> {
        self.local("create_collation")?.oltp.create_collation(name, compare)
    }

    /// Answers a query that only reads, on the side that [`Self::route`] names. An empty result
    /// keeps its schema.
    ///
    /// # Errors
    /// Anything but one query, before any effect; a failure of the query; a placeholder without a
    /// value.
    pub async fn query(&self, sql: &str, params: impl Into<Params>) -> Result<Vec<RecordBatch>> {
        let (sql, params) = router::by_number(sql, params.into())?;
        entry(stack_of_text(&sql), &sql, self.until_end(self.answer_query(&sql, &params))).await
    }

    /// Answers a query that only reads, directly on the replicas and the session's tables.
    ///
    /// # Errors
    /// As [`Self::query`].
    pub async fn query_olap(&self, sql: &str, params: impl Into<Params>) -> Result<Vec<RecordBatch>> {
        let (sql, params) = router::by_number(sql, params.into())?;
        entry(stack_of_text(&sql), &sql, self.until_end(self.answer_on_replicas(&sql, &params))).await
    }
}
