//! Each instruction set by name against sums in `f64`, within the bound that the tier certifies.

use super::*;

/// A small deterministic generator; the tests need no randomness beyond "not regular".
fn noise(seed: u64, len: usize) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1_u64 << 23) as f32 - 1.0
    })
    .take(len)
    .collect()
}

fn pad(query: &[f32]) -> Vec<f32> {
    let mut padded = query.to_vec();
    padded.resize(query.len().next_multiple_of(QUERY_PADDING), 0.0);
    padded
}

fn sum(terms: impl Iterator<Item = (f32, f32)>) -> (f64, f64) {
    terms.fold((0.0, 0.0), |(sum, magnitude), (a, b)| {
        let product = f64::from(a) * f64::from(b);
        (sum + product, magnitude + product.abs())
    })
}

/// Within `(dim + 8) u` of the sum of magnitudes.
fn assert_close(got: f32, (exact, magnitude): (f64, f64), dim: usize, what: &str) {
    let bound = (dim + 8) as f64 * 2.0_f64.powi(-24) * magnitude;
    assert!((f64::from(got) - exact).abs() <= bound, "{what}: {got} against {exact} within {bound:e}");
}

const DIMS: [usize; 24] = [1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 23, 24, 25, 31, 32, 33, 47, 48, 63, 64, 96, 383, 384];

fn all_kernels() -> impl Iterator<Item = &'static Kernels> {
    Backend::available().into_iter().filter_map(Backend::kernels)
}

#[test]
fn every_backend_computes_one_query_at_every_tail_and_unaligned_start() {
    for kernels in all_kernels() {
        for dim in DIMS {
            for (count, start) in [(1, 0), (4, 1), (7, 3)] {
                let data = noise(dim as u64, start + dim * (count + 2));
                let data = &data[start..];
                let ids: Vec<u32> = (0..count as u32).map(|i| (i * 5) % (count as u32 + 1)).collect();
                let query = noise(99, dim);
                let rows = Rows::new(data, dim, &ids);
                let (mut dots, mut squares, mut l2) = (vec![0.0; count], vec![0.0; count], vec![0.0; count]);
                kernels.dot_and_square(rows, &pad(&query), &mut dots, &mut squares);
                kernels.l2_squared(rows, &pad(&query), &mut l2);
                let mut l1 = vec![0.0; count];
                kernels.l1(rows, &pad(&query), &mut l1);
                for (i, &id) in ids.iter().enumerate() {
                    let x = &data[id as usize * dim..][..dim];
                    let what = format!("{} dim {dim} row {i}", kernels.backend);
                    assert_close(dots[i], sum(x.iter().copied().zip(query.iter().copied())), dim, &what);
                    assert_close(squares[i], sum(x.iter().map(|&x| (x, x))), dim, &what);
                    let differences = x.iter().zip(&query).map(|(x, q)| (x - q, x - q));
                    assert_close(l2[i], sum(differences), dim, &what);
                    let differences = x.iter().zip(&query).map(|(x, q)| ((x - q).abs(), 1.0));
                    assert_close(l1[i], sum(differences), dim, &what);
                }
            }
        }
    }
}

#[test]
fn every_backend_computes_tiles_of_every_width() {
    for kernels in all_kernels() {
        for &width in kernels.panel_widths {
            for (dim, count) in [(1, 1), (3, 5), (16, 14), (33, 15), (384, 29)] {
                let data = noise(7, dim * count);
                let queries = noise(8, dim * width);
                let components: Vec<f32> = (0..dim * width).map(|i| queries[(i % width) * dim + i / width]).collect();
                let ids: Vec<u32> = (0..count as u32).rev().collect();
                let mut out = vec![0.0; count * width];
                kernels.tile(Rows::new(&data, dim, &ids), Panel { components: &components, width }, &mut out);
                for (i, &id) in ids.iter().enumerate() {
                    for j in 0..width {
                        let x = data[id as usize * dim..][..dim].iter().copied();
                        let exact = sum(x.zip(queries[j * dim..][..dim].iter().copied()));
                        let what = format!("{} {count}x{dim} cell {i},{j}", kernels.backend);
                        assert_close(out[i * width + j], exact, dim, &what);
                    }
                }
            }
        }
    }
}

