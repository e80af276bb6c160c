//! SQLite.
pub mod capture;
#[cfg(test)]
mod capture_tests;
mod check;
pub mod column;
pub mod log;
mod sql;
mod table;
mod trigger;
