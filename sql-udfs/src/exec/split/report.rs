//! The report of one task of a search, as text.

use std::fmt;
use std::str::FromStr;

use datafusion::common::{DataFusionError, internal_datafusion_err};
use vexact_kernel::{Execution, Report};

/// The counts and times of a report. As text it is its numbers in their order, `-` for none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TaskReport([Option<u64>; 10]);

impl TaskReport {
    pub fn of(report: &Report) -> Self {
        let execution = report.execution.as_ref();
        let of = |value: fn(&Execution) -> u64| execution.map(value);
        Self([
            report.candidate_rows,
            report.skipped_rows,
            report.bytes_planned,
            of(|execution| execution.rows_scanned),
            of(|execution| execution.pruned),
            of(|execution| execution.refined),
            execution.and_then(|execution| execution.rows_left),
            of(|execution| execution.bytes_read),
            of(|execution| execution.scan_us),
            of(|execution| execution.refine_us),
        ])
    }

    /// Returns a report with these counts and times.
    pub fn onto(&self, report: Report) -> Report {
        let [candidates, skipped, bytes_planned, scanned, pruned, refined, rows_left, bytes_read, scan_us, refine_us] =
            self.0;
        let execution = scanned.map(|rows_scanned| Execution {
            rows_scanned,
            pruned: pruned.unwrap_or(0),
            refined: refined.unwrap_or(0),
            rows_left,
            bytes_read: bytes_read.unwrap_or(0),
            scan_us: scan_us.unwrap_or(0),
            refine_us: refine_us.unwrap_or(0),
        });
        Report { candidate_rows: candidates, skipped_rows: skipped, bytes_planned, execution, ..report }
    }
}

impl fmt::Display for TaskReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, value) in self.0.iter().enumerate() {
            let separator = if i == 0 { "" } else { " " };
            match value {
                Some(value) => write!(f, "{separator}{value}")?,
                None => write!(f, "{separator}-")?,
            }
        }
        Ok(())
    }
}

impl FromStr for TaskReport {
    type Err = DataFusionError;

    fn from_str(text: &str) -> Result<Self, DataFusionError> {
        let invalid = || internal_datafusion_err!("the report of a task: expected 10 numbers, got {text:?}");
        let mut values = [None; 10];
        let mut words = text.split(' ');
        for value in &mut values {
            *value = match words.next().ok_or_else(invalid)? {
                "-" => None,
                word => Some(word.parse().map_err(|_| invalid())?),
            };
        }
        match words.next() {
            None => Ok(Self(values)),
            Some(_) => Err(invalid()),
        }
    }
}

#[cfg(test)]
mod tests {
    use vexact_kernel::{Metric, Tier};

    use super::*;

    #[test]
    fn a_report_survives_its_text() {
        let planned = Report::planned(Metric::L2, Some(3), Some(5), Tier::Auto);
        let execution = Execution {
            rows_scanned: 9,
            pruned: 8,
            refined: 1,
            rows_left: None,
            bytes_read: 108,
            scan_us: 7,
            refine_us: 0,
        };
        let report = Report { candidate_rows: Some(9), execution: Some(execution), ..planned.clone() };
        let text = TaskReport::of(&report).to_string();
        assert_eq!(text, "9 - - 9 8 1 - 108 7 0");
        assert_eq!(text.parse::<TaskReport>().unwrap().onto(planned.clone()), report);
        let unknown = TaskReport::of(&planned).to_string();
        assert_eq!(unknown.parse::<TaskReport>().unwrap().onto(planned.clone()), planned);
        for bad in ["", "1 2", "1 2 3 4 5 6 7 8 9 x", "1 2 3 4 5 6 7 8 9 10 11"] {
            assert!(bad.parse::<TaskReport>().is_err(), "{bad:?}");
        }
    }
}
