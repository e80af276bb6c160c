//! Types that every part of vexact shares: errors, table schemas, parameters, JSON of rows, durable
//! files.

pub mod atomic_file;
pub mod database_path;
pub mod disk;
pub mod entry;
pub mod error;
pub mod folder;
pub mod json;
pub mod locked_file;
pub mod param;
pub mod rows;
pub mod schema;
pub mod sql;
pub mod temporary_file;

pub use error::{Error, ErrorKind, Result};
pub use param::Param;
pub use schema::{ColumnType, TableSchema};
pub use vexact_sql::deep;
