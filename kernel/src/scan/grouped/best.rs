//! The rows of one group of a search by group.

use crate::candidates::{Candidate, resolve};

/// The rows of one group that may be among its k best, by all threads.
#[derive(Debug)]
pub(super) struct Best {
    pub items: Vec<Candidate>,
    /// Keys above it cannot be in the result.
    pub threshold: f64,
    /// Number of rows at which they are narrowed again.
    settles_at: usize,
}

impl Best {
    /// No rows yet, of keys up to a threshold.
    pub fn new(k: usize, threshold: f64) -> Self {
        Self { items: Vec::new(), threshold, settles_at: k }
    }

    /// Adds a row, and narrows the rows once there are enough of them. `exact` computes a key where
    /// too many intervals overlap to decide.
    pub fn push(&mut self, candidate: Candidate, k: usize, has_ties: bool, exact: impl FnMut(u64) -> Option<f64>) {
        if candidate.low > self.threshold {
            return;
        }
        self.items.push(candidate);
        if self.items.len() < self.settles_at || self.items.len() < k {
            return;
        }
        self.items.select_nth_unstable_by(k - 1, |a, b| a.high.total_cmp(&b.high));
        self.threshold = self.threshold.min(self.items[k - 1].high);
        let threshold = self.threshold;
        self.items.retain(|item| item.low <= threshold);
        if self.items.len() > k.saturating_add(k.max(16) / 2) {
            self.items = resolve(std::mem::take(&mut self.items), exact);
            if let Some(worst) = self.items.get(k - 1) {
                self.threshold = self.threshold.min(worst.high);
            }
            match has_ties {
                true => keep_tied(&mut self.items, k),
                false => self.items.truncate(k),
            }
        }
        // Doubling bounds the work where all rows are tied.
        self.settles_at = (self.items.len() + k.clamp(4, 1 << 20)).max(2 * self.items.len().saturating_sub(k));
    }
}

/// Keeps the first `k` of sorted rows with exact keys, and the rows that are tied with the last.
pub(super) fn keep_tied(items: &mut Vec<Candidate>, k: usize) {
    if let Some(worst) = k.checked_sub(1).and_then(|last| items.get(last)).copied() {
        let is_tied = |item: &Candidate| item.low.total_cmp(&worst.low).is_le();
        items.truncate(items.partition_point(is_tied));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::candidates::narrow;

    #[test]
    fn ties_with_the_last_are_kept_only_if_asked_for() {
        for (has_ties, expected) in [(false, 3), (true, 5000)] {
            let mut rows = Best::new(3, f64::INFINITY);
            for position in (0..5000).rev() {
                rows.push(Candidate { low: 0.9, high: 1.1, position }, 3, has_ties, |_| Some(1.0));
                assert!(has_ties || rows.items.len() < 64);
            }
            let mut items = resolve(narrow(rows.items, Some(3)), |_| Some(1.0));
            match has_ties {
                true => keep_tied(&mut items, 3),
                false => items.truncate(3),
            }
            assert_eq!(items.len(), expected);
            assert_eq!(items.iter().take(3).map(|item| item.position).collect::<Vec<_>>(), [0, 1, 2]);
        }
    }

    #[test]
    fn rows_above_the_threshold_are_not_kept() {
        let mut rows = Best::new(2, f64::INFINITY);
        for position in 0..1000 {
            let key = position as f64;
            rows.push(Candidate { low: key, high: key, position }, 2, false, |_| None);
        }
        assert!(rows.items.len() <= 2 && rows.threshold == 1.0, "{rows:?}");
    }
}
