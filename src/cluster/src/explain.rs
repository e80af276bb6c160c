//! Where the parts of a query run, in its explain.

use std::sync::Arc;

use datafusion::physical_plan::ExecutionPlan;
use vexact_sql::{Explained, Facts, without_long_vectors};

use super::exec::{ClusterExec, Ran};

/// Adds to the strategy of a plan its workers and, once it has run, its tasks, attempts and bytes over
/// the network; to the physical plan its stages.
pub(crate) fn explain(plan: &Arc<dyn ExecutionPlan>, explained: &mut Explained) {
    if explained.strategy.workers.is_some() {
        return;
    }
    explained.strategy.workers = Some(match plan.downcast_ref::<ClusterExec>() {
        None => no_workers("the query scans no Parquet files"),
        Some(cluster) => match cluster.ran() {
            None => vec![("workers", cluster.addresses().join(","))],
            Some(ran) => {
                if !ran.stages.is_empty() && !explained.physical.contains("DistributedExec") {
                    let stages = without_long_vectors(&ran.stages);
                    explained.physical = format!("{}\n\n{stages}", explained.physical.trim_end());
                }
                summary(&ran)
            }
        },
    });
}

fn no_workers(reason: &str) -> Facts {
    vec![("workers", "none".to_owned()), ("workers_reason", reason.to_owned())]
}

fn summary(ran: &Ran) -> Facts {
    let tasks = ran.traffic.tasks();
    if ran.stages.is_empty() {
        return no_workers("no part of the query can be evaluated by another process");
    }
    let mut facts = vec![
        ("workers", ran.workers.join(",")),
        ("stages", ran.traffic.stages().to_string()),
        ("tasks", tasks.len().to_string()),
    ];
    let slowest = tasks.iter().max_by_key(|task| task.elapsed_us());
    let fastest = tasks.iter().min_by_key(|task| task.elapsed_us());
    let timed =
        [("slowest_task_us", "slowest_task_worker", slowest), ("fastest_task_us", "fastest_task_worker", fastest)];
    for (us, worker, task) in timed {
        if let Some(task) = task {
            facts.extend([(us, task.elapsed_us().to_string()), (worker, task.worker.clone())]);
        }
    }
    let rows: u64 = tasks.iter().map(|task| task.rows()).sum();
    let lost = if ran.lost.is_empty() { "none".into() } else { ran.lost.join(",") };
    facts.extend([
        ("rows_over_network", rows.to_string()),
        ("bytes_over_network", ran.traffic.received_bytes().to_string()),
        ("plan_bytes_sent", ran.traffic.sent_bytes().to_string()),
        ("attempts", ran.attempts.to_string()),
        ("lost_workers", lost),
    ]);
    facts
}
