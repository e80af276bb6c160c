//! Each instruction set by name: exact sums at the extremes of codes and weights, and the rejection
//! test with NaN.

use super::*;

fn all_kernels() -> impl Iterator<Item = &'static CodeKernels> {
    Backend::available().into_iter().map(CodeKernels::of)
}

fn noise(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state >> 20
}

#[test]
fn every_backend_sums_codes_exactly() {
    let mut state = 7;
    for form in [CodeForm::Nibbles, CodeForm::Bytes] {
        for stride in [32, 64, 96, 128, 160, 192, 288, 384, 1024] {
            for extreme in [false, true] {
                let rows = 11;
                let mut bytes: Vec<u8> =
                    (0..rows * stride).map(|_| if extreme { 255 } else { noise(&mut state) as u8 }).collect();
                bytes.extend([255; CODE_PADDING]);
                let count = stride * form.codes_per_byte();
                let largest = (i64::from(i32::MAX) / form.largest() / count as i64 - 128).min(WEIGHT_MAX);
                let weight = |state: &mut u64| match extreme {
                    true => largest as i16,
                    false => (noise(state) % (2 * largest as u64 + 1)) as i16 - largest as i16,
                };
                let weights: Vec<i16> = (0..count).map(|_| weight(&mut state)).collect();
                for sign in [1, -1] {
                    let weights: Vec<i16> = weights.iter().map(|k| sign * k).collect();
                    let ids: Vec<u32> = (0..rows as u32).rev().collect();
                    let expected: Vec<i32> = ids
                        .iter()
                        .map(|id| {
                            let row = &bytes[*id as usize * stride..][..stride];
                            let code = |j: usize| match form {
                                CodeForm::Bytes => row[j],
                                CodeForm::Nibbles => (row[j % stride] >> (4 * (j / stride))) & 15,
                            };
                            let sum: i64 = (0..count).map(|j| i64::from(code(j)) * i64::from(weights[j])).sum();
                            i32::try_from(sum).unwrap()
                        })
                        .collect();
                    let query = CodeWeights::new(form, stride, &weights);
                    for kernels in all_kernels() {
                        let mut sums = vec![0; rows];
                        kernels.sums(Codes::new(&bytes, stride, rows), &query, &ids, &mut sums);
                        assert_eq!(sums, expected, "{} {form:?} {stride}", kernels.name);
                        if kernels.has_tile() {
                            let small: Vec<i16> = weights.iter().map(|k| k % 100).collect();
                            let small = CodeWeights::new(form, stride, &small);
                            let mut single = vec![0; rows];
                            kernels.sums(Codes::new(&bytes, stride, rows), &small, &ids, &mut single);
                            let mut tile = CodeTile::default();
                            tile.fill(Codes::new(&bytes, stride, rows), form, &ids);
                            let mut out = vec![0; 3 * tile.rows()];
                            kernels.tile(&tile, &[&query, &small, &query], &mut out);
                            for (line, expected) in out.chunks(tile.rows()).zip([&expected, &single, &expected]) {
                                assert_eq!(line[..rows], expected[..], "{} {form:?} {stride} tile", kernels.name);
                            }
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn a_row_without_residuals_is_never_rejected() {
    let infinite = f32::INFINITY.to_bits();
    for kernels in all_kernels() {
        for inside in [0.0, 1.0] {
            let limits = CodeLimits { base: 0.0, delta: 1.0, inside, tail: 0.0, square: -0.5, limit: 1e30 };
            let words = [infinite; 70];
            for norms in [None, Some(&[2.0; 70][..])] {
                let mut values = [0.0; 70];
                kernels.values(&[-5; 70], &words, norms, &limits, &mut values);
                let mut survivors = Vec::new();
                kernels.survivors(&values, limits.limit, &mut survivors);
                assert_eq!(survivors, (0..70).collect::<Vec<_>>(), "{}", kernels.name);
            }
        }
    }
}

#[test]
fn survivors_are_the_values_that_are_not_less_than_the_limit() {
    let values: Vec<f32> = (0..100).map(|i| if i == 50 { f32::NAN } else { (i % 37) as f32 }).collect();
    let expected: Vec<u32> = (0..100).filter(|i| *i == 50 || i % 37 >= 35).collect();
    for kernels in all_kernels() {
        let mut survivors = Vec::new();
        kernels.survivors(&values, 35.0, &mut survivors);
        assert_eq!(survivors, expected, "{}", kernels.name);
    }
}

#[test]
fn products_of_matrices_are_those_of_plain_loops() {
    for (dim, width) in [(1, 1), (7, 5), (33, 64)] {
        let matrix: Vec<f32> = (0..dim * width).map(|i| (i * 37 % 101) as f32 - 50.0).collect();
        let x: Vec<f64> = (0..dim).map(|i| i as f64 - 3.0).collect();
        let expected: Vec<f64> =
            (0..width).map(|j| (0..dim).map(|i| x[i] * f64::from(matrix[i * width + j])).sum()).collect();
        for kernels in all_kernels() {
            let mut out = vec![0.0; width];
            kernels.add_product(&matrix, &x, &mut out);
            assert_eq!(out, expected, "{}", kernels.name);
            let rows = &matrix[..(dim * width / dim).min(8) * dim];
            let mut outer = vec![0.0; dim * dim];
            kernels.add_outer(rows, dim, &mut outer);
            for (i, j) in (0..dim).flat_map(|i| (i..dim).map(move |j| (i, j))) {
                let sum: f32 = rows.chunks(dim).map(|row| row[i] * row[j]).sum();
                assert_eq!(outer[i * dim + j], f64::from(sum), "{} {i} {j}", kernels.name);
            }
        }
    }
}
