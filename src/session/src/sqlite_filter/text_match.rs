//! `text_match(column, words [, query_syntax])` in the filter of a search: the rows whose text
//! matches, as a set of keys that the text index has at the version of the search.

use std::collections::HashSet;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray};
use arrow::datatypes::DataType;
use arrow::row::{OwnedRow, RowConverter, SortField};
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Column, DataFusionError, Result, plan_datafusion_err, plan_err};
use datafusion::execution::SessionState;
use datafusion::logical_expr::{
    ColumnarValue, Expr, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility, lit,
};
use vexact_replica::ReplicaTable;
use vexact_sql::{Table, text_argument};

use crate::text::QuerySyntax;

const NAME: &str = "text_match";

/// The function as a filter names it.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct TextMatch {
    signature: Signature,
}

impl TextMatch {
    pub fn new() -> Self {
        Self { signature: Signature::variadic_any(Volatility::Volatile) }
    }
}

impl ScalarUDFImpl for TextMatch {
    fn name(&self) -> &str {
        NAME
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Boolean)
    }

    fn invoke_with_args(&self, _: ScalarFunctionArgs) -> Result<ColumnarValue> {
        plan_err!(
            "{NAME}: expected the filter of a search of a replica; elsewhere: WHERE key IN (SELECT key FROM text_search(...))"
        )
    }
}

/// Replaces calls of the function in a filter by the set of keys that match.
pub(super) fn resolve(state: &SessionState, table: &Table, filter: Expr) -> Result<Expr> {
    let call = |expr: Expr| match &expr {
        Expr::ScalarFunction(call) if call.func.name() == NAME => {
            Ok(Transformed::yes(key_set(state, table, &call.args)?))
        }
        _ => Ok(Transformed::no(expr)),
    };
    Ok(filter.transform_up(call)?.data)
}

fn key_set(state: &SessionState, table: &Table, arguments: &[Expr]) -> Result<Expr> {
    let (column, words, syntax) = match arguments {
        [Expr::Column(column), words] => (column, words, QuerySyntax::default()),
        [Expr::Column(column), words, syntax] => {
            let name = text_argument(NAME, "query_syntax", syntax)?;
            (column, words, name.parse().map_err(|error| plan_datafusion_err!("{NAME}: {error}"))?)
        }
        _ => return plan_err!("{NAME}: expected (column, words [, query_syntax])"),
    };
    let Some(replica) = table.provider.downcast_ref::<ReplicaTable>() else {
        return plan_err!("{NAME}: expected a replica, got table {}", table.reference);
    };
    let (snapshot, version) = replica.seen_at(state.config())?;
    let name = &version.definition().name;
    let external = |error| DataFusionError::External(Box::new(error));
    let Some(query) = syntax.query(&text_argument(NAME, "words", words)?) else {
        snapshot.check_text_index(name, column.name()).map_err(external)?;
        return Ok(lit(false));
    };
    let matches = snapshot.text_search(name, column.name(), &query, None).map_err(external)?;
    let types = matches.keys.schema().fields().iter().map(|field| field.data_type().clone()).collect::<Vec<_>>();
    let converter = RowConverter::new(types.into_iter().map(SortField::new).collect())?;
    let keys = converter.convert_columns(matches.keys.columns())?.iter().map(|key| key.owned()).collect();
    let own =
        |field: &Arc<arrow::datatypes::Field>| Expr::Column(Column::new(Some(table.reference.clone()), field.name()));
    let columns = matches.keys.schema().fields().iter().map(own).collect();
    let label = format!("{NAME}({}, {query})", column.name());
    let signature = Signature::variadic_any(Volatility::Stable);
    let set = KeySet { label, set: Arc::new(Keys { converter, keys }), signature };
    Ok(ScalarUDF::from(set).call(columns))
}

#[derive(Debug)]
struct Keys {
    converter: RowConverter,
    keys: HashSet<OwnedRow>,
}

/// Membership of a row's key in a set.
#[derive(Debug)]
struct KeySet {
    label: String,
    set: Arc<Keys>,
    signature: Signature,
}

impl PartialEq for KeySet {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.set, &other.set)
    }
}

impl Eq for KeySet {}

impl Hash for KeySet {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.label.hash(state);
    }
}

impl ScalarUDFImpl for KeySet {
    fn name(&self) -> &str {
        &self.label
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Boolean)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let rows = args.number_rows;
        let columns = args.args.into_iter().map(|arg| arg.into_array(rows)).collect::<Result<Vec<ArrayRef>>>()?;
        let keys = self.set.converter.convert_columns(&columns)?;
        let is_in = keys.iter().map(|key| Some(self.set.keys.contains(&key.owned())));
        Ok(ColumnarValue::Array(Arc::new(is_in.collect::<BooleanArray>())))
    }
}
