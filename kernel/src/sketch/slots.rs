//! The digits that a basis spends on each direction, and the width of their cells.

use super::basis::Component;

/// A direction's coordinates on the training sample.
pub(super) struct Direction {
    pub values: Vec<f32>,
    mean: f64,
    /// Root mean squares of the coordinate itself and of its difference from the mean.
    size: f64,
    spread: f64,
}

/// The error of a code of this many digits, relative to the spread, for a normal distribution.
const ERRORS: [f64; 4] = [1.0, 0.107, 0.0091, 0.0007];

/// Digits up to which a direction is worth coding.
pub(super) const DIGITS_MAX: usize = 3;

/// Widths of the coded range, in spreads, that are tried for a number of digits.
const RANGES: [&[f64]; 4] = [&[], &[4.2, 5.0, 5.8, 7.0], &[7.0, 8.0, 9.5, 12.0, 18.0, 30.0], &[9.0, 12.0, 20.0, 50.0]];

/// Coordinates of the sample on which the ranges are compared: their errors differ by more than
/// the scatter of so many.
const COMPARED: usize = 1024;

impl Direction {
    pub fn new(values: Vec<f32>) -> Self {
        let count = values.len().max(1) as f64;
        let sums = values.iter().fold((0.0, 0.0), |(a, b), &x| (a + f64::from(x), b + f64::from(x).powi(2)));
        let (mean, square) = (sums.0 / count, sums.1 / count);
        Self { values, mean, size: square.sqrt(), spread: (square - mean * mean).max(0.0).sqrt() }
    }

    /// The component of this many digits, with the range of least error on the sample.
    pub fn component(&self, digits: u8) -> Component {
        let cells = (1_u64 << (4 * digits)) as f64;
        // A coordinate that is constant has a cell of its own, however narrow.
        let spread = self.spread.max(self.size * 1e-4).max(1e-12);
        let stride = self.values.len().div_ceil(COMPARED).max(1);
        let compared = || self.values.iter().step_by(stride);
        let count = compared().count().max(1) as f64;
        let candidate = |range: &f64| {
            let step = (range * spread / cells) as f32;
            let mut component = Component { centre: self.mean as f32, step, weight: 1.0, digits };
            let error: f64 = compared().map(|x| (f64::from(*x) - component.code((*x).into()).1).powi(2)).sum();
            let error = (error / count).sqrt().max(f64::from(step) / 4.0);
            // The factor that makes the bound least where queries are distributed as rows are: see
            // the notes on bounds.
            component.weight = (self.size.max(spread) / error).sqrt() as f32;
            (error, component)
        };
        let best = RANGES[usize::from(digits)].iter().map(candidate).min_by(|a, b| a.0.total_cmp(&b.0));
        best.map_or(Component { centre: 0.0, step: 1.0, weight: 1.0, digits }, |(_, component)| component)
    }
}

/// Spends `slots` digits where they make the expected slack of the bound least: a direction without
/// digits adds its mean square (by the tail), one with digits the product of its size and its
/// error. Returns the digits of each direction.
pub(super) fn spend(directions: &[Direction], slots: usize) -> Vec<u8> {
    let slack = |direction: &Direction, digits: usize| match digits {
        0 => direction.size * direction.size,
        _ => direction.size * direction.spread * ERRORS[digits],
    };
    let mut gains: Vec<(f64, usize)> = Vec::with_capacity(directions.len() * DIGITS_MAX);
    for (i, direction) in directions.iter().enumerate() {
        gains.extend((0..DIGITS_MAX).map(|n| (slack(direction, n) - slack(direction, n + 1), i)));
    }
    // Gains fall with each digit of a direction, so the largest ones are a valid choice.
    gains.sort_by(|a, b| b.0.total_cmp(&a.0));
    let mut digits = vec![0; directions.len()];
    gains.iter().take(slots).filter(|(gain, _)| *gain > 0.0).for_each(|(_, i)| digits[*i] += 1);
    digits
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_directions_have_more_digits() {
        let direction = |scale: f32| Direction::new((0..64).map(|i| scale * ((i * 37 % 64) as f32 - 31.5)).collect());
        let directions: Vec<Direction> = [30.0, 1.0, 1.0, 0.9, 0.01].map(direction).into();
        assert_eq!(spend(&directions, 5), [3, 1, 1, 0, 0]);
        assert_eq!(spend(&directions, 6), [3, 1, 1, 1, 0]);
        assert!(spend(&directions, 100).iter().all(|digits| *digits == 3));
    }

    #[test]
    fn codes_stand_for_values_within_half_a_step() {
        let direction = Direction::new((0..1000).map(|i| (i as f32 / 100.0).sin() + 5.0).collect());
        for digits in 1..=3 {
            let component = direction.component(digits);
            for &x in &direction.values {
                let (cell, coded) = component.code(f64::from(x));
                assert!(cell < 1 << (4 * digits));
                assert!((coded - f64::from(x)).abs() <= f64::from(component.step) * 0.500_001, "{digits} {x} {coded}");
            }
        }
    }
}
