//! Values on which implementations differ.

use vexact::htap::Param;

use crate::replication::random::Random;

const TEXTS: [&str; 60] = [
    "",
    " ",
    "a",
    "A",
    "aBc",
    "ÄÖÜ äöü ß",
    "İı",
    "ΣΑΣ",
    "日本語",
    "a\u{301}",
    "🙂x🙂",
    "a\0b",
    "\0",
    "0",
    "-0",
    "+0",
    "00012",
    "12abc",
    " -3.5e2x",
    "-3.5e2",
    "+7",
    "+-7",
    "- 7",
    "\t\n\u{b}\u{c}\r 42",
    "\u{a0}42",
    "9223372036854775807",
    "9223372036854775808",
    "-9223372036854775808",
    "-9223372036854775809",
    "99999999999999999999999999",
    "-99999999999999999999999999",
    "18446744073709551616",
    "00000000000000000000000000009",
    "0x10",
    "1_000",
    "1e3",
    "1e",
    "1e+",
    ".5",
    ".",
    "-.5e-3z",
    "5.",
    "1.5.2",
    "1e400",
    "-1e400",
    "1e-400",
    "4.9e-324",
    "2.2250738585072014e-308",
    "1.7976931348623157e308",
    "179769313486231580793e289",
    "123456789012345678901234567890.123456789",
    "3500000000000000.2500001",
    "inf",
    "nan",
    "Infinity",
    "true",
    "NULL",
    "2020-02-29",
    "2024-12-31 23:59:59.9996",
    "2460000.5",
];

const REALS: [f64; 60] = [
    0.0,
    -0.0,
    0.5,
    -0.5,
    1.5,
    2.5,
    -2.5,
    0.05,
    0.15,
    0.25,
    0.35,
    1.005,
    2.675,
    1.45,
    8.345,
    -1.005,
    0.1,
    0.2,
    0.3,
    49.47,
    1.0,
    -1.0,
    100.0,
    123456.789,
    1e14,
    1e15,
    1e16,
    999999999999999.9,
    123456789012345680.0,
    9007199254740991.0,
    9007199254740992.0,
    4503599627370495.5,
    4503599627370496.5,
    4503599627370497.0,
    2251799813685248.0,
    0.49999999999999994,
    9223372036854774784.0,
    9223372036854775807.0,
    -9223372036854775808.0,
    -9223372036854777856.0,
    1e19,
    1e300,
    -1e300,
    1.7976931348623157e308,
    5e-324,
    2.2250738585072014e-308,
    1e-5,
    0.0001,
    0.00001234,
    1e-10,
    9.9e27,
    9.903520314283043e27,
    f64::INFINITY,
    f64::NEG_INFINITY,
    3.123456789012345,
    1.0e21,
    1.2345678901234567,
    0.1234567890123456,
    1234567.8949999999,
    2440587.5,
];

const INTEGERS: [i64; 14] = [
    0,
    1,
    -1,
    2,
    7,
    100,
    -100,
    i64::MAX,
    i64::MIN,
    i64::MAX - 1,
    1 << 53,
    (1 << 53) + 1,
    1_700_000_000,
    -210_866_760_001,
];

/// Returns each value of a kind beside some of the others, and rows of random ones.
pub fn values() -> Vec<Vec<Param>> {
    let mut random = Random::new(7);
    let mut rows = Vec::new();
    for at in 0..1500 {
        let text = match at {
            0 => Param::Null,
            at if at <= TEXTS.len() => Param::Text(TEXTS[at - 1].into()),
            _ => Param::Text(text(&mut random)),
        };
        let real = match at {
            0 => Param::Null,
            at if at <= REALS.len() => Param::Real(REALS[at - 1]),
            _ => Param::Real(real(&mut random)),
        };
        let integer = if at == 0 { Param::Null } else { Param::Integer(INTEGERS[at % INTEGERS.len()]) };
        let bool = [Param::Null, Param::Integer(0), Param::Integer(1)][at % 3].clone();
        let blob = if at == 0 { Param::Null } else { Param::Bytes(vec![0xff; at % 5]) };
        let number = [Param::Null, Param::Integer(at as i64), Param::Real(at as f64 + 0.5)][at % 3].clone();
        rows.push(vec![integer, real, text, bool, blob, number]);
    }
    rows
}

/// Returns text that is almost a number, or letters.
fn text(random: &mut Random) -> String {
    let mut text = String::new();
    let letters = random.chance(30);
    for _ in 0..random.below(24) {
        let part = match letters {
            true => *random.pick(&["a", "B", "é", "É", "z", "Z", " ", "ß", "🙂", "1", "\0"]),
            false => *random.pick(&["0", "1", "5", "9", "9", "4", "7", ".", "e", "-", "+", " ", "3", "2", "8", "6"]),
        };
        text.push_str(part);
    }
    text
}

fn real(random: &mut Random) -> f64 {
    let bits = random.next();
    match random.below(4) {
        // Any finite real.
        0 => Some(f64::from_bits(bits)).filter(|real| real.is_finite()).unwrap_or(1.25),
        // A real with few decimals; some are halves.
        1 => (bits % 2_000_001) as f64 / 1000.0 - 1000.0,
        2 => (bits % 200_001) as f64 / 8.0,
        _ => (bits >> 11) as f64 / (1_u64 << 53) as f64 * 1e6,
    }
}
