//! Eigenvectors of a symmetric matrix: Householder's tridiagonal form, then QL with implicit shifts
//! (Wilkinson and Reinsch, "Linear Algebra", 1971); for many dimensions, orthogonal iteration
//! first.
//!
//! Nothing depends on how accurate they are: a sketch certifies the basis that it has.

/// A symmetric matrix, `n` rows of `n`.
pub(super) struct Symmetric {
    pub n: usize,
    pub values: Vec<f64>,
}

/// Dimensions up to which all eigenvectors are computed directly.
const DIRECT_MAX: usize = 512;

/// Rounds of the orthogonal iteration: the spectrum of embeddings falls slowly, and so does the
/// gain of more.
const ROUNDS: usize = 3;

impl Symmetric {
    /// Copies the upper triangle to the lower.
    pub fn from_upper(n: usize, mut values: Vec<f64>) -> Self {
        for i in 0..n {
            for j in 0..i {
                values[i * n + j] = values[j * n + i];
            }
        }
        Self { n, values }
    }

    fn row(&self, i: usize) -> &[f64] {
        &self.values[i * self.n..][..self.n]
    }

    /// Up to `count` orthonormal vectors of the largest eigenvalues, largest first, one after the
    /// other. `start` are `count` vectors to begin with where the matrix is large.
    pub fn leading(self, count: usize, start: impl FnOnce() -> Vec<f64>) -> Vec<f64> {
        let n = self.n;
        if n <= DIRECT_MAX {
            let mut vectors = self.eigenvectors();
            vectors.truncate(count * n);
            return vectors;
        }
        let mut vectors = start();
        for _ in 0..ROUNDS {
            vectors = self.times(&vectors);
            orthonormalize(&mut vectors, n);
        }
        // Rayleigh and Ritz: the eigenvectors within the span.
        let count = vectors.len() / n;
        let images = self.times(&vectors);
        let mut small = vec![0.0; count * count];
        for i in 0..count {
            for j in i..count {
                small[i * count + j] = dot(&vectors[i * n..][..n], &images[j * n..][..n]);
            }
        }
        let turns = Symmetric::from_upper(count, small).eigenvectors();
        let mut turned = vec![0.0; count * n];
        for (out, turn) in turned.chunks_exact_mut(n).zip(turns.chunks_exact(count)) {
            for (&factor, vector) in turn.iter().zip(vectors.chunks_exact(n)) {
                add(out, factor, vector);
            }
        }
        turned
    }

    fn times(&self, vectors: &[f64]) -> Vec<f64> {
        let n = self.n;
        let mut out = vec![0.0; vectors.len()];
        // A few vectors at a time, so that the matrix is read once for them.
        for (outs, vectors) in out.chunks_mut(16 * n).zip(vectors.chunks(16 * n)) {
            for i in 0..n {
                for (out, vector) in outs.chunks_exact_mut(n).zip(vectors.chunks_exact(n)) {
                    add(out, vector[i], self.row(i));
                }
            }
        }
        out
    }

    /// All eigenvectors, largest eigenvalue first, one after the other.
    fn eigenvectors(self) -> Vec<f64> {
        let n = self.n;
        let (mut diagonal, mut beside, reflectors) = self.tridiagonal();
        let mut vectors = vec![0.0; n * n];
        (0..n).for_each(|i| vectors[i * n + i] = 1.0);
        ql(&mut diagonal, &mut beside, &mut vectors);
        for vector in vectors.chunks_exact_mut(n) {
            for (k, reflector) in reflectors.iter().enumerate().rev() {
                let part = &mut vector[k + 1..];
                let factor = -2.0 * dot(part, reflector);
                add(part, factor, reflector);
            }
        }
        let mut order: Vec<usize> = (0..n).collect();
        order.sort_by(|a, b| diagonal[*b].total_cmp(&diagonal[*a]));
        order.iter().flat_map(|i| vectors[i * n..][..n].iter().copied()).collect()
    }

