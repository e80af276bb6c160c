//! The answers themselves, as bits: every processor gives those of x86-64.
//!
//! Other tests compare with the reference, which runs on the processor under test as well.

use std::sync::Arc;

use arrow_array::{Array, FixedSizeListArray, Float16Array, Float32Array, Float64Array};
use arrow_schema::Field;
use half::f16;
use vexact_kernel::{Metric, Search, VectorColumn};

const DIM: usize = 37;

/// Numbers in [-1, 1) of 50 bits, by integer arithmetic and exact operations alone.
fn noise() -> impl FnMut() -> f64 {
    let mut state = 1_u32;
    let mut next = move || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        f64::from(state >> 8) / f64::from(1 << 23) - 1.0
    };
    move || next() + next() / f64::from(1 << 26)
}

/// FNV-1a of the rows and the bits of the scores of a search and of a query batch.
fn digest(metric: Metric, values: Arc<dyn Array>, queries: &[Vec<f64>]) -> u64 {
    let item = Arc::new(Field::new_list_field(values.data_type().clone(), true));
    let array = FixedSizeListArray::new(item, DIM as i32, values, None);
    let column = VectorColumn::try_new(&array).unwrap();
    let alone = Search::new(metric, &queries[0]).unwrap().top_k(100).run(&column).unwrap();
    let batch = Search::batch(metric, queries).unwrap().top_k(30).run(&column).unwrap();
    let lists = std::iter::once((&alone.rows, &alone.scores));
    let lists = lists.chain(batch.rankings.iter().map(|ranking| (&ranking.rows, &ranking.scores)));
    let hits = lists.flat_map(|(rows, scores)| rows.iter().zip(scores));
    let bytes = hits.flat_map(|(row, score)| [*row, score.to_bits()]).flat_map(u64::to_le_bytes);
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

#[test]
fn answers_have_the_same_bits_on_every_processor() {
    let mut noise = noise();
    let values: Vec<f64> = (0..700 * DIM).map(|_| noise()).collect();
    let queries: Vec<Vec<f64>> = (0..19).map(|_| (0..DIM).map(|_| noise()).collect()).collect();
    let singles = values.iter().map(|x| *x as f32);
    let columns: [Arc<dyn Array>; 3] = [
        Arc::new(Float32Array::from_iter_values(singles.clone())),
        Arc::new(Float64Array::from_iter_values(values.iter().copied())),
        // `f16::from_f64` rounds once on ARM and twice on x86-64.
        Arc::new(Float16Array::from_iter_values(singles.map(f16::from_f32))),
    ];
    let digests = [Metric::Cosine, Metric::Dot, Metric::L2, Metric::L2Squared]
        .map(|metric| columns.each_ref().map(|values| digest(metric, Arc::clone(values), &queries)));
    let expected = [
        [0x4fed_d87b_f298_44cc, 0x8474_d60e_ce62_e25d, 0x07f5_38e0_2099_53fa],
        [0x03ab_2794_4359_d81b, 0xc5d7_c45f_aed4_bbb6, 0xf4ed_77b0_1a7b_9078],
        [0x00f6_bb4b_10eb_a53c, 0x4ca7_fc0e_0830_6c09, 0x20b7_710d_625c_ee29],
        [0xd035_9bc8_4fb1_1041, 0xb4ab_d498_9a22_9650, 0x0b2a_f875_11d7_7d92],
    ];
    assert_eq!(digests, expected, "got {digests:#018x?}");
}
