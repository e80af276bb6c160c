//! Recognizes cells that have the form of those before them, byte by byte. A recognized cell does
//! not change the type of its column.

/// Maximum number of digits of an integer that is exact in float64, whatever its digits.
const EXACT_DIGITS: usize = 15;
/// Maximum length of a fraction that is neither infinite nor zero in float64, unless it is zero.
const SAFE_FRACTION: usize = 64;

/// Form of the cells of a column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum CellForm {
    /// No form is known: no cell is recognized.
    Unknown,
    /// The type of the column cannot change: every cell is recognized.
    Any,
    Bool,
    Integer,
    /// Integers and fractions.
    Number,
    Date,
    /// Times of the same length, unit and offset as this one.
    Time(Box<[u8]>),
}

/// Bytes that end a cell: the delimiter and line ends.
#[derive(Debug, Clone, Copy)]
pub(super) struct CellEnds {
    pub delimiter: u8,
    pub decimal: u8,
}

impl CellEnds {
    /// Returns true if the delimiter is in no number and no time.
    pub fn are_outside_cells(self) -> bool {
        let is_inside = |byte: u8| byte.is_ascii_alphanumeric() || b"-.:+ ".contains(&byte) || byte == self.decimal;
        !is_inside(self.delimiter)
    }

    /// Returns true if a byte ends a cell.
    #[inline]
    pub fn has(self, byte: u8) -> bool {
        byte == self.delimiter || matches!(byte, b'\n' | b'\r')
    }

    /// Returns the position of the first byte from `at` on that ends a cell. It inspects eight
    /// bytes at a time: the lowest byte of a word that a subtraction borrows from is a match.
    #[inline]
    pub fn find(self, bytes: &[u8], mut at: usize) -> Option<usize> {
        const ONES: u64 = u64::MAX / 255;
        const HIGH: u64 = ONES << 7;
        let is_equal = |word: u64, byte: u8| {
            let difference = word ^ (ONES * u64::from(byte));
            difference.wrapping_sub(ONES) & !difference & HIGH
        };
        while let Some(eight) = bytes.get(at..).and_then(<[u8]>::first_chunk) {
            let word = u64::from_le_bytes(*eight);
            let found = is_equal(word, self.delimiter) | is_equal(word, b'\n') | is_equal(word, b'\r');
            if found != 0 {
                return Some(at + found.trailing_zeros() as usize / 8);
            }
            at += 8;
        }
        bytes.get(at..)?.iter().position(|byte| self.has(*byte)).map(|found| at + found)
    }
}

impl CellForm {
    /// Returns true if a cell has this form.
    pub fn has(&self, cell: &[u8], decimal: u8) -> bool {
        match self {
            Self::Unknown => false,
            Self::Any => true,
            Self::Bool => bool_length(cell).is_some_and(|length| length == cell.len()),
            Self::Integer | Self::Number => {
                self.number_length(cell, decimal).is_some_and(|length| length == cell.len())
            }
            Self::Date => cell.len() == 10 && is_date(cell),
            Self::Time(model) => cell.len() == model.len() && is_time(cell, model),
        }
    }

    /// Returns the position of the byte that ends the cell at the start of these bytes, if the cell
    /// is not quoted, and is empty or has this form.
    #[inline]
    pub fn end(&self, bytes: &[u8], quote: Option<u8>, ends: CellEnds) -> Option<usize> {
        let first = *bytes.first()?;
        if ends.has(first) {
            return Some(0);
        }
        if Some(first) == quote {
            return None;
        }
        let length = match self {
            Self::Unknown => None,
            Self::Any => return ends.find(bytes, 0),
            Self::Bool => bool_length(bytes),
            Self::Integer | Self::Number => self.number_length(bytes, ends.decimal),
            Self::Date => (bytes.len() > 10 && is_date(bytes)).then_some(10),
            Self::Time(model) => (bytes.len() > model.len() && is_time(bytes, model)).then_some(model.len()),
        };
        length.filter(|length| bytes.get(*length).is_some_and(|byte| ends.has(*byte)))
    }

    /// Returns the length of the number at the start of a text: an integer or, if this form has
    /// them, a fraction, without leading zeros and exponent, and not `-0`.
    #[inline]
    fn number_length(&self, text: &[u8], decimal: u8) -> Option<usize> {
        let sign = usize::from(text.first() == Some(&b'-'));
        let digits = |from: usize| text[from..].iter().take_while(|byte| byte.is_ascii_digit()).count();
        let integer = digits(sign);
        let has_leading_zero = integer > 1 && text[sign] == b'0';
        let end = sign + integer;
        if *self == Self::Number && text.get(end) == Some(&decimal) {
            let fraction = digits(end + 1);
            let is_fraction = integer + fraction > 0 && integer + fraction < SAFE_FRACTION && !has_leading_zero;
            return is_fraction.then_some(end + 1 + fraction);
        }
        let is_negative_zero = sign == 1 && integer == 1 && text[sign] == b'0' && *self == Self::Integer;
        ((1..=EXACT_DIGITS).contains(&integer) && !has_leading_zero && !is_negative_zero).then_some(end)
    }
}

