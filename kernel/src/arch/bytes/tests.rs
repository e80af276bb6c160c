//! Each instruction set by name: the sums of the simplest loops, at every tail, unaligned, at the
//! extremes of the components and across the parts of long vectors.

use super::*;

fn all_kernels() -> impl Iterator<Item = &'static ByteKernels> {
    Backend::available().into_iter().map(ByteKernels::of)
}

fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as u8
    })
    .take(len)
    .collect()
}

fn number(byte: u8, sign: Sign) -> i64 {
    match sign {
        Sign::Signed => i64::from(byte as i8),
        Sign::Unsigned => i64::from(byte),
    }
}

/// Compares every operation over `bytes` (rows of `dim` after `start` others) with plain loops.
fn check(bytes: &[u8], dim: usize, queries: &[Vec<u8>]) {
    let count = bytes.len() / dim;
    let ids: Vec<u32> = (0..count as u32).rev().collect();
    let rows = ByteRows::new(bytes, dim, &ids);
    let row = |id: &u32| &bytes[*id as usize * dim..][..dim];
    for kernels in all_kernels() {
        for sign in [Sign::Signed, Sign::Unsigned] {
            let numbers = |x: &[u8]| -> Vec<i64> { x.iter().map(|x| number(*x, sign)).collect() };
            let words: Vec<WordQuery> = queries
                .iter()
                .map(|query| numbers(query).iter().map(|q| *q as f64).collect::<Vec<_>>())
                .map(|query| WordQuery::new(&query, sign).unwrap())
                .collect();
            let sum = |x: &[u8], q: &[u8], term: fn(i64, i64) -> i64| -> f64 {
                numbers(x).iter().zip(numbers(q)).map(|(x, q)| term(*x, q)).sum::<i64>() as f64
            };
            for group in 1..=queries.len().min(GROUP) {
                let what = format!("{} {sign:?} {count}x{dim} {group}", kernels.name);
                let chosen: Vec<&WordQuery> = words[..group].iter().collect();
                let (mut dots, mut squares) = (vec![0.0; group * count], vec![0.0; count]);
                kernels.products(rows, sign, &chosen, &mut dots, Some(&mut squares));
                let expected = queries[..group].iter().flat_map(|q| ids.iter().map(|id| sum(row(id), q, |x, q| x * q)));
                assert_eq!(dots, expected.collect::<Vec<_>>(), "{what}");
                let expected: Vec<f64> = ids.iter().map(|id| sum(row(id), row(id), |x, q| x * q)).collect();
                assert_eq!(squares, expected, "{what}");
                let before = std::mem::take(&mut dots);
                dots.resize(before.len(), 0.0);
                kernels.products(rows, sign, &chosen, &mut dots, None);
                assert_eq!(dots, before, "{what}");
            }
            let mut l1 = vec![0.0; count];
            kernels.l1(rows, sign, &words[0], &mut l1);
            let expected: Vec<f64> = ids.iter().map(|id| sum(row(id), &queries[0], |x, q| (x - q).abs())).collect();
            assert_eq!(l1, expected, "{} {sign:?} {dim}", kernels.name);
        }
        let bits = |x: &[u8], combine: fn(u8, u8) -> u8| -> f64 {
            x.iter().zip(&queries[0]).map(|(x, q)| f64::from(combine(*x, *q).count_ones())).sum()
        };
        let of = |combine: fn(u8, u8) -> u8| -> Vec<f64> { ids.iter().map(|id| bits(row(id), combine)).collect() };
        let (mut differing, mut both, mut either) = (vec![0.0; count], vec![0.0; count], vec![0.0; count]);
        kernels.differing(rows, &queries[0], &mut differing);
        kernels.common(rows, &queries[0], &mut both, &mut either);
        assert_eq!(differing, of(|x, q| x ^ q), "{} {dim}", kernels.name);
        assert_eq!((both, either), (of(|x, q| x & q), of(|x, q| x | q)), "{} {dim}", kernels.name);
    }
}

#[test]
fn every_backend_is_exact_at_every_tail_and_unaligned_start() {
    for dim in (1..70).chain([127, 128, 129, 384]) {
        for (count, start) in [(1, 0), (7, 3), (13, 1)] {
            let bytes = noise(dim as u64, start + count * dim);
            let queries: Vec<Vec<u8>> = (0..4).map(|i| noise(1000 + i, dim)).collect();
            check(&bytes[start..], dim, &queries);
        }
    }
}

#[test]
fn every_backend_is_exact_at_the_extremes() {
    for dim in [16, 33, 32_768, 32_769, 70_001] {
        for (x, q) in [(128, 128), (128, 127), (127, 127), (255, 255), (0, 255), (255, 0), (0, 128)] {
            check(&vec![x; 2 * dim], dim, &vec![vec![q; dim]; GROUP]);
        }
    }
}

#[test]
fn queries_are_whole_numbers_in_range() {
    for (sign, good, bad) in [
        (Sign::Signed, [-128.0, -0.0, 127.0], [-129.0, 128.0, 0.5]),
        (Sign::Unsigned, [0.0, -0.0, 255.0], [-1.0, 256.0, 0.5]),
    ] {
        assert!(WordQuery::new(&good, sign).is_some());
        assert!(bad.iter().all(|q| WordQuery::new(&[*q], sign).is_none()), "{sign:?}");
    }
}

#[test]
#[should_panic(expected = "outside")]
fn a_row_outside_the_bytes_is_refused() {
    ByteRows::new(&[0; 8], 4, &[2]);
}
