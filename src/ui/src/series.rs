//! The snapshots of a stream as series to plot.

use chrono::DateTime;
use serde_json::Value;

use super::plot::Point;

/// Points of a plot; more snapshots than that are taken together.
const POINTS: usize = 160;

/// The series of a stream's plots.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Series {
    /// Rows per second, between snapshots.
    pub rates: Vec<Point>,
    /// Milliseconds of the last micro-batch; of several snapshots, the longest.
    pub latencies: Vec<Point>,
    /// Micro-batches that wait; of several snapshots, the most.
    pub backlogs: Vec<Point>,
}

/// Returns the series of the snapshots, which come oldest first. Snapshots without a time are left
/// out. `start` is the time at which the run began.
pub(super) fn series(snapshots: &[Value], start: &str) -> Series {
    let Ok(start) = DateTime::parse_from_rfc3339(start) else { return Series::default() };
    let timed: Vec<(f64, &Value)> = snapshots
        .iter()
        .filter_map(|snapshot| {
            let at = DateTime::parse_from_rfc3339(snapshot["at"].as_str()?).ok()?;
            Some(((at - start).num_milliseconds() as f64 / 1000.0, snapshot))
        })
        .collect();
    let mut found = Series::default();
    let mut before: Option<(f64, f64)> = None;
    for group in timed.chunks(timed.len().div_ceil(POINTS).max(1)) {
        let Some((seconds, last)) = group.last() else { continue };
        let most = |field: &str| group.iter().filter_map(|(_, snapshot)| snapshot[field].as_f64()).reduce(f64::max);
        let point = |value: f64| Point { seconds: *seconds, value };
        found.latencies.extend(most("last_batch_latency_ms").map(point));
        found.backlogs.extend(most("inflight_batches").map(point));
        let Some(rows) = last["rows_processed"].as_f64().or_else(|| last["rows"].as_f64()) else { continue };
        match before {
            // Snapshots of one instant have no speed.
            Some((earlier, _)) if *seconds <= earlier => {}
            Some((earlier, fewer)) => {
                found.rates.push(point(((rows - fewer) / (seconds - earlier)).max(0.0)));
                before = Some((*seconds, rows));
            }
            None => before = Some((*seconds, rows)),
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const START: &str = "2026-01-31T12:00:00.000Z";

    fn snapshot(millis: usize, rows: u64, latency: f64) -> Value {
        let at = format!("2026-01-31T12:{:02}:{:02}.{:03}Z", millis / 60_000, millis / 1000 % 60, millis % 1000);
        json!({"at": at, "rows_processed": rows, "last_batch_latency_ms": latency, "inflight_batches": 2})
    }

    #[test]
    fn speed_is_what_came_between_snapshots() {
        let found = series(
            &[snapshot(1000, 100, 5.0), snapshot(1500, 300, 6.0), snapshot(1500, 400, 7.0), snapshot(3500, 700, 8.0)],
            START,
        );
        let points = |points: &[Point]| points.iter().map(|point| (point.seconds, point.value)).collect::<Vec<_>>();
        assert_eq!(points(&found.rates), [(1.5, 400.0), (3.5, 200.0)]);
        assert_eq!(points(&found.latencies), [(1.0, 5.0), (1.5, 6.0), (1.5, 7.0), (3.5, 8.0)]);
        assert_eq!(points(&found.backlogs).len(), 4);
    }

    #[test]
    fn many_snapshots_are_few_points_that_keep_the_peaks() {
        let snapshots: Vec<Value> =
            (0..5000).map(|n| snapshot(n * 100, n as u64 * 10, if n == 3210 { 99.0 } else { 1.0 })).collect();
        let found = series(&snapshots, START);
        assert!(found.rates.len() <= POINTS && found.latencies.len() <= POINTS, "{}", found.rates.len());
        assert!(found.rates.iter().all(|point| (point.value - 100.0).abs() < 1e-6));
        assert_eq!(found.latencies.iter().filter(|point| point.value == 99.0).count(), 1);
    }

    #[test]
    fn what_is_no_snapshot_is_left_out() {
        let found = series(&[json!(7), json!({"rows_processed": 1}), json!({"at": "x"}), json!({"at": START})], START);
        assert_eq!(found, Series::default());
        assert_eq!(series(&[snapshot(0, 1, 1.0)], "when"), Series::default());
        assert_eq!(series(&[], START), Series::default());
    }
}
