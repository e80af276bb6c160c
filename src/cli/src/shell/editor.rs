//! The line editor of the shell: history, completion, and statements of several lines.

use std::path::PathBuf;

use rustyline::completion::{Completer, Pair};
use rustyline::error::ReadlineError;
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::history::FileHistory;
use rustyline::validate::{ValidationContext, ValidationResult, Validator};
use rustyline::{CompletionType, Config, Context, Editor, Helper};
use vexact_workspace::Workspace;

use super::command::{COMMANDS, Command};
use crate::failure::Failure;
use crate::output::remark;
use crate::script;

const PROMPT: &str = "vexact> ";
/// Lines that the history keeps.
const HISTORY: usize = 2000;

/// The words of SQL that are completed.
const KEYWORDS: [&str; 60] = [
    "ALL",
    "ALTER",
    "AND",
    "AS",
    "ASC",
    "BETWEEN",
    "BY",
    "CASE",
    "CAST",
    "CREATE",
    "CROSS",
    "DELETE",
    "DESC",
    "DISTINCT",
    "DROP",
    "ELSE",
    "END",
    "EXCEPT",
    "EXISTS",
    "EXPLAIN",
    "FALSE",
    "FROM",
    "FULL",
    "GROUP",
    "HAVING",
    "IN",
    "INNER",
    "INSERT",
    "INTERSECT",
    "INTO",
    "IS",
    "JOIN",
    "LEFT",
    "LIKE",
    "LIMIT",
    "NOT",
    "NULL",
    "OFFSET",
    "ON",
    "OPTIONS",
    "OR",
    "ORDER",
    "OUTER",
    "OVER",
    "PARTITION",
    "RIGHT",
    "SELECT",
    "SET",
    "TABLE",
    "THEN",
    "TRUE",
    "UNION",
    "UPDATE",
    "USING",
    "VALUES",
    "VIEW",
    "WHEN",
    "WHERE",
    "WINDOW",
    "WITH",
];

/// The input of the user.
pub(super) enum Line {
    Text(String),
    /// Ctrl-C.
    Cancelled,
    /// Ctrl-D.
    End,
}

pub(super) struct LineEditor {
    editor: Editor<SqlHelper, FileHistory>,
    history: Option<PathBuf>,
}

impl LineEditor {
    pub fn new() -> Result<Self, Failure> {
        let failed = |error: ReadlineError| Failure::internal("start", format!("the terminal: {error}"));
        let config = Config::builder().completion_type(CompletionType::List).auto_add_history(true);
        let config = config.max_history_size(HISTORY).map_err(failed)?.build();
        let mut editor = Editor::with_config(config).map_err(failed)?;
        editor.set_helper(Some(SqlHelper::default()));
        let history = Workspace::default_root().ok().map(|root| root.join("sql_history"));
        if let Some(path) = history.as_ref().filter(|path| path.exists())
            && let Err(error) = editor.load_history(path)
        {
            remark(format_args!("{}: {error}", path.display()));
        }
        Ok(Self { editor, history })
    }

    /// Reads statements or a command.
    pub fn read(&mut self) -> Result<Line, Failure> {
        match self.editor.readline(PROMPT) {
            Ok(text) if text.trim().is_empty() => Ok(Line::Cancelled),
            Ok(text) => Ok(Line::Text(text)),
            Err(ReadlineError::Interrupted) => Ok(Line::Cancelled),
            Err(ReadlineError::Eof) => Ok(Line::End),
            Err(error) => Err(Failure::internal("run", format!("the terminal: {error}"))),
        }
    }

    pub fn set_names(&mut self, names: Vec<String>) {
        if let Some(helper) = self.editor.helper_mut() {
            helper.names = names;
        }
    }

    /// Saves the history.
    pub fn save(&mut self) {
        let Some(path) = &self.history else { return };
        let folder = path.parent().map_or(Ok(()), std::fs::create_dir_all);
        let saved = folder.map_err(ReadlineError::from).and_then(|()| self.editor.save_history(path));
        if let Err(error) = saved {
            remark(format_args!("{}: {error}", path.display()));
        }
    }
}

#[derive(Default)]
struct SqlHelper {
    /// Tables, columns and functions.
    names: Vec<String>,
}

