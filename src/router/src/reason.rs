//! Reason of a route, as a type and as text.

use std::fmt;

/// Reason of a route. The text is for `explain_route` and EXPLAIN.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reason {
    /// SQLite: the statement begins with this word (or is empty).
    NotAQuery(String),
    /// OLAP: the query calls this function.
    VectorFunction(String),
    /// OLAP: the query reads this table of the session.
    SessionTable(String),
    /// SQLite: this table is not replicated.
    NotReplicated(String),
    /// SQLite: this table function exists only in SQLite.
    SqliteFunction(String),
    /// OLAP: SQLite lacks this table or table function.
    OnlyInOlap(String),
    /// OLAP: a statement that SQLite lacks, SHOW or DESCRIBE.
    OlapStatement(&'static str),
    /// SQLite: neither side has this table; SQLite reports it.
    NoSuchTable(String),
    /// SQLite: DataFusion's parser does not support the query; its message.
    NotParsed(String),
    /// SQLite: only SQLite supports this syntax.
    SqliteSyntax(&'static str),
    /// OLAP: the query has this shape.
    Shape(Shape),
    /// SQLite: DataFusion cannot plan the query; its message.
    NotPlanned(String),
    /// SQLite: DataFusion would compute this differently.
    Differs(String),
    /// OLAP: the engine has no SQLite file, because it only follows a source.
    NoSqlite,
    /// SQLite: a SELECT of rows, which is fastest in the database itself.
    Plain,
}

/// First part of a query that makes it analytical.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Shape {
    /// A call of this aggregate function.
    Aggregate(String),
    /// A window function or clause.
    Window,
    /// A join, or a comma between tables.
    Join,
    /// UNION, INTERSECT or EXCEPT.
    SetOperation,
    /// A query within the query, also as a table.
    Subquery,
    /// WITH.
    Cte,
    /// DISTINCT.
    Distinct,
    /// GROUP BY.
    GroupBy,
    /// HAVING without GROUP BY.
    Having,
    /// A relation that is not a table, such as PIVOT.
    Relation,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAQuery(what) => write!(f, "{what} is not a query"),
            Self::VectorFunction(name) => write!(f, "function {name} runs on the replicas"),
            Self::SessionTable(name) => write!(f, "table {name:?} is the session's"),
            Self::NotReplicated(name) => write!(f, "table {name:?} is not replicated"),
            Self::SqliteFunction(name) => write!(f, "table function {name} is SQLite's"),
            Self::OnlyInOlap(name) => write!(f, "only the replicas have {name:?}"),
            Self::OlapStatement(name) => write!(f, "only the replicas answer {name}"),
            Self::NoSuchTable(name) => write!(f, "neither side has table {name}"),
            Self::NotParsed(message) => write!(f, "only SQLite may know this syntax ({message})"),
            Self::SqliteSyntax(what) => write!(f, "only SQLite knows {what}"),
            Self::Shape(shape) => write!(f, "the query has {shape}"),
            Self::NotPlanned(message) => write!(f, "DataFusion cannot plan it ({message})"),
            Self::Differs(what) => write!(f, "DataFusion would answer otherwise ({what})"),
            Self::NoSqlite => f.write_str("the engine has no SQLite file of its own"),
            Self::Plain => f.write_str("a plain SELECT of rows"),
        }
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Aggregate(name) => write!(f, "the aggregate {name}"),
            Self::Window => f.write_str("a window"),
            Self::Join => f.write_str("a join"),
            Self::SetOperation => f.write_str("a set operation"),
            Self::Subquery => f.write_str("a subquery"),
            Self::Cte => f.write_str("a WITH"),
            Self::Distinct => f.write_str("DISTINCT"),
            Self::GroupBy => f.write_str("GROUP BY"),
            Self::Having => f.write_str("HAVING"),
            Self::Relation => f.write_str("a relation that is no table"),
        }
    }
}

/// Returns the first word of a statement, in upper case.
pub(super) fn first_word(statement: &impl fmt::Display) -> String {
    statement.to_string().split_whitespace().next().unwrap_or_default().to_ascii_uppercase()
}
