//! `as_of(table, time)` returns the rows of a history that were valid at a time. The time is in
//! microseconds since the Unix epoch, or a timestamp.

use std::sync::Arc;

use arrow::datatypes::{DataType, TimeUnit};
use datafusion::catalog::{TableFunctionArgs, TableFunctionImpl, TableProvider};
use datafusion::common::{Column, Result, ScalarValue, TableReference, plan_datafusion_err, plan_err};
use datafusion::datasource::{ViewTable, provider_as_source};
use datafusion::logical_expr::{Expr, LogicalPlanBuilder, lit};
use vexact_replica::{OPERATION, ReplicaTable, Replicas, VALID_FROM, VALID_TO};

const NAME: &str = "as_of";

/// The function, for DataFusion.
#[derive(Debug)]
pub(super) struct AsOf {
    pub replicas: Arc<Replicas>,
}

impl TableFunctionImpl for AsOf {
    fn call_with_args(&self, args: TableFunctionArgs) -> Result<Arc<dyn TableProvider>> {
        let [table, time] = args.exprs() else {
            return plan_err!("{NAME}: expected (table, time), got {} arguments", args.exprs().len());
        };
        let name = match table {
            Expr::Literal(value, _) if let Some(Some(name)) = value.try_as_str() => name,
            other => return plan_err!("{NAME}: table: expected text, got {other}"),
        };
        let time = match time {
            Expr::Placeholder(_) => time.clone(),
            Expr::Literal(value, _) => lit(microseconds(value)?),
            other => {
                return plan_err!("{NAME}: time: expected microseconds since the epoch or a timestamp, got {other}");
            }
        };
        let table = ReplicaTable::find(&self.replicas, name)
            .ok_or_else(|| plan_datafusion_err!("{NAME}: table {name:?} is not replicated"))?;
        let schema = table.schema();
        if schema.index_of(VALID_FROM).is_err() {
            return plan_err!("{NAME}: table {name:?} keeps no history: expected sync_mode 'temporal'");
        }
        let reference = TableReference::bare(name);
        let column = |name: &str| Expr::Column(Column::new(Some(reference.clone()), name));
        let is_own = |name: &&String| ![VALID_FROM, VALID_TO, OPERATION].contains(&name.as_str());
        let columns: Vec<Expr> = schema.fields().iter().map(|f| f.name()).filter(is_own).map(|n| column(n)).collect();
        let began = column(VALID_FROM).lt_eq(time.clone());
        let held = column(VALID_TO).is_null().or(column(VALID_TO).gt(time));
        let plan = LogicalPlanBuilder::scan(reference.clone(), provider_as_source(Arc::new(table)), None)?
            .filter(began.and(held))?
            .project(columns)?
            .build()?;
        Ok(Arc::new(ViewTable::new(plan, None)))
    }
}

fn microseconds(value: &ScalarValue) -> Result<i64> {
    let wrong =
        || plan_datafusion_err!("{NAME}: time: expected microseconds since the epoch or a timestamp, got {value}");
    let timestamp = DataType::Timestamp(TimeUnit::Microsecond, None);
    let micros = match value.data_type() {
        integer if integer.is_integer() => value.cast_to(&DataType::Int64).map_err(|_| wrong())?,
        DataType::Timestamp(..) | DataType::Utf8 | DataType::Utf8View | DataType::LargeUtf8 => {
            value.cast_to(&timestamp).and_then(|time| time.cast_to(&DataType::Int64)).map_err(|_| wrong())?
        }
        _ => return Err(wrong()),
    };
    match micros {
        ScalarValue::Int64(Some(micros)) => Ok(micros),
        _ => Err(wrong()),
    }
}
