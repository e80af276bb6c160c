//! The rows that may still be among the k best of one query, known by intervals.

use std::sync::atomic::{AtomicU64, Ordering};

/// A row and an interval that holds its key (smaller is closer).
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Candidate {
    pub low: f64,
    pub high: f64,
    pub position: u64,
}

/// A key that at least k rows are known not to exceed, shared by all threads; it only goes down.
#[derive(Debug)]
pub(crate) struct SharedThreshold(AtomicU64);

/// Maps a float to an integer of the same order.
fn ordered(x: f64) -> u64 {
    let bits = x.to_bits();
    if x.is_sign_negative() { !bits } else { bits | (1 << 63) }
}

fn unordered(bits: u64) -> f64 {
    f64::from_bits(if bits >> 63 == 1 { bits & !(1 << 63) } else { !bits })
}

impl SharedThreshold {
    pub fn new(threshold: f64) -> Self {
        Self(AtomicU64::new(ordered(threshold)))
    }

    pub fn get(&self) -> f64 {
        unordered(self.0.load(Ordering::Relaxed))
    }

    pub fn lower(&self, threshold: f64) {
        self.0.fetch_min(ordered(threshold), Ordering::Relaxed);
    }
}

/// One thread's candidates of one query. Memory stays within a small multiple of k.
#[derive(Debug)]
pub(crate) struct Candidates {
    k: Option<usize>,
    items: Vec<Candidate>,
    /// Keys above it cannot be in the result.
    threshold: f64,
    /// Rows of the threshold's key that come after this position are not in the result.
    last: u64,
}

impl Candidates {
    /// Allocates nothing, however large `k`.
    pub fn new(k: Option<usize>, threshold: f64) -> Self {
        Self { k, items: Vec::new(), threshold, last: u64::MAX }
    }

    pub fn threshold(&self) -> f64 {
        self.threshold
    }

    /// Takes over another thread's threshold. Returns true if it is lower than the own one.
    pub fn learn(&mut self, threshold: f64) -> bool {
        let is_lower = threshold < self.threshold;
        if is_lower {
            self.threshold = threshold;
            self.last = u64::MAX;
        }
        is_lower
    }

    /// Adds a row. Returns true if the threshold went down. `exact` computes a key where too many
    /// intervals overlap to decide.
    pub fn push(&mut self, candidate: Candidate, exact: impl FnMut(u64) -> Option<f64>) -> bool {
        let is_beyond = candidate.low == self.threshold && candidate.position > self.last;
        if candidate.low > self.threshold || is_beyond {
            return false;
        }
        self.items.push(candidate);
        // Often enough that the threshold stays fresh, seldom enough that selection costs O(1) a
        // row.
        let is_full = self.k.is_some_and(|k| self.items.len() >= k.saturating_add(k.max(16)));
        is_full && self.compact(exact)
    }

    /// Narrows the candidates to those that may be among the k best; whether the threshold went
    /// down.
    pub fn settle(&mut self, exact: impl FnMut(u64) -> Option<f64>) -> bool {
        self.compact(exact)
    }

    fn compact(&mut self, exact: impl FnMut(u64) -> Option<f64>) -> bool {
        let Some(k) = self.k.filter(|k| *k <= self.items.len()) else { return false };
        self.items.select_nth_unstable_by(k - 1, |a, b| a.high.total_cmp(&b.high));
        let mut threshold = self.items[k - 1].high;
        self.items.retain(|candidate| candidate.low <= threshold);
        let mut last = u64::MAX;
        if self.items.len() > k + k.max(16) / 2 {
            let items = std::mem::take(&mut self.items);
            self.items = resolve(items, exact);
            self.items.truncate(k);
            // A row whose exact key does not exist was no candidate: then nothing is known about
            // the k-th.
            if let Some(worst) = self.items.get(k - 1) {
                threshold = worst.high;
                last = worst.position;
            }
        }
        let is_lower = self.learn(threshold);
        if threshold == self.threshold {
            self.last = self.last.min(last);
        }
        is_lower
    }

    pub fn into_items(self) -> Vec<Candidate> {
        self.items
    }
}

/// Keeps those of all threads' candidates that can be among the k best.
pub(crate) fn narrow(mut items: Vec<Candidate>, k: Option<usize>) -> Vec<Candidate> {
    if let Some(k) = k.filter(|k| *k < items.len()) {
        items.select_nth_unstable_by(k - 1, |a, b| a.high.total_cmp(&b.high));
        let threshold = items[k - 1].high;
        items.retain(|candidate| candidate.low <= threshold);
    }
    items
}

/// Computes the keys that are not known yet, and sorts by (key, position).
pub(crate) fn resolve(items: Vec<Candidate>, mut exact: impl FnMut(u64) -> Option<f64>) -> Vec<Candidate> {
    let mut resolved: Vec<Candidate> = items
        .into_iter()
        .filter_map(|candidate| {
            let key = if candidate.low == candidate.high { candidate.low } else { exact(candidate.position)? };
            Some(Candidate { low: key, high: key, ..candidate })
        })
        .collect();
    resolved.sort_unstable_by(|a, b| a.low.total_cmp(&b.low).then(a.position.cmp(&b.position)));
    resolved
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shared_threshold_keeps_the_order_of_floats() {
        let keys = [f64::NEG_INFINITY, -1e300, -1.0, -5e-324, 0.0, 5e-324, 1.0, f64::INFINITY];
        for window in keys.windows(2) {
            let shared = SharedThreshold::new(window[1]);
            assert_eq!(shared.get(), window[1]);
            shared.lower(window[0]);
            assert_eq!(shared.get(), window[0]);
            shared.lower(window[1]);
            assert_eq!(shared.get(), window[0]);
        }
    }

    #[test]
    fn memory_stays_small_when_all_rows_tie() {
        let mut candidates = Candidates::new(Some(3), f64::INFINITY);
        for position in (0..10_000).rev() {
            candidates.push(Candidate { low: 0.9, high: 1.1, position }, |_| Some(1.0));
            assert!(candidates.items.len() < 32);
        }
        let positions: Vec<u64> = resolve(narrow(candidates.into_items(), Some(3)), |_| Some(1.0))
            .into_iter()
            .take(3)
            .map(|candidate| candidate.position)
            .collect();
        assert_eq!(positions, [0, 1, 2]);
    }

    #[test]
    fn rows_that_tie_with_the_worst_and_come_later_are_not_kept() {
        let mut candidates = Candidates::new(Some(3), f64::INFINITY);
        let mut kept = 0;
        for position in 0..10_000 {
            let before = candidates.items.len();
            candidates.push(Candidate { low: 1.0, high: 1.0, position }, |_| None);
            kept += usize::from(candidates.items.len() != before);
        }
        assert!(kept < 32, "{kept}");
        candidates.push(Candidate { low: 0.5, high: 0.5, position: 10_000 }, |_| None);
        let mut positions: Vec<u64> =
            resolve(candidates.into_items(), |_| None).iter().map(|candidate| candidate.position).collect();
        positions.truncate(3);
        assert_eq!(positions, [10_000, 0, 1]);
    }

    #[test]
    fn a_huge_k_allocates_nothing_up_front() {
        let mut candidates = Candidates::new(Some(1 << 63), f64::INFINITY);
        candidates.push(Candidate { low: 1.0, high: 1.0, position: 0 }, |_| None);
        assert_eq!(candidates.items.len(), 1);
        assert!(candidates.items.capacity() < 64);
    }
}
