//! The lifecycle of a followed table, and its status. Text is made here alone.

use std::fmt;

use serde::{Serialize, Serializer};

/// The state of the replica of a followed table. Its text is one word, without the reason, except
/// that a copy counts its rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TableState {
    /// The replica follows the table since its registration, but the rows that existed then were
    /// not copied. Ends with a copy.
    Pending,
    /// A copy is running. Never stored: the state before the copy applies if it fails.
    Copying {
        /// Rows read so far.
        rows: u64,
    },
    /// The replica is complete and follows the table. Set by a copy, or at the registration of an
    /// empty table.
    Ready,
    /// Queries read the replica, which is not in all points the table. Shown as `ready`, with a
    /// warning.
    Stale(Staleness),
    /// The changes of the table cannot be captured, for this reason. Ends when its registration or
    /// the table fits again, with a copy. Shown as `failed`.
    Unsupported(String),
    /// Replication of the table failed with this error, and queries cannot read it; the next sync
    /// copies it again.
    Failed(String),
}

/// The difference between a readable replica and its table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Staleness {
    /// A migration dropped or renamed these columns.
    LostColumns(Vec<String>),
    /// Rows of a source have a time that is none, or lies in the future.
    UntimelyRows {
        /// Number of these rows.
        rows: u64,
        /// The column of the times.
        column: String,
        /// One of the times.
        example: String,
    },
}

impl TableState {
    /// Returns the error of a table that queries cannot read.
    pub fn error(&self) -> Option<&str> {
        match self {
            Self::Failed(error) | Self::Unsupported(error) => Some(error),
            Self::Pending | Self::Copying { .. } | Self::Ready | Self::Stale(_) => None,
        }
    }

    /// Returns true if the replica has the rows from before the registration, and can be read.
    pub fn is_loaded(&self) -> bool {
        matches!(self, Self::Ready | Self::Stale(_))
    }
}

impl fmt::Display for TableState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pending => f.write_str("not-loaded"),
            Self::Copying { rows } => write!(f, "copying, {rows} rows"),
            Self::Ready | Self::Stale(_) => f.write_str("ready"),
            Self::Unsupported(_) | Self::Failed(_) => f.write_str("failed"),
        }
    }
}

impl fmt::Display for Staleness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LostColumns(columns) => write!(
                f,
                "[{}] left the replica when a migration dropped or renamed it: add_column adds what has another \
                 name now, drop_column accepts the loss",
                columns.join(", ")
            ),
            Self::UntimelyRows { rows, column, example } => {
                let (plural, verb) = if *rows == 1 { ("", "has") } else { ("s", "have") };
                write!(
                    f,
                    "{rows} row{plural} {verb} a time in {column:?} that is none or lies in the future, such as \
                     {example}"
                )
            }
        }
    }
}

/// A table whose replica is kept up to date, by a change log or by the clock of a source.
pub trait FollowedTable {
    /// The replica's name.
    fn name(&self) -> &str;

    /// The state between two cycles.
    fn state(&self) -> TableState;

    /// Changes not yet applied, as last counted.
    fn lag(&self) -> u64;

    /// The status without the rows of the replica, which a snapshot has.
    fn status(&self) -> TableStatus {
        TableStatus { name: self.name().to_owned(), rows: 0, lag: self.lag(), state: self.state() }
    }
}

/// Status of one table. In JSON, the reason of its state is `last_error` or `warning`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableStatus {
    /// Its name, as registered.
    pub name: String,
    /// Rows of the replica.
    pub rows: u64,
    /// Changes not yet applied.
    pub lag: u64,
    /// The state of the replica.
    pub state: TableState,
}

impl TableStatus {
    /// The error of a failed table.
    pub fn last_error(&self) -> Option<&str> {
        self.state.error()
    }

    /// The warning about a table that follows: columns that its replica lost, rows whose time cannot
    /// be right.
    pub fn warning(&self) -> Option<String> {
        match &self.state {
            TableState::Stale(difference) => Some(difference.to_string()),
            _ => None,
        }
    }
}

impl Serialize for TableStatus {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Shown<'s> {
            name: &'s str,
            rows: u64,
            lag: u64,
            state: String,
            last_error: Option<&'s str>,
            warning: Option<String>,
        }
        let Self { name, rows, lag, state } = self;
        let (last_error, warning) = (self.last_error(), self.warning());
        Shown { name, rows: *rows, lag: *lag, state: state.to_string(), last_error, warning }.serialize(serializer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(state: TableState) -> serde_json::Value {
        serde_json::to_value(TableStatus { name: "docs".into(), rows: 2, lag: 1, state }).unwrap()
    }

    #[test]
    fn each_state_has_its_word_and_its_reason() {
        let untimely =
            |rows| TableState::Stale(Staleness::UntimelyRows { rows, column: "at".into(), example: "'soon'".into() });
        let lost = TableState::Stale(Staleness::LostColumns(vec!["a".into(), "b".into()]));
        for (state, word, error, warning) in [
            (TableState::Pending, "not-loaded", None, None),
            (TableState::Copying { rows: 2 }, "copying, 2 rows", None, None),
            (TableState::Ready, "ready", None, None),
            (lost, "ready", None, Some("[a, b] left the replica when")),
            (untimely(1), "ready", None, Some("1 row has a time in \"at\" that is none")),
            (untimely(2), "ready", None, Some("2 rows have a time in \"at\" that is none")),
            (TableState::Unsupported("no key".into()), "failed", Some("no key"), None),
            (TableState::Failed("no table".into()), "failed", Some("no table"), None),
        ] {
            let json = shown(state.clone());
            assert_eq!((&json["state"], &json["name"], &json["rows"]), (&word.into(), &"docs".into(), &2.into()));
            assert_eq!(json["last_error"].as_str(), error, "{state:?}");
            assert_eq!(json["warning"].as_str().is_some(), warning.is_some(), "{state:?}");
            assert!(json["warning"].as_str().unwrap_or_default().starts_with(warning.unwrap_or_default()), "{json}");
            assert_eq!(state.is_loaded(), word == "ready");
        }
    }
}
