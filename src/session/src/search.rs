//! Searches by call, without SQL: they use the same operators, planned directly.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Float64Type, Schema};
use datafusion::logical_expr::Expr;
use datafusion::physical_plan::collect;
use vexact_core::entry::entry;
use vexact_core::error::{Error, Result};
use vexact_core::rows::concat;
use vexact_kernel::Metric;
use vexact_sources as sources;
use vexact_sql::Explained;
use vexact_sql::deep::stack_of_expr;

use super::plan::{HYBRID, Planned, QUERY_ID, SEARCH};
use super::search_request::{QueryVectors, VectorSearch};
use super::{DataFrame, Session};

impl Session {
    /// Searches the rows closest to the query, best first: `row_id` (Int64, the row's ordinal in
    /// the table), `score` (Float64), then `columns`. A query batch adds `query_id` (Int64) in
    /// front.
    ///
    /// # Errors
    /// An unknown table or column, a query that the kernel rejects, a filter that is not a
    /// predicate on the table.
    pub async fn vector_search(&self, search: &VectorSearch) -> Result<DataFrame> {
        let found = async {
            let planned = self.plan_search(search, None, &SEARCH).await?;
            match &search.query {
                QueryVectors::Many(queries) if search.is_of_one_query() => self.one_by_one(search, queries).await,
                _ => self.run(&planned, None).await,
            }
        };
        entry(self.search_stack(search, None), &search.to_string(), found).await
    }

    /// Searches the queries of a batch one after the other, with `query_id` in front.
    async fn one_by_one(&self, search: &VectorSearch, queries: &[Vec<f64>]) -> Result<DataFrame> {
        let (mut schema, mut found) = (None, Vec::with_capacity(queries.len()));
        for (id, query) in queries.iter().enumerate() {
            let one = VectorSearch { query: QueryVectors::One(query.clone()), ..search.clone() };
            let rows = self.run(&self.plan_search(&one, None, &SEARCH).await?, None).await?;
            let own = Field::new(QUERY_ID, DataType::Int64, false);
            let columns = rows.schema();
            let fields = std::iter::once(Arc::new(own)).chain(columns.fields().iter().cloned());
            let schema = schema.get_or_insert_with(|| Arc::new(Schema::new(fields.collect::<Vec<_>>())));
            for batch in rows.collect().await? {
                let ids: ArrayRef = Arc::new(Int64Array::from_value(id as i64, batch.num_rows()));
                let columns = std::iter::once(ids).chain(batch.columns().iter().cloned()).collect();
                found.push(RecordBatch::try_new(Arc::clone(schema), columns).map_err(Error::arrow)?);
            }
        }
        // A batch has at least one query, else it was rejected.
        let schema = schema.unwrap_or_else(|| Arc::new(Schema::empty()));
        Ok(self.table_frame(sources::arrow::as_it_is(schema, found)?))
    }

    /// Returns the stack size that a search's filter, its condition and the views under it need.
    fn search_stack(&self, search: &VectorSearch, condition: Option<&Expr>) -> usize {
        let condition = condition.map_or(0, stack_of_expr);
        self.stack_of(search.filter.as_deref().unwrap_or_default()).max(condition)
    }

    /// As [`Self::vector_search`], but only among the rows that fulfil `condition` too, whose
    /// columns are the table's. Of the result it returns the rows within `score_threshold` (at most
    /// it, under dot at least), with the three sections of its explain.
    ///
    /// # Errors
    /// As [`Self::vector_search`]; a threshold that is not a number.
    pub async fn vector_search_explained(
        &self,
        search: &VectorSearch,
        condition: Option<Expr>,
        score_threshold: Option<f64>,
    ) -> Result<(DataFrame, Explained)> {
        check_threshold(score_threshold)?;
        if search.is_of_one_query() && matches!(search.query, QueryVectors::Many(_)) {
            let problem =
                "explain_vector_search: expected one query vector with min_score or group_by, got a query batch";
            return Err(Error::InvalidArgument(problem.into()));
        }
        let (stack, name) = (self.search_stack(search, condition.as_ref()), search.to_string());
        let found = async {
            let planned = self.plan_search(search, condition, &SEARCH).await?;
            let within = score_threshold.map(|threshold| (threshold, search.metric));
            let found = self.run(&planned, within).await?;
            let mut explained = planned.explained(search, &SEARCH)?;
            if score_threshold.is_some() {
                planned.add_threshold(&mut explained, score_threshold, found.count().await?);
            }
            Ok((found, explained))
        };
        entry(stack, &name, found).await
    }

