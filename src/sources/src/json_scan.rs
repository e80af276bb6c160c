//! Scans the values of a JSON text in order, without changing their text: their digits and their
//! kind are preserved. A text that is not valid JSON has no values; `serde_json` reports why.

use std::borrow::Cow;

/// Maximum nesting depth of lists and objects, as in `serde_json`: showing such a value in a
/// message recurses.
pub(super) const MAX_DEPTH: usize = 127;

/// Returns the position of the first quote, backslash or control character from `at` on. It
/// inspects eight bytes at a time: a byte of a word is one of these if subtracting from it borrows
/// from its highest bit.
#[inline]
pub(super) fn special(bytes: &[u8], mut at: usize) -> Option<usize> {
    const ONES: u64 = u64::MAX / 255;
    const HIGH: u64 = ONES << 7;
    // A borrow may propagate into the next bytes, which come after the one that is searched.
    let is_less = |word: u64, bound: u8| word.wrapping_sub(ONES * u64::from(bound)) & !word & HIGH;
    while let Some(eight) = bytes.get(at..).and_then(<[u8]>::first_chunk) {
        let word = u64::from_le_bytes(*eight);
        let quote = is_less(word ^ (ONES * u64::from(b'"')), 1);
        let found = is_less(word, 0x20) | quote | is_less(word ^ (ONES * u64::from(b'\\')), 1);
        if found != 0 {
            return Some(at + found.trailing_zeros() as usize / 8);
        }
        at += 8;
    }
    let is_special = |byte: &u8| *byte < 0x20 || matches!(byte, b'"' | b'\\');
    bytes.get(at..)?.iter().position(is_special).map(|found| at + found)
}

/// Kind of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Null,
    Bool,
    /// A number without fraction and exponent, and not `-0`.
    Integer,
    Float,
    Text {
        /// True if the text has escaped characters.
        is_escaped: bool,
    },
    List,
    Object,
}

/// A value as it is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Raw<'a> {
    pub text: &'a str,
    pub kind: Kind,
}

impl<'a> Raw<'a> {
    /// Returns a text without its quotes; `None` for any other value, and for half of a surrogate
    /// pair.
    #[inline]
    pub fn string(&self) -> Option<Cow<'a, str>> {
        match self.kind {
            Kind::Text { is_escaped: false } => Some(Cow::Borrowed(&self.text[1..self.text.len() - 1])),
            Kind::Text { is_escaped: true } => serde_json::from_str::<String>(self.text).ok().map(Cow::Owned),
            _ => None,
        }
    }
}

/// Position in a JSON text. Each of its methods returns `None` if the text is not valid JSON.
#[derive(Debug, Clone)]
pub(super) struct Cursor<'a> {
    text: &'a str,
    at: usize,
    depth: usize,
}

impl<'a> Cursor<'a> {
    /// Creates a cursor at the start of a text.
    pub fn new(text: &'a str) -> Self {
        Self { text, at: 0, depth: 0 }
    }

    /// Parses a text that is exactly one value.
    pub fn whole(text: &'a str) -> Option<Raw<'a>> {
        let mut cursor = Self::new(text);
        let value = cursor.value()?;
        cursor.is_at_end().then_some(value)
    }

    /// Returns true if only white space follows.
    #[inline]
    pub fn is_at_end(&mut self) -> bool {
        self.space();
        self.at == self.text.len()
    }

    /// Returns the first byte of the next value without skipping it.
    #[inline]
    pub fn first(&mut self) -> Option<u8> {
        self.space();
        self.peek()
    }

    /// Skips a bracket that opens a list or an object.
    #[inline]
    pub fn open(&mut self, bracket: u8) -> Option<()> {
        if self.first()? != bracket || self.depth == MAX_DEPTH {
            return None;
        }
        self.at += 1;
        self.depth += 1;
        Some(())
    }

    /// Returns true if an item or a member follows; otherwise skips the closing bracket.
    #[inline]
    pub fn has_next(&mut self, is_first: &mut bool, close: u8) -> Option<bool> {
        match self.first()? {
            byte if byte == close => {
                self.at += 1;
                self.depth -= 1;
                return Some(false);
            }
            b',' if !*is_first => self.at += 1,
            _ if *is_first => {}
            _ => return None,
        }
        *is_first = false;
        Some(true)
    }

    /// Parses the name of a member, and the colon after it.
    #[inline]
    pub fn name(&mut self) -> Option<Raw<'a>> {
        self.space();
        let start = self.at;
        let kind = if self.peek()? == b'"' { self.string()? } else { return None };
        let text = self.text.get(start..self.at)?;
        self.space();
        let is_colon = self.peek()? == b':';
        self.at += 1;
        is_colon.then_some(Raw { text, kind })
    }

