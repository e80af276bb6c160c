//! Describes content of files in messages.

/// Maximum number of characters of a value in an error.
const SHOWN_CHARS: usize = 80;

/// Returns a value in quotes, truncated if it is long.
pub(super) fn shown(value: &[u8]) -> String {
    let text = String::from_utf8_lossy(value);
    let cut = cut(&text);
    if cut.len() == text.len() { format!("{text:?}") } else { format!("{:?}…", cut.trim_end_matches('…')) }
}

/// Returns a text, truncated if it is long.
pub(super) fn cut(text: &str) -> String {
    match text.char_indices().nth(SHOWN_CHARS) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