    /// The diagonal, the elements beside it, and the unit vector of each reflection, which acts on
    /// the elements after its ordinal.
    fn tridiagonal(mut self) -> (Vec<f64>, Vec<f64>, Vec<Vec<f64>>) {
        let n = self.n;
        let (mut diagonal, mut beside, mut reflectors) = (Vec::new(), Vec::new(), Vec::new());
        for k in 0..n {
            diagonal.push(self.values[k * n + k]);
            if k + 1 == n {
                beside.push(0.0);
                break;
            }
            let mut v = self.row(k)[k + 1..].to_vec();
            let length = dot(&v, &v).sqrt();
            let target = if v[0] > 0.0 { -length } else { length };
            v[0] -= target;
            let norm = dot(&v, &v).sqrt();
            if k + 2 == n || norm == 0.0 {
                // Nothing to reflect: a zero vector does nothing.
                beside.push(self.values[k * n + k + 1]);
                reflectors.push(vec![0.0; n - k - 1]);
                continue;
            }
            v.iter_mut().for_each(|x| *x /= norm);
            beside.push(target);
            let mut p: Vec<f64> = (k + 1..n).map(|i| dot(&self.row(i)[k + 1..], &v)).collect();
            let middle = dot(&v, &p);
            add(&mut p, -middle, &v);
            for i in 0..v.len() {
                let row = &mut self.values[(k + 1 + i) * n..][k + 1..n];
                let (a, b) = (-2.0 * v[i], -2.0 * p[i]);
                row.iter_mut().zip(&p).zip(&v).for_each(|((x, p), v)| *x += a * p + b * v);
            }
            reflectors.push(v);
        }
        (diagonal, beside, reflectors)
    }
}

/// Turns a tridiagonal matrix into its eigenvalues (in `diagonal`), and the rows of `vectors` into
/// its eigenvectors.
fn ql(diagonal: &mut [f64], beside: &mut [f64], vectors: &mut [f64]) {
    let n = diagonal.len();
    for l in 0..n {
        // Each eigenvalue takes two or three rounds; a limit, because nothing depends on accuracy.
        for _ in 0..60 {
            let is_small = |i: &usize| beside[*i].abs() <= f64::EPSILON * (diagonal[*i].abs() + diagonal[*i + 1].abs());
            let m = (l..n - 1).find(is_small).unwrap_or(n - 1);
            if m == l {
                break;
            }
            let half = (diagonal[l + 1] - diagonal[l]) / (2.0 * beside[l]);
            let mut g = diagonal[m] - diagonal[l] + beside[l] / (half + half.hypot(1.0).copysign(half));
            let (mut sine, mut cosine, mut shift) = (1.0, 1.0, 0.0);
            let mut is_split = false;
            for i in (l..m).rev() {
                let (f, b) = (sine * beside[i], cosine * beside[i]);
                let r = f.hypot(g);
                beside[i + 1] = r;
                if r == 0.0 {
                    diagonal[i + 1] -= shift;
                    beside[m] = 0.0;
                    is_split = true;
                    break;
                }
                (sine, cosine) = (f / r, g / r);
                g = diagonal[i + 1] - shift;
                let turn = (diagonal[i] - g) * sine + 2.0 * cosine * b;
                shift = sine * turn;
                diagonal[i + 1] = g + shift;
                g = cosine * turn - b;
                let (low, high) = vectors[i * n..(i + 2) * n].split_at_mut(n);
                for (x, y) in low.iter_mut().zip(high) {
                    let old = *y;
                    *y = sine * *x + cosine * old;
                    *x = cosine * *x - sine * old;
                }
            }
            if !is_split {
                diagonal[l] -= shift;
                beside[l] = g;
                beside[m] = 0.0;
            }
        }
    }
}