/// Sums of small whole numbers are exact in any order.
#[test]
fn every_backend_gives_the_same_bits_where_sums_are_exact() {
    let whole = |seed, len| -> Vec<f32> { noise(seed, len).iter().map(|x| (x * 8.0).round()).collect() };
    let total = |terms: &mut dyn Iterator<Item = (f32, f32)>| terms.map(|(a, b)| (a * b) as i32).sum::<i32>() as f32;
    for kernels in all_kernels() {
        let width = kernels.panel_widths[0];
        for dim in DIMS {
            let (count, what) = (9, format!("{} dim {dim}", kernels.backend));
            let data = whole(dim as u64, dim * count);
            let queries: Vec<Vec<f32>> = (0..width as u64).map(|j| whole(1000 + j, dim)).collect();
            let ids: Vec<u32> = (0..count as u32).collect();
            let rows = Rows::new(&data, dim, &ids);
            let of = |f: &dyn Fn(&[f32]) -> f32| -> Vec<f32> { data.chunks_exact(dim).map(f).collect() };
            let dot = |x: &[f32], q: &[f32]| total(&mut x.iter().copied().zip(q.iter().copied()));

            let (mut dots, mut squares, mut l2) = (vec![0.0; count], vec![0.0; count], vec![0.0; count]);
            kernels.dot_and_square(rows, &pad(&queries[0]), &mut dots, &mut squares);
            kernels.l2_squared(rows, &pad(&queries[0]), &mut l2);
            assert_eq!(dots, of(&|x| dot(x, &queries[0])), "{what}");
            assert_eq!(squares, of(&|x| dot(x, x)), "{what}");
            let differences = |x: &[f32]| x.iter().zip(&queries[0]).map(|(x, q)| x - q).collect::<Vec<f32>>();
            assert_eq!(l2, of(&|x| dot(&differences(x), &differences(x))), "{what}");
            let mut l1 = vec![0.0; count];
            kernels.l1(rows, &pad(&queries[0]), &mut l1);
            assert_eq!(l1, of(&|x| differences(x).iter().map(|d| d.abs()).sum()), "{what}");

            let components: Vec<f32> = (0..dim).flat_map(|i| queries.iter().map(move |query| query[i])).collect();
            let mut cells = vec![0.0; count * width];
            kernels.tile(rows, Panel { components: &components, width }, &mut cells);
            let expected = data.chunks_exact(dim).flat_map(|x| queries.iter().map(|query| dot(x, query)));
            assert_eq!(cells, expected.collect::<Vec<f32>>(), "{what}");
        }
    }
}

#[test]
fn survivors_are_the_cells_that_are_not_less_than_their_limit_nan_included() {
    for kernels in all_kernels() {
        let width = kernels.panel_widths[0];
        let tile: Vec<f32> = (0..3 * width).map(|i| if i == 5 { f32::NAN } else { i as f32 }).collect();
        let squares = [0.0, 4.0, f32::INFINITY];
        let (a, b) = (vec![1.0; width], vec![-0.5; width]);
        let t: Vec<f32> = (0..width).map(|j| (j + width) as f32).collect();
        let mut survivors = Vec::new();
        kernels.survivors(&tile, width, &squares, PanelLimits { a: &a, b: &b, t: &t }, &mut survivors);
        // Row 0: i < t everywhere but at the NaN. Row 1: i + 2 - 2 = t. Row 2: inf - inf.
        let mut expected = vec![(0, 5)];
        expected.extend((1..3).flat_map(|row| (0..width as u32).map(move |j| (row, j))));
        assert_eq!(survivors, expected, "{}", kernels.backend);
    }
}

#[test]
fn denormals_and_huge_values_propagate() {
    for kernels in all_kernels() {
        let data = [f32::MAX, f32::MAX, 1e-40, 1e-40, f32::NAN, 0.0, f32::NEG_INFINITY, 0.0];
        let rows = Rows::new(&data, 2, &[0, 1, 2, 3]);
        let (mut dots, mut squares) = ([0.0; 4], [0.0; 4]);
        kernels.dot_and_square(rows, &pad(&[1.0, 1.0]), &mut dots, &mut squares);
        assert!(squares[0].is_infinite(), "{}", kernels.backend);
        assert!(squares[1] < 1e-38, "{}", kernels.backend);
        assert!(squares[2].is_nan(), "{}", kernels.backend);
        assert!(squares[3].is_infinite(), "{}", kernels.backend);
    }
}

#[test]
#[should_panic(expected = "outside")]
fn a_row_outside_the_buffer_is_refused() {
    Rows::new(&[0.0; 8], 4, &[2]);
}