/// Returns the length of the word `true` or `false` at the start of a text.
#[inline]
fn bool_length(text: &[u8]) -> Option<usize> {
    ["true", "false"]
        .into_iter()
        .find(|word| text.get(..word.len()).is_some_and(|start| start.eq_ignore_ascii_case(word.as_bytes())))
        .map(str::len)
}

/// Returns true if a text begins with a day that every calendar has, of a year that every unit of
/// time has.
#[inline]
fn is_date(text: &[u8]) -> bool {
    let number = |at: usize| match (text[at], text[at + 1]) {
        (tens @ b'0'..=b'9', ones @ b'0'..=b'9') => 10 * (tens - b'0') + (ones - b'0'),
        _ => u8::MAX,
    };
    (17..22).contains(&number(0))
        && number(2) <= 99
        && text[4] == b'-'
        && (1..=12).contains(&number(5))
        && text[7] == b'-'
        && (1..=28).contains(&number(8))
}

/// Returns true if a text begins with a time of the form of another, which was parsed.
#[inline]
fn is_time(text: &[u8], model: &[u8]) -> bool {
    let Some(text) = text.get(..model.len()).filter(|text| text.len() >= 19 && is_date(text)) else { return false };
    let is_below = |at: usize, tens: u8| (b'0'..tens).contains(&text[at]) && text[at + 1].is_ascii_digit();
    let is_hour = is_below(11, b'2') || text[11] == b'2' && (b'0'..=b'3').contains(&text[12]);
    let is_clock = is_hour && text[13] == b':' && is_below(14, b'6') && text[16] == b':' && is_below(17, b'6');
    if !is_clock || text[10] != model[10] {
        return false;
    }
    let mut at = 19;
    if model.get(at) == Some(&b'.') {
        if text[at] != b'.' {
            return false;
        }
        at += 1;
        while model.get(at).is_some_and(u8::is_ascii_digit) {
            if !text[at].is_ascii_digit() {
                return false;
            }
            at += 1;
        }
    }
    text[at..] == model[at..]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::cell::CellRules;
    use super::super::cell_types::SeenCells;
    use super::*;

    proptest! {
        /// A recognized cell does not change the type of the column that has the form.
        #[test]
        fn a_recognized_cell_changes_no_type(
            first in "-?[0-9]{1,17}|-?[0-9]{0,3}\\.[0-9]{0,3}|true|False|20[0-9]{2}-[01][0-9]-[0-3][0-9]([ T][0-2][0-9]:[0-6][0-9]:[0-6][0-9](\\.[0-9]{1,9})?(Z|\\+0[0-9]:00)?)?",
            cell in "-?[0-9]{1,17}|-?[0-9]{0,3}\\.[0-9]{0,3}|true|False|[0-9]{4}-[01][0-9]-[0-3][0-9]([ T][0-2][0-9]:[0-6][0-9]:[0-6][0-9](\\.[0-9]{1,9})?(Z|\\+0[0-9]:00)?)?",
        ) {
            let rules = CellRules::default();
            let mut seen = SeenCells::default();
            seen.add(&first, &rules);
            let (form, before) = (seen.form(&first), seen.data_type());
            if form.has(cell.as_bytes(), rules.decimal) {
                seen.add(&cell, &rules);
                prop_assert_eq!(seen.data_type(), before, "{:?}, then {:?}", first, cell);
            }
        }
    }

    #[test]
    fn usual_cells_are_recognized() {
        let time = CellForm::Time(b"2024-01-01T00:00:00.000+02:00".as_slice().into());
        for (form, cell) in [
            (CellForm::Integer, "-12"),
            (CellForm::Integer, "0"),
            (CellForm::Number, "0.5"),
            (CellForm::Number, "-12"),
            (CellForm::Date, "2023-12-28"),
            (CellForm::Bool, "TRUE"),
            (time, "2019-11-28T23:59:59.123+02:00"),
        ] {
            assert!(form.has(cell.as_bytes(), b'.'), "{cell}");
            let ends = CellEnds { delimiter: b',', decimal: b'.' };
            for after in [",x", "\n", "\r\n"] {
                let text = format!("{cell}{after}");
                assert_eq!(form.end(text.as_bytes(), Some(b'"'), ends), Some(cell.len()), "{text:?}");
            }
            assert_eq!(form.end(cell.as_bytes(), Some(b'"'), ends), None);
            assert_eq!(form.end(format!("{cell}x,").as_bytes(), Some(b'"'), ends), None);
        }
    }
}
