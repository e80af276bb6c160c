//! Where the parts of a query run, in its explain.

use std::fmt::Write;
use std::sync::Arc;

use datafusion::physical_plan::ExecutionPlan;
use vexact_sql::{Explained, without_long_vectors};

use super::exec::{ClusterExec, Ran};

/// Adds to the strategy of a plan its workers and, once it has run, its tasks, attempts and bytes over
/// the network; to the physical plan its stages.
pub(crate) fn explain(plan: &Arc<dyn ExecutionPlan>, explained: &mut Explained) {
    if explained.strategy.contains("\nworkers=") {
        return;
    }
    let mut lines = String::from("workers=");
    // Writing to a String cannot fail.
    let _ = match plan.downcast_ref::<ClusterExec>() {
        None => writeln!(lines, "none\nworkers_reason=the query scans no Parquet files"),
        Some(cluster) => match cluster.ran() {
            None => writeln!(lines, "{}", cluster.addresses().join(",")),
            Some(ran) => {
                if !ran.stages.is_empty() && !explained.physical.contains("DistributedExec") {
                    let stages = without_long_vectors(&ran.stages);
                    explained.physical = format!("{}\n\n{stages}", explained.physical.trim_end());
                }
                write!(lines, "{}", summary(&ran))
            }
        },
    };
    explained.strategy = format!("{}\n{lines}", explained.strategy.trim_end());
}

fn summary(ran: &Ran) -> String {
    let tasks = ran.traffic.tasks();
    if ran.stages.is_empty() {
        return "none\nworkers_reason=no part of the query can be evaluated by another process\n".into();
    }
    let mut lines = format!("{}\nstages={}\ntasks={}\n", ran.workers.join(","), ran.traffic.stages(), tasks.len());
    let slowest = tasks.iter().max_by_key(|task| task.elapsed_us());
    let fastest = tasks.iter().min_by_key(|task| task.elapsed_us());
    for (label, task) in [("slowest_task", slowest), ("fastest_task", fastest)] {
        if let Some(task) = task {
            let _ = writeln!(lines, "{label}_us={}\n{label}_worker={}", task.elapsed_us(), task.worker);
        }
    }
    let rows: u64 = tasks.iter().map(|task| task.rows()).sum();
    let lost = if ran.lost.is_empty() { "none".into() } else { ran.lost.join(",") };
    let _ = write!(
        lines,
        "rows_over_network={rows}\nbytes_over_network={}\nplan_bytes_sent={}\nattempts={}\nlost_workers={lost}\n",
        ran.traffic.received_bytes(),
        ran.traffic.sent_bytes(),
        ran.attempts,
    );
    lines
}
