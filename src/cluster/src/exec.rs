//! `ClusterExec`: runs a plan on workers, again if one is lost.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

use arrow::array::RecordBatch;
use datafusion::common::{Result, internal_err};
use datafusion::datasource::sink::DataSinkExec;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::EquivalenceProperties;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PlanProperties};
use futures::stream::{self, once};
use futures::{StreamExt, TryStreamExt};
use parking_lot::Mutex;
use vexact_core::error::Error;

use super::cluster::{Cluster, ReadyWorker};
use super::errors::{external, lost_worker, name, received};
use super::run::start;
use super::traffic::Traffic;

/// Maximum bytes of rows that wait for the end of the query: until then it can start again.
const HELD_BYTES: usize = 32 << 20;

/// A plan whose parts run on workers. Its child is the plan of one process, with whose rows it
/// answers; the plan of the workers is made anew by each execution. One output partition.
#[derive(Debug)]
pub(crate) struct ClusterExec {
    plan: Arc<dyn ExecutionPlan>,
    cluster: Arc<Cluster>,
    properties: Arc<PlanProperties>,
    ran: Arc<Mutex<Option<Ran>>>,
}

/// The last execution.
#[derive(Debug, Clone, Default)]
pub(crate) struct Ran {
    pub attempts: usize,
    /// The workers of the last attempt.
    pub workers: Vec<String>,
    /// The workers that were lost in this or earlier attempts.
    pub lost: Vec<String>,
    pub traffic: Arc<Traffic>,
    pub stages: String,
}

impl ClusterExec {
    pub fn new(plan: Arc<dyn ExecutionPlan>, cluster: Arc<Cluster>) -> Self {
        let inner = plan.properties();
        // Partitions follow each other: only a single one keeps its order.
        let equivalences = match inner.partitioning.partition_count() {
            0 | 1 => inner.eq_properties.clone(),
            _ => EquivalenceProperties::new(plan.schema()),
        };
        let properties = PlanProperties::new(
            equivalences,
            Partitioning::UnknownPartitioning(1),
            inner.emission_type,
            inner.boundedness,
        );
        Self { plan, cluster, properties: Arc::new(properties), ran: Arc::default() }
    }

    /// Returns the last execution; `None` if there was none.
    pub fn ran(&self) -> Option<Ran> {
        self.ran.lock().clone()
    }

    /// Returns the workers' addresses as they were given.
    pub fn addresses(&self) -> &[String] {
        &self.cluster.options.workers
    }
}

impl DisplayAs for ClusterExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "ClusterExec: workers=[{}]", self.addresses().join(", "))
    }
}

impl ExecutionPlan for ClusterExec {
    vexact_sql::one_child_plan!(ClusterExec, plan, |self, plan| Self::new(plan, Arc::clone(&self.cluster)));

    fn maintains_input_order(&self) -> Vec<bool> {
        vec![true]
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        if partition != 0 {
            return internal_err!("ClusterExec has one partition, got number {partition}");
        }
        let attempts = Attempts {
            retries: if writes(&self.plan) { 0 } else { self.cluster.options.retries },
            plan: Arc::clone(&self.plan),
            cluster: Arc::clone(&self.cluster),
            context,
            ran: Arc::clone(&self.ran),
        };
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), once(attempts.run()).try_flatten())))
    }
}

/// Returns true if a plan has an effect, which must not happen twice.
fn writes(plan: &Arc<dyn ExecutionPlan>) -> bool {
    plan.is::<DataSinkExec>() || plan.children().into_iter().any(writes)
}

/// The attempts of one execution.
struct Attempts {
    plan: Arc<dyn ExecutionPlan>,
    cluster: Arc<Cluster>,
    context: Arc<TaskContext>,
    retries: usize,
    ran: Arc<Mutex<Option<Ran>>>,
}

impl Attempts {
    /// Returns the rows of the first attempt in which no worker is lost. Rows are held back until the
    /// query has ended, or until there are many: from then on a lost worker fails the query.
    async fn run(self) -> Result<impl futures::Stream<Item = Result<RecordBatch>> + Send> {
        let mut ran = Ran::default();
        loop {
            ran.attempts += 1;
            let workers = self.workers(&mut ran).await?;
            ran.traffic = Arc::default();
            ran.workers = workers.iter().map(|worker| name(&worker.url)).collect();
            let (plan, context) = (Arc::clone(&self.plan), Arc::clone(&self.context));
            let traffic = Arc::clone(&ran.traffic);
            let failed = match start(Arc::clone(&self.cluster), plan, context, workers.into(), traffic).await {
                Err(error) => error,
                Ok(started) => {
                    ran.stages = started.stages;
                    *self.ran.lock() = Some(ran.clone());
                    match held(started.rows).await {
                        Ok((held, rest)) => {
                            let held = stream::iter(held).map(Ok);
                            return Ok(held.chain(rest.map_err(received)));
                        }
                        Err(error) => error,
                    }
                }
            };
            match lost_worker(&failed).map(str::to_owned) {
                Some(worker) => {
                    self.cluster.channels.forget(&worker);
                    if ran.attempts > self.retries {
                        return Err(failed);
                    }
                    ran.lost.push(worker);
                }
                None => return Err(received(failed)),
            }
        }
    }

    /// Returns the workers of the next attempt.
    async fn workers(&self, ran: &mut Ran) -> Result<Vec<ReadyWorker>> {
        let (ready, failed) = self.cluster.ready(&ran.lost).await;
        let mut lost = Vec::new();
        for error in failed {
            match &error {
                Error::Worker { worker, is_lost: true, .. } if self.retries > 0 => {
                    ran.lost.push(worker.clone());
                    lost.push(error.to_string());
                }
                // Without retries each worker has to be there; a rejection is a mistake.
                _ => return Err(external(error)),
            }
        }
        if ready.is_empty() {
            let problem = match lost.is_empty() {
                true => format!("no other worker is left: lost {}", ran.lost.join(", ")),
                false => format!("none of the workers can be used: {}", lost.join("; ")),
            };
            let worker = self.cluster.options.workers.join(", ");
            return Err(external(Error::Worker { worker, problem, is_lost: false }));
        }
        Ok(ready)
    }
}

/// Reads the rows until they end or are many. Returns them, and the rest.
async fn held(mut rows: SendableRecordBatchStream) -> Result<(VecDeque<RecordBatch>, SendableRecordBatchStream)> {
    let (mut held, mut bytes) = (VecDeque::new(), 0);
    while bytes <= HELD_BYTES {
        match rows.try_next().await? {
            Some(batch) => {
                bytes += batch.get_array_memory_size();
                held.push_back(batch);
            }
            None => break,
        }
    }
    Ok((held, rows))
}