/// Gram and Schmidt, twice; vectors that depend on earlier ones become zero and are dropped.
fn orthonormalize(vectors: &mut Vec<f64>, n: usize) {
    let mut kept = 0;
    for i in 0..vectors.len() / n {
        let (done, rest) = vectors.split_at_mut(i * n);
        let vector = &mut rest[..n];
        let before = dot(vector, vector).sqrt();
        for _ in 0..2 {
            for other in done[..kept * n].chunks_exact(n) {
                let factor = -dot(vector, other);
                add(vector, factor, other);
            }
        }
        let norm = dot(vector, vector).sqrt();
        if norm > before * 1e-9 {
            vector.iter_mut().for_each(|x| *x /= norm);
            vectors.copy_within(i * n..(i + 1) * n, kept * n);
            kept += 1;
        }
    }
    vectors.truncate(kept * n);
}

/// Lanes of the sums, so that the compiler may use registers for them.
const LANES: usize = 8;

fn dot(a: &[f64], b: &[f64]) -> f64 {
    let mut sums = [0.0; LANES];
    let (a, a_rest) = a.as_chunks::<LANES>();
    let (b, b_rest) = b.as_chunks::<LANES>();
    for (a, b) in a.iter().zip(b) {
        for i in 0..LANES {
            sums[i] += a[i] * b[i];
        }
    }
    sums.iter().sum::<f64>() + a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum::<f64>()
}

fn add(out: &mut [f64], factor: f64, vector: &[f64]) {
    out.iter_mut().zip(vector).for_each(|(out, x)| *out += factor * x);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn symmetric(n: usize, rank: usize) -> Symmetric {
        let mut state = 1_u64;
        let mut noise = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 40) as f64 / (1_u64 << 23) as f64 - 1.0
        };
        let vectors: Vec<Vec<f64>> = (0..rank).map(|_| (0..n).map(|_| noise()).collect()).collect();
        let mut values = vec![0.0; n * n];
        for (scale, x) in vectors.iter().enumerate() {
            for (i, j) in (0..n).flat_map(|i| (i..n).map(move |j| (i, j))) {
                values[i * n + j] += x[i] * x[j] / (1.0 + scale as f64);
            }
        }
        Symmetric::from_upper(n, values)
    }

    #[test]
    fn eigenvectors_are_orthonormal_and_stretched_in_descending_order() {
        for (n, rank) in [(1, 1), (2, 2), (3, 1), (40, 40), (64, 5), (33, 0)] {
            let matrix = symmetric(n, rank);
            let largest = matrix.values.iter().fold(1e-300_f64, |m, x| m.max(x.abs()));
            let copy = Symmetric { n, values: matrix.values.clone() };
            let vectors = matrix.leading(n, Vec::new);
            let mut last = f64::INFINITY;
            for (i, x) in vectors.chunks(n).enumerate() {
                for (j, y) in vectors.chunks(n).enumerate() {
                    assert!((dot(x, y) - f64::from(u8::from(i == j))).abs() < 1e-10, "{n} {rank}: {i} {j}");
                }
                let image = copy.times(x);
                let value = dot(x, &image);
                for (image, x) in image.iter().zip(x) {
                    assert!((image - value * x).abs() < 1e-9 * largest * n as f64, "{n} {rank}: {image} {x} {value}");
                }
                assert!(value <= last + 1e-9 * largest);
                last = value;
            }
        }
    }

    #[test]
    fn iteration_finds_the_span_of_a_large_matrix_of_low_rank() {
        let n = DIRECT_MAX + 8;
        let matrix = symmetric(n, 6);
        let trace: f64 = (0..n).map(|i| matrix.values[i * n + i]).sum();
        let copy = Symmetric { n, values: matrix.values.clone() };
        let start = symmetric(n, 8).values[..12 * n].to_vec();
        let vectors = matrix.leading(12, || start);
        assert!((1..=12).contains(&(vectors.len() / n)));
        let kept: f64 = vectors.chunks(n).map(|x| dot(x, &copy.times(x))).sum();
        assert!((kept - trace).abs() < 1e-6 * trace, "{kept} of {trace}");
    }
}
