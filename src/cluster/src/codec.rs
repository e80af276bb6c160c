//! The operators of vexact in the plans that are sent to workers.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::StreamWriter;
use datafusion::common::{Result, internal_datafusion_err, internal_err};
use datafusion::execution::TaskContext;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::Literal;
use datafusion::physical_plan::ExecutionPlan;
use datafusion_proto::physical_plan::{
    PhysicalExtensionCodec, PhysicalPlanDecodeContext, PhysicalProtoConverterExtension,
};
use datafusion_proto::protobuf::PhysicalExprNode;
use prost::Message;
use vexact_kernel::Metric;
use vexact_sql::exec::{Join, PartialJoinExec, PartialTopKExec, Scoring, SqlFunction, TopK};
use vexact_sql::{scalar_of_vector, vector_of_scalar};

use super::sent::SentRowsExec;
use super::task::TaskExec;

/// The version of these messages: another version's plans are rejected.
pub(crate) const PLAN_FORMAT: u32 = 2;

#[derive(Clone, PartialEq, Message)]
struct Node {
    #[prost(uint32, tag = "1")]
    format: u32,
    #[prost(oneof = "Operator", tags = "2, 3, 4, 5")]
    operator: Option<Operator>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
enum Operator {
    #[prost(message, tag = "2")]
    Task(TaskNode),
    #[prost(message, tag = "3")]
    TopK(TopKNode),
    #[prost(message, tag = "4")]
    Join(JoinNode),
    #[prost(message, tag = "5")]
    Rows(RowsNode),
}

#[derive(Clone, PartialEq, Message)]
struct TaskNode {}

#[derive(Clone, PartialEq, Message)]
struct TopKNode {
    #[prost(uint64, tag = "1")]
    k: u64,
    #[prost(uint64, tag = "2")]
    vector: u64,
    /// The metric of a search, or the function of SQL.
    #[prost(string, optional, tag = "3")]
    metric: Option<String>,
    #[prost(string, optional, tag = "4")]
    function: Option<String>,
    /// The query, if it is not NULL.
    #[prost(double, repeated, tag = "5")]
    query: Vec<f64>,
    #[prost(bool, tag = "6")]
    has_query: bool,
    #[prost(bool, tag = "7")]
    nulls_first: bool,
    #[prost(bool, tag = "8")]
    negative_nans_first: bool,
    #[prost(uint64, repeated, tag = "9")]
    columns: Vec<u64>,
    #[prost(uint64, optional, tag = "10")]
    group_by: Option<u64>,
    #[prost(message, optional, tag = "11")]
    predicate: Option<PhysicalExprNode>,
}

#[derive(Clone, PartialEq, Message)]
struct JoinNode {
    /// One column of vectors, as an Arrow IPC stream.
    #[prost(bytes = "vec", tag = "1")]
    queries: Vec<u8>,
    #[prost(string, tag = "2")]
    metric: String,
    #[prost(uint64, tag = "3")]
    vector: u64,
    #[prost(uint64, optional, tag = "4")]
    k: Option<u64>,
    #[prost(double, optional, tag = "5")]
    radius: Option<f64>,
    #[prost(message, optional, tag = "6")]
    predicate: Option<PhysicalExprNode>,
    #[prost(uint64, repeated, tag = "7")]
    columns: Vec<u64>,
}

#[derive(Clone, PartialEq, Message)]
struct RowsNode {
    /// One batch for each partition, as an Arrow IPC stream.
    #[prost(bytes = "vec", tag = "1")]
    partitions: Vec<u8>,
}

/// Encodes and decodes the operators of vexact.
#[derive(Debug)]
pub(crate) struct Codec;

impl Codec {
    fn operator(&self, node: &dyn ExecutionPlan, converter: &dyn PhysicalProtoConverterExtension) -> Result<Operator> {
        let encoded = |predicate: &Option<Arc<dyn PhysicalExpr>>| {
            predicate.as_ref().map(|predicate| converter.physical_expr_to_proto(predicate, self)).transpose()
        };
        if node.is::<TaskExec>() {
            return Ok(Operator::Task(TaskNode {}));
        }
        if let Some(rows) = node.downcast_ref::<SentRowsExec>() {
            return Ok(Operator::Rows(RowsNode { partitions: ipc(&rows.schema(), rows.partitions())? }));
        }
        if let Some(part) = node.downcast_ref::<PartialTopKExec>() {
            let top_k = part.top_k();
            let literal = top_k.query.downcast_ref::<Literal>();
            let literal = literal.ok_or_else(|| internal_datafusion_err!("a part of a search has a literal query"))?;
            let query = vector_of_scalar(literal.value())?;
            let (metric, function) = match top_k.scoring {
                Scoring::Search(metric) => (Some(metric.name().to_owned()), None),
                Scoring::Sql(function) => (None, Some(function.name().to_owned())),
            };
            return Ok(Operator::TopK(TopKNode {
                k: top_k.k as u64,
                vector: top_k.vector as u64,
                metric,
                function,
                has_query: query.is_some(),
                query: query.unwrap_or_default(),
                nulls_first: top_k.nulls_first,
                negative_nans_first: top_k.negative_nans_first,
                columns: top_k.columns.iter().map(|column| *column as u64).collect(),
                group_by: top_k.group_by.map(|column| column as u64),
                predicate: encoded(&top_k.predicate)?,
            }));
        }
        if let Some(part) = node.downcast_ref::<PartialJoinExec>() {
            let join = part.join();
            return Ok(Operator::Join(JoinNode {
                queries: ipc(&part.queries().schema(), std::slice::from_ref(part.queries()))?,
                metric: join.metric.name().into(),
                vector: join.vectors.1 as u64,
                k: join.k.map(|k| k as u64),
                radius: join.radius,
                predicate: encoded(&join.predicate)?,
                columns: part.columns().iter().map(|column| *column as u64).collect(),
            }));
        }
        internal_err!("{} is no operator of a task", node.name())
    }
}

impl PhysicalExtensionCodec for Codec {
    fn try_encode(
        &self,
        node: Arc<dyn ExecutionPlan>,
        buf: &mut Vec<u8>,
        converter: &dyn PhysicalProtoConverterExtension,
    ) -> Result<()> {
        let operator = Some(self.operator(node.as_ref(), converter)?);
        let node = Node { format: PLAN_FORMAT, operator };
        node.encode(buf).map_err(|error| internal_datafusion_err!("a plan cannot be encoded: {error}"))
    }

