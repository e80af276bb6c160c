//! The worker of each task.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use datafusion::common::Result;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::physical_plan::ExecutionPlan;
use datafusion_distributed::{DistributedLeafExec, RouteTasksEvent, RouteTasksEventResponse, RouteTasksHandler};
use url::Url;

use super::scan::parquet_scan;

/// Sends a task to the worker with the highest hash of the worker and the task's files, as far as
/// tasks are spread evenly. So the same files go to the same worker in each query, as long as the
/// workers are the same, and most do if one comes or goes.
pub(crate) struct Rendezvous {
    pub workers: Vec<Url>,
}

impl RouteTasksHandler for Rendezvous {
    fn handle(&self, event: RouteTasksEvent) -> Option<Result<RouteTasksEventResponse>> {
        let keys = keys(event.plan, event.task_count);
        Some(Ok(RouteTasksEventResponse::new(assign(&self.workers, &keys))))
    }
}

/// Returns, for each task, what tells its files from others.
fn keys(plan: &Arc<dyn ExecutionPlan>, tasks: usize) -> Vec<String> {
    let mut keys = vec![String::new(); tasks];
    // The closure never fails.
    let _ = plan.apply(|node| {
        if let Some(leaf) = node.downcast_ref::<DistributedLeafExec>() {
            for (key, variant) in keys.iter_mut().zip(leaf.variants()) {
                let first = parquet_scan(variant.as_ref())
                    .and_then(|scan| scan.file_groups.iter().flat_map(|group| group.iter()).next());
                if let Some(file) = first {
                    let start = file.range.as_ref().map_or(0, |range| range.start);
                    *key = format!("{}:{start}", file.object_meta.location);
                }
            }
            return Ok(TreeNodeRecursion::Stop);
        }
        Ok(TreeNodeRecursion::Continue)
    });
    keys
}

fn assign(workers: &[Url], keys: &[String]) -> Vec<Url> {
    let most = keys.len().div_ceil(workers.len().max(1));
    let mut load = vec![0; workers.len()];
    let of = |key: &String, worker: &Url| {
        let mut hasher = DefaultHasher::new();
        (key, worker.as_str()).hash(&mut hasher);
        hasher.finish()
    };
    let mut assigned = Vec::with_capacity(keys.len());
    for key in keys {
        let free = (0..workers.len()).filter(|worker| load[*worker] < most);
        if let Some(worker) = free.max_by_key(|worker| of(key, &workers[*worker])) {
            load[worker] += 1;
            assigned.push(workers[worker].clone());
        }
    }
    assigned
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    fn workers(count: usize) -> Vec<Url> {
        (0..count).map(|i| Url::parse(&format!("http://w{i}:1")).unwrap()).collect()
    }

    #[test]
    fn tasks_are_spread_evenly_and_stay_where_their_files_are() {
        let keys: Vec<String> = (0..30).map(|i| format!("data/f{i}.parquet:0")).collect();
        let (few, many) = (workers(3), workers(4));
        let assigned = assign(&few, &keys);
        assert_eq!(assigned, assign(&few, &keys));
        let mut load: HashMap<&Url, usize> = HashMap::new();
        for url in &assigned {
            *load.entry(url).or_default() += 1;
        }
        assert_eq!(load.len(), 3);
        assert!(load.values().all(|tasks| *tasks == 10), "{load:?}");
        let moved = assign(&many, &keys).iter().zip(&assigned).filter(|(now, before)| now != before).count();
        assert!(moved < 20, "{moved} of 30 moved");
    }
}
