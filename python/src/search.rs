//! The arguments of a vector search, the same for sessions and engines.

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use vexact::VectorSearch;
use vexact::kernel::{KernelError, Metric};
use vexact::sql::{Explained, Facts};

use crate::convert;
use crate::query::{Refusal, bit_query, query as query_vectors};

/// `(table, column, query, top_k, metric, filter, columns, params, min_score, group_by)`.
#[derive(FromPyObject)]
pub struct SearchArguments<'py>(
    String,
    String,
    Bound<'py, PyAny>,
    Bound<'py, PyAny>,
    String,
    Option<String>,
    Vec<String>,
    Option<Bound<'py, PyAny>>,
    Option<f64>,
    Option<String>,
);

impl<'py> SearchArguments<'py> {
    /// Takes the values of the filter's placeholders out of the arguments.
    pub fn take_params(&mut self) -> Option<Bound<'py, PyAny>> {
        self.7.take()
    }

    /// Converts the arguments to a search. `invalid` creates the exception for an invalid value,
    /// `query_name` is the name of the query in messages.
    pub fn search(self, py: Python<'_>, query_name: &str, invalid: Refusal) -> PyResult<VectorSearch> {
        let Self(table, column, query, top_k, metric, filter, columns, params, min_score, group_by) = self;
        let metric: Metric = metric.parse().map_err(|error: KernelError| invalid(py, error.to_string()))?;
        // `top_k` may be a whole number of any size: a number beyond the size of any table returns
        // all rows.
        if !top_k.hasattr("__index__")? {
            return Err(PyTypeError::new_err(format!("top_k: expected an int, got {}", top_k.get_type().name()?)));
        }
        let top_k = top_k.call_method0("__index__")?;
        if top_k.lt(1)? {
            let problem = format!("invalid top_k: expected a whole number of at least 1, got {}", top_k.repr()?);
            return Err(invalid(py, problem));
        }
        let top_k = top_k.extract::<usize>().unwrap_or(usize::MAX);
        let query = match metric.is_of_bits() {
            true => bit_query(&query_name, &query, invalid)?,
            false => query_vectors(&query_name, &query, invalid)?,
        };
        if params.is_some() && filter.is_none() {
            return Err(invalid(py, "params: expected none without a filter, got some".into()));
        }
        let params = convert::parameters(params.as_ref())?;
        Ok(VectorSearch { table, column, query, top_k, metric, filter, params, min_score, group_by, columns })
    }
}

/// `(logical, physical, strategy)`, the strategy as the names and values of each section.
pub type Sections = (String, String, Vec<Facts>);

pub fn sections(explained: Explained) -> Sections {
    (explained.logical, explained.physical, explained.strategy.facts())
}