    fn try_decode(
        &self,
        buf: &[u8],
        inputs: &[Arc<dyn ExecutionPlan>],
        ctx: &TaskContext,
        converter: &dyn PhysicalProtoConverterExtension,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let node = Node::decode(buf).map_err(|error| internal_datafusion_err!("a plan cannot be decoded: {error}"))?;
        if node.format != PLAN_FORMAT {
            return internal_err!("a plan: expected format {PLAN_FORMAT}, got {}", node.format);
        }
        if let Some(Operator::Rows(node)) = &node.operator {
            let (schema, partitions) = batches(&node.partitions)?;
            return Ok(Arc::new(SentRowsExec::new(schema, partitions)));
        }
        let [input] = inputs else {
            return internal_err!("an operator of a task has one input, got {}", inputs.len());
        };
        let (input, schema) = (Arc::clone(input), input.schema());
        let decoded = |predicate: Option<PhysicalExprNode>| {
            let context = PhysicalPlanDecodeContext::new(ctx, self);
            predicate.map(|node| converter.proto_to_physical_expr(&node, &schema, &context)).transpose()
        };
        let columns = |columns: Vec<u64>| columns.into_iter().map(|column| column as usize).collect();
        Ok(match node.operator {
            None | Some(Operator::Rows(_)) => return internal_err!("a plan: expected an operator, got none"),
            Some(Operator::Task(TaskNode {})) => Arc::new(TaskExec::new(input)),
            Some(Operator::TopK(node)) => {
                let scoring = match (node.metric, node.function) {
                    (Some(metric), None) => Scoring::Search(parse_metric(&metric)?),
                    (None, Some(name)) => Scoring::Sql(
                        SqlFunction::of_name(&name)
                            .ok_or_else(|| internal_datafusion_err!("a plan: {name:?} is no distance"))?,
                    ),
                    _ => return internal_err!("a plan: expected a metric or a function"),
                };
                let query = match node.has_query {
                    true => scalar_of_vector(node.query),
                    false => datafusion::common::ScalarValue::Null,
                };
                let top_k = TopK {
                    predicate: decoded(node.predicate)?,
                    bounds: None,
                    vector: node.vector as usize,
                    query: Arc::new(Literal::new(query)),
                    scoring,
                    negative_nans_first: node.negative_nans_first,
                    nulls_first: node.nulls_first,
                    k: node.k as usize,
                    group_by: node.group_by.map(|column| column as usize),
                    columns: columns(node.columns),
                    output: Vec::new(),
                };
                Arc::new(PartialTopKExec::try_new(input, top_k)?)
            }
            Some(Operator::Join(node)) => {
                let join = Join {
                    metric: parse_metric(&node.metric)?,
                    vectors: (0, node.vector as usize),
                    predicate: decoded(node.predicate)?,
                    k: node.k.map(|k| k as usize),
                    radius: node.radius,
                    columns: Vec::new(),
                };
                Arc::new(PartialJoinExec::try_new(batch(&node.queries)?, input, join, columns(node.columns))?)
            }
        })
    }
}

fn parse_metric(name: &str) -> Result<Metric> {
    name.parse().map_err(|error| internal_datafusion_err!("a plan: {error}"))
}

fn ipc(schema: &SchemaRef, batches: &[RecordBatch]) -> Result<Vec<u8>> {
    let mut writer = StreamWriter::try_new(Vec::new(), schema)?;
    for batch in batches {
        writer.write(batch)?;
    }
    Ok(writer.into_inner()?)
}

fn batches(bytes: &[u8]) -> Result<(SchemaRef, Vec<RecordBatch>)> {
    let reader = StreamReader::try_new(bytes, None)?;
    let schema = reader.schema();
    Ok((schema, reader.collect::<std::result::Result<_, _>>()?))
}

fn batch(bytes: &[u8]) -> Result<RecordBatch> {
    match <[RecordBatch; 1]>::try_from(batches(bytes)?.1) {
        Ok([batch]) => Ok(batch),
        Err(others) => internal_err!("a plan: expected one batch of queries, got {}", others.len()),
    }
}
