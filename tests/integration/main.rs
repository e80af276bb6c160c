//! What the crate promises, from outside. One program, as each would link all of DataFusion.

mod cli;
mod crash;
mod docs;
mod laws;
mod replication;
mod sql;