    /// Skips the name of a member and the colon after it, if the name is written as `quoted`;
    /// otherwise it skips nothing.
    #[inline]
    pub fn pass_name(&mut self, quoted: &str) -> bool {
        self.space();
        if !self.text.as_bytes()[self.at..].starts_with(quoted.as_bytes()) {
            return false;
        }
        let start = self.at;
        self.at += quoted.len();
        self.space();
        let is_colon = self.peek() == Some(b':');
        self.at = if is_colon { self.at + 1 } else { start };
        is_colon
    }

    /// Parses the next value.
    #[inline]
    pub fn value(&mut self) -> Option<Raw<'a>> {
        self.space();
        let start = self.at;
        let kind = match self.peek()? {
            b'"' => self.string()?,
            b'{' => self.object()?,
            b'[' => self.list()?,
            b't' => self.word("true", Kind::Bool)?,
            b'f' => self.word("false", Kind::Bool)?,
            b'n' => self.word("null", Kind::Null)?,
            _ => self.number()?,
        };
        Some(Raw { text: self.text.get(start..self.at)?, kind })
    }

    #[inline]
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    #[inline]
    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn word(&mut self, word: &str, kind: Kind) -> Option<Kind> {
        let is_it = self.text.as_bytes()[self.at..].starts_with(word.as_bytes());
        self.at += word.len();
        is_it.then_some(kind)
    }

    #[inline]
    fn string(&mut self) -> Option<Kind> {
        let bytes = self.text.as_bytes();
        let mut is_escaped = false;
        let mut at = self.at + 1;
        loop {
            at = special(bytes, at)?;
            match bytes[at] {
                b'"' => {
                    self.at = at + 1;
                    return Some(Kind::Text { is_escaped });
                }
                b'\\' => {
                    is_escaped = true;
                    at += match *bytes.get(at + 1)? {
                        b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => 2,
                        b'u' if bytes.get(at + 2..at + 6)?.iter().all(u8::is_ascii_hexdigit) => 6,
                        _ => return None,
                    };
                }
                _ => return None,
            }
        }
    }

    #[inline]
    fn digits(&mut self) -> Option<usize> {
        let start = self.at;
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        Some(self.at - start).filter(|count| *count > 0)
    }

    #[inline]
    fn number(&mut self) -> Option<Kind> {
        let start = self.at;
        let is_negative = self.peek() == Some(b'-');
        self.at += usize::from(is_negative);
        let is_zero = self.peek() == Some(b'0');
        if self.digits()? > 1 && is_zero {
            return None;
        }
        let mut kind = Kind::Integer;
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?;
            kind = Kind::Float;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            self.at += usize::from(matches!(self.peek(), Some(b'+' | b'-')));
            self.digits()?;
            kind = Kind::Float;
        }
        if is_negative && is_zero && self.at == start + 2 {
            kind = Kind::Float;
        }
        Some(kind)
    }

    fn list(&mut self) -> Option<Kind> {
        self.open(b'[')?;
        let mut is_first = true;
        while self.has_next(&mut is_first, b']')? {
            self.value()?;
        }
        Some(Kind::List)
    }

    fn object(&mut self) -> Option<Kind> {
        self.open(b'{')?;
        let mut is_first = true;
        while self.has_next(&mut is_first, b'}')? {
            self.name()?;
            self.value()?;
        }
        Some(Kind::Object)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde::de::IgnoredAny;

    use super::*;

    fn is_json(text: &str) -> bool {
        serde_json::from_str::<IgnoredAny>(text).is_ok()
    }

    #[test]
    fn values_have_their_kind_and_their_text() {
        for (text, kind) in [
            ("null", Kind::Null),
            ("true", Kind::Bool),
            ("-12", Kind::Integer),
            ("0", Kind::Integer),
            ("-0", Kind::Float),
            ("-0.0", Kind::Float),
            ("1e3", Kind::Float),
            ("\"a\"", Kind::Text { is_escaped: false }),
            ("\"a\\u00e9\"", Kind::Text { is_escaped: true }),
            ("[1, [2], {}]", Kind::List),
            ("{\"a\": {\"b\": []}}", Kind::Object),
        ] {
            assert_eq!(Cursor::whole(&format!(" {text}\n")), Some(Raw { text, kind }), "{text}");
        }
        let mut list = Cursor::new("[ 1 , \"x\",[2 ,3]] ");
        list.open(b'[').unwrap();
        let (mut is_first, mut texts) = (true, Vec::new());
        while list.has_next(&mut is_first, b']').unwrap() {
            texts.push(list.value().unwrap().text);
        }
        assert!(list.is_at_end());
        assert_eq!(texts, ["1", "\"x\"", "[2 ,3]"]);
        let mut object = Cursor::new("{ \"a\" : 1 ,\"\\u0062\":{}}");
        object.open(b'{').unwrap();
        let (mut is_first, mut names) = (true, Vec::new());
        while object.has_next(&mut is_first, b'}').unwrap() {
            names.push(object.name().unwrap().string().unwrap());
            object.value().unwrap();
        }
        assert_eq!(names, ["a", "b"]);
        assert_eq!(Cursor::whole("\"\\ud800\"").unwrap().string(), None);
    }

    #[test]
    fn depth_is_bounded_as_by_another_reader() {
        for depth in [MAX_DEPTH - 1, MAX_DEPTH, MAX_DEPTH + 1, 100_000] {
            let nested = "[".repeat(depth) + &"]".repeat(depth);
            assert_eq!(Cursor::whole(&nested).is_some(), depth <= MAX_DEPTH);
            assert_eq!(serde_json::from_str::<serde_json::Value>(&nested).is_ok(), depth <= MAX_DEPTH);
        }
    }

    proptest! {
        #[test]
        fn special_bytes_are_found_at_every_position(text in "[a\u{1f}\u{20}\u{7f}\u{e9}\u{ffff}\"\\\\]{0,40}", at in 0_usize..50) {
            let is_special = |byte: &u8| *byte < 0x20 || *byte == b'"' || *byte == b'\\';
            let expected = text.as_bytes().iter().enumerate().skip(at).find(|(_, byte)| is_special(byte));
            prop_assert_eq!(special(text.as_bytes(), at), expected.map(|(place, _)| place));
        }

        #[test]
        fn what_is_json_is_decided_as_by_another_reader(text in "[ \\[\\]{}:,\"\\\\untrefals0-9.eE+-]{0,16}") {
            prop_assert_eq!(Cursor::whole(&text).is_some(), is_json(&text), "{}", text);
        }

        #[test]
        fn generated_json_is_scanned_whole(value in json_value()) {
            let text = value.to_string();
            prop_assert_eq!(Cursor::whole(&text).map(|raw| raw.text), Some(text.as_str()));
            let cut = &text[..text.len() - 1];
            prop_assert_eq!(Cursor::whole(cut).is_some(), is_json(cut), "{}", cut);
        }
    }

    pub(in super::super) fn json_value() -> impl Strategy<Value = serde_json::Value> {
        use serde_json::Value;

        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            "[a\"\\\\\n\u{e9}]{0,4}".prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 16, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map("[ab\"]{0,2}", inner, 0..4)
                    .prop_map(|members| members.into_iter().collect()),
            ]
        })
    }
}