impl Helper for SqlHelper {}
impl Hinter for SqlHelper {
    type Hint = String;
}
impl Highlighter for SqlHelper {}

impl Validator for SqlHelper {
    fn validate(&self, context: &mut ValidationContext<'_>) -> rustyline::Result<ValidationResult> {
        let text = context.input();
        let is_whole = text.trim().is_empty() || Command::parse(text).is_some() || script::is_complete(text);
        Ok(if is_whole { ValidationResult::Valid(None) } else { ValidationResult::Incomplete })
    }
}

impl Completer for SqlHelper {
    type Candidate = Pair;

    fn complete(&self, line: &str, position: usize, _: &Context<'_>) -> rustyline::Result<(usize, Vec<Pair>)> {
        let before = &line[..position];
        for command in [".open ", ".read "] {
            if let Some(path) = before.strip_prefix(command) {
                let path = path.split_once('=').map_or(path, |(_, path)| path);
                return Ok((position - path.len(), files(path)));
            }
        }
        if before.starts_with('.') && !before.contains(' ') {
            let commands = COMMANDS.iter().map(|(name, ..)| (*name).to_owned());
            return Ok((0, pairs(commands, before)));
        }
        let start = before
            .rfind(|c: char| !(c.is_alphanumeric() || c == '_'))
            .map_or(0, |at| at + before[at..].chars().next().map_or(1, char::len_utf8));
        let word = &before[start..];
        let argument = before.starts_with('.');
        if word.is_empty() && !argument {
            return Ok((position, Vec::new()));
        }
        let is_lower = word.chars().any(char::is_lowercase);
        let keywords = KEYWORDS.iter().map(|word| if is_lower { word.to_lowercase() } else { (*word).to_owned() });
        let names = self.names.iter().cloned();
        let found = if argument { pairs(names, word) } else { pairs(names.chain(keywords), word) };
        Ok((start, found))
    }
}

/// Returns the candidates that begin with a word, in any case.
fn pairs(candidates: impl Iterator<Item = String>, word: &str) -> Vec<Pair> {
    let word = word.to_lowercase();
    let mut found: Vec<String> = candidates.filter(|candidate| candidate.to_lowercase().starts_with(&word)).collect();
    found.sort();
    found.dedup();
    found.into_iter().map(|text| Pair { display: text.clone(), replacement: text }).collect()
}

/// Returns the files that begin with a path.
fn files(path: &str) -> Vec<Pair> {
    let (folder, name) = path.rsplit_once('/').map_or(("", path), |(folder, name)| (&path[..=folder.len()], name));
    let listed = std::fs::read_dir(if folder.is_empty() { "." } else { folder });
    let mut found: Vec<Pair> = listed
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let file = entry.file_name().into_string().ok().filter(|file| file.starts_with(name))?;
            let is_folder = entry.path().is_dir();
            let text = format!("{folder}{file}{}", if is_folder { "/" } else { "" });
            Some(Pair { display: text.clone(), replacement: text })
        })
        .collect();
    found.sort_by(|a, b| a.display.cmp(&b.display));
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn completed(line: &str) -> (usize, Vec<String>) {
        let names = ["docs", "Embedding", "vector_search"].map(str::to_owned).to_vec();
        let history = FileHistory::default();
        let (start, found) =
            SqlHelper { names }.complete(line, line.len(), &Context::new(&history)).unwrap_or_default();
        (start, found.into_iter().map(|pair| pair.replacement).collect())
    }

    #[test]
    fn tables_columns_functions_and_keywords_are_completed() {
        assert_eq!(completed("sel"), (0, vec!["select".into()]));
        assert_eq!(completed("SEL"), (0, vec!["SELECT".into()]));
        assert_eq!(completed("SELECT emb"), (7, vec!["Embedding".into()]));
        assert_eq!(completed("FROM vec"), (5, vec!["vector_search".into()]));
        assert_eq!(completed("FROM vector_search('do"), (20, vec!["docs".into()]));
        assert_eq!(completed(".ta"), (0, vec![".tables".into()]));
        assert_eq!(completed(".schema do"), (8, vec!["docs".into()]));
        assert_eq!(completed("é "), (3, vec![]));
    }
}
