//! Where the parts of a query run, in its explain.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;

use datafusion::physical_plan::ExecutionPlan;
use vexact_sql::{Explained, Facts, without_long_vectors};

use super::exec::{ClusterExec, Ran};
use super::traffic::Task;

/// Adds to the strategy of a plan its workers and, once it has run, its tasks, attempts and bytes over
/// the network; to the physical plan its stages.
pub(crate) fn explain(plan: &Arc<dyn ExecutionPlan>, explained: &mut Explained) {
    if explained.strategy.workers.is_some() {
        return;
    }
    explained.strategy.workers = Some(match plan.downcast_ref::<ClusterExec>() {
        None => no_workers("the query scans no Parquet files, and computes nothing over tables in memory"),
        Some(cluster) => match cluster.ran() {
            None => vec![("workers", cluster.addresses().join(","))],
            Some(ran) => {
                if !ran.stages.is_empty() && !explained.physical.contains("DistributedExec") {
                    let stages = tree(&without_long_vectors(&ran.stages), &ran.traffic.tasks_by_stage());
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

/// Returns the stages of a plan as an indented tree, from the text with frames that the engine of
/// tasks makes. The scan of each task has the task's worker, time and rows.
fn tree(stages: &str, tasks: &BTreeMap<(usize, usize), Arc<Task>>) -> String {
    let mut text = String::new();
    let mut stage = 0;
    for line in stages.lines() {
        let framed = line.trim_start();
        let indent = &line[..line.len() - framed.len()];
        if let Some(title) = framed.strip_prefix('┌') {
            let title = title.trim_start_matches('─').trim().replace(" ── ", ": ");
            let number = title.strip_prefix("Stage ").and_then(|rest| rest.split(':').next());
            stage = number.and_then(|number| number.trim().parse().ok()).unwrap_or(stage);
            let _ = writeln!(text, "{indent}{}", title.trim_end_matches('─').trim());
        } else if let Some(operator) = framed.strip_prefix('│') {
            let operator = operator.strip_prefix(' ').unwrap_or(operator).trim_end();
            let _ = write!(text, "{indent}  {}", operator.replace("[Stage ", "[stage "));
            let task = operator.trim_start().strip_prefix('t').and_then(|rest| rest.split_once(':'));
            let task = task.and_then(|(number, _)| tasks.get(&(stage, number.parse().ok()?)));
            if let Some(task) = task {
                let (worker, us, rows) = (&task.worker, task.elapsed_us(), task.rows());
                let _ = write!(text, ", metrics=[worker={worker}, elapsed_us={us}, rows={rows}]");
            }
            text.push('\n');
        }
    }
    text
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

#[cfg(test)]
mod tests {
    use super::super::traffic::Traffic;
    use super::*;

    const STAGES: &str = "\
┌───── DistributedExec
│ MergeTopKExec: k=3
│   [Stage 1] => NetworkCoalesceExec: input_tasks=2
└──────────────────────────────────────────────────
  ┌───── Stage 1 ── tasks=2, partitions=2
  │ TaskExec
  │   DistributedLeafExec:
  │     t0: DataSourceExec: a
  │     t1: DataSourceExec: b
  └──────────────────────────────────────────────────
";

    #[test]
    fn stages_are_an_indented_tree_with_the_time_of_each_task() {
        let traffic = Traffic::default();
        traffic.begin_task("w2:1".into(), (1, 1)).add(7);
        let text = tree(STAGES, &traffic.tasks_by_stage());
        let lines: Vec<&str> = text.lines().collect();
        let expected = [
            "DistributedExec",
            "  MergeTopKExec: k=3",
            "    [stage 1] => NetworkCoalesceExec: input_tasks=2",
            "  Stage 1: tasks=2, partitions=2",
            "    TaskExec",
            "      DistributedLeafExec:",
            "        t0: DataSourceExec: a",
        ];
        assert_eq!(lines[..7], expected);
        assert!(lines[7].starts_with("        t1: DataSourceExec: b, metrics=[worker=w2:1, elapsed_us="), "{text}");
        assert!(lines[7].ends_with(", rows=7]") && lines.len() == 8, "{text}");
    }
}
