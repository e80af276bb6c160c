//! SQLite as the place of writes: statements, the log of committed changes, and replicas that follow it.
//!
//! [`oltp`] runs statements and captures changes; [`replication`] applies them to the replicas of [`vexact_replica`].

pub mod oltp;
pub mod replication;