    /// Explains [`Self::vector_search`] after running it, in three sections.
    ///
    /// # Errors
    /// As [`Self::vector_search`].
    pub async fn explain_vector_search(&self, search: &VectorSearch) -> Result<Explained> {
        Ok(self.vector_search_explained(search, None, None).await?.1)
    }

    /// Returns all columns of the table and `vector_score` for the rows closest to the query whose
    /// score is within `score_threshold` (at most it, under dot at least), best first.
    ///
    /// # Errors
    /// As [`Self::vector_search`]; a query batch; a threshold that is not a number.
    pub async fn hybrid_search(&self, search: &VectorSearch, score_threshold: Option<f64>) -> Result<DataFrame> {
        let found = async {
            let planned = self.plan_hybrid(search, score_threshold).await?;
            self.run(&planned, score_threshold.map(|threshold| (threshold, search.metric))).await
        };
        entry(self.search_stack(search, None), &search.to_string(), found).await
    }

    /// Explains [`Self::hybrid_search`] after running it, in three sections.
    ///
    /// # Errors
    /// As [`Self::hybrid_search`].
    pub async fn explain_hybrid_search(
        &self,
        search: &VectorSearch,
        score_threshold: Option<f64>,
    ) -> Result<Explained> {
        let found = async {
            let planned = self.plan_hybrid(search, score_threshold).await?;
            let within = score_threshold.map(|threshold| (threshold, search.metric));
            let found = self.run(&planned, within).await?.count().await?;
            let mut explained = planned.explained(search, &HYBRID)?;
            planned.add_threshold(&mut explained, score_threshold, found);
            Ok(explained)
        };
        entry(self.search_stack(search, None), &search.to_string(), found).await
    }

    async fn plan_hybrid(&self, search: &VectorSearch, score_threshold: Option<f64>) -> Result<Planned> {
        if let QueryVectors::Many(_) = search.query {
            return Err(Error::InvalidArgument("hybrid_search: expected one query vector, got a query batch".into()));
        }
        check_threshold(score_threshold)?;
        self.plan_search(&VectorSearch { columns: vec!["*".into()], ..search.clone() }, None, &HYBRID).await
    }

    /// Runs a planned search; `within` selects the rows with such a score.
    async fn run(&self, planned: &Planned, within: Option<(f64, Metric)>) -> Result<DataFrame> {
        let batches = collect(Arc::clone(planned.executed()), Arc::clone(&planned.context)).await?;
        let schema = planned.physical.schema();
        let mut found = concat(&schema, &batches)?;
        if let Some((row_id, rows)) = &planned.pruned {
            let mut columns = found.columns().to_vec();
            columns[*row_id] = rows.ordinals(&columns[*row_id]);
            found = RecordBatch::try_new(Arc::clone(&schema), columns).map_err(Error::arrow)?;
        }
        if let Some((threshold, metric)) = within {
            let scores = found.column(planned.score).as_primitive::<Float64Type>();
            let is_within =
                |score: &&f64| if metric.is_larger_closer() { **score >= threshold } else { **score <= threshold };
            // Rows are sorted best first: those within the threshold precede the others.
            let rows = scores.values().iter().take_while(is_within).count();
            found = found.slice(0, rows);
        }
        Ok(self.table_frame(sources::arrow::as_it_is(schema, vec![found])?))
    }
}

fn check_threshold(score_threshold: Option<f64>) -> Result<()> {
    match score_threshold {
        Some(threshold) if threshold.is_nan() => {
            Err(Error::InvalidArgument(format!("score_threshold: expected a number, got {threshold}")))
        }
        _ => Ok(()),
    }
}
