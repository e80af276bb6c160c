//! Numbers, times and sizes as people read them.

/// A number by three digits: `1.23 M`.
pub(super) fn short(value: f64) -> String {
    let (scaled, suffix) = match value.abs() {
        v if v >= 999.5e9 => return format!("{value:.2e}"),
        v if v >= 999.5e6 => (value / 1e9, " G"),
        v if v >= 999.5e3 => (value / 1e6, " M"),
        v if v >= 9_999.5 => (value / 1e3, " k"),
        v if v > 0.0 && v < 0.001 => return format!("{value:.1e}"),
        _ => (value, ""),
    };
    let digits = match scaled.abs() {
        v if v >= 99.95 => 0,
        v if v >= 9.995 => 1,
        v if v >= 0.9995 => 2,
        _ => 3,
    };
    let text = format!("{scaled:.digits$}");
    let text = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    format!("{text}{suffix}")
}

/// A count with its digits in threes.
pub(super) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push('\u{202f}');
        }
        text.push(digit);
    }
    text
}

/// `n thing` or `n things`.
pub(super) fn counted(number: u64, thing: &str) -> String {
    format!("{} {thing}{}", count(number), if number == 1 { "" } else { "s" })
}

/// A file's size.
pub(super) fn bytes(number: u64) -> String {
    match number {
        n if n < 1_000 => format!("{n} B"),
        n if n < 999_500 => format!("{} kB", short(n as f64 / 1e3)),
        n if n < 999_500_000 => format!("{} MB", short(n as f64 / 1e6)),
        n => format!("{} GB", short(n as f64 / 1e9)),
    }
}

/// Returns a duration as text.
pub(super) fn duration(millis: u64) -> String {
    let seconds = millis / 1000;
    match seconds {
        0 => format!("{millis} ms"),
        1..60 => format!("{:.1} s", millis as f64 / 1000.0),
        60..3600 => format!("{} min {:02} s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{} h {:02} min", seconds / 3600, seconds / 60 % 60),
        _ => format!("{} d {:02} h", seconds / 86_400, seconds / 3600 % 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_three_digits() {
        for (value, text) in [
            (0.0, "0"),
            (1.0, "1"),
            (0.5, "0.5"),
            (12.345, "12.3"),
            (99.96, "100"),
            (1234.0, "1234"),
            (12_345.0, "12.3 k"),
            (999_900.0, "1 M"),
            (1_230_000.0, "1.23 M"),
            (100.0, "100"),
            (-25_000.0, "-25 k"),
            (2e9, "2 G"),
            (1e15, "1.00e15"),
            (0.0001, "1.0e-4"),
        ] {
            assert_eq!(short(value), text);
        }
    }

    #[test]
    fn counts_sizes_and_durations_are_readable() {
        assert_eq!(
            [count(7), count(999), count(1000), count(1_234_567)],
            ["7", "999", "1\u{202f}000", "1\u{202f}234\u{202f}567"]
        );
        assert_eq!([counted(1, "row"), counted(0, "row")], ["1 row", "0 rows"]);
        assert_eq!(
            [bytes(0), bytes(999), bytes(12_345), bytes(999_999), bytes(5_000_000), bytes(12_000_000_000)],
            ["0 B", "999 B", "12.3 kB", "1 MB", "5 MB", "12 GB"]
        );
        let durations = [999, 1000, 59_940, 61_000, 3_600_000, 90_061_000].map(duration);
        assert_eq!(durations, ["999 ms", "1.0 s", "59.9 s", "1 min 01 s", "1 h 00 min", "1 d 01 h"]);
    }
}
