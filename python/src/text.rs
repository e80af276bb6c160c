//! The arguments of text searches and of their fusion with vector searches.

use pyo3::prelude::*;
use vexact::htap::bound_filter;
use vexact::{HybridSearch, TextSearch, VectorSearch};

use crate::arguments;
use crate::convert;
use crate::errors::{engine_exception, exception};
use crate::query::Refusal;

/// `(table, column, words, top_k, filter, columns, params, query_syntax)`.
#[derive(FromPyObject)]
pub struct TextArguments<'py>(
    String,
    String,
    String,
    Option<usize>,
    Option<String>,
    Vec<String>,
    Option<Bound<'py, PyAny>>,
    String,
);

impl TextArguments<'_> {
    /// Converts the arguments of a session's search, whose filter has placeholders `$1` or `$name`.
    pub fn of_session(self, py: Python<'_>, invalid: Refusal) -> PyResult<TextSearch> {
        let params = convert::parameters(self.6.as_ref())?;
        if params.is_some() && self.4.is_none() {
            return Err(invalid(py, "params: expected none without a filter, got some".into()));
        }
        Ok(TextSearch { params, ..self.without_params(py)? })
    }

    /// Converts the arguments of an engine's search, whose filter has SQLite's placeholders.
    pub fn of_engine(mut self, py: Python<'_>, invalid: Refusal) -> PyResult<TextSearch> {
        let params = self.6.take();
        let search = self.without_params(py)?;
        let Some(params) = params else { return Ok(search) };
        let Some(filter) = &search.filter else {
            return Err(invalid(py, "params: expected none without a filter, got some".into()));
        };
        let params = arguments::arguments(filter, Some(&params))?;
        let (filter, params) = bound_filter(filter, params).map_err(|error| engine_exception(py, &error))?;
        Ok(TextSearch { filter: Some(filter), params, ..search })
    }

    fn without_params(self, py: Python<'_>) -> PyResult<TextSearch> {
        let Self(table, column, words, top_k, filter, columns, _, syntax) = self;
        let syntax = syntax.parse().map_err(|error: vexact::Error| exception(py, &error))?;
        Ok(TextSearch { table, column, words, syntax, top_k, filter, params: None, leading: Vec::new(), columns })
    }
}

/// `(text_column, words, query_syntax, rrf_k, depth, weight, key)`.
#[derive(FromPyObject)]
pub struct FusionArguments(String, String, String, f64, Option<usize>, f64, Option<Vec<String>>);

impl FusionArguments {
    /// Adds the arguments to those of the vector search.
    pub fn search(self, py: Python<'_>, vector: VectorSearch) -> PyResult<HybridSearch> {
        let Self(text_column, words, syntax, rrf_k, depth, weight, key) = self;
        let syntax = syntax.parse().map_err(|error: vexact::Error| exception(py, &error))?;
        let leading = Vec::new();
        Ok(HybridSearch { vector, text_column, words, syntax, rrf_k, depth, weight, key, leading })
    }
}
