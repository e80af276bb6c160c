//! SQLite as the transactional store: statements, the log of committed changes, and the replicas
//! that follow the log.
//!
//! [`oltp`] runs statements and captures changes; [`replication`] applies them to the replicas of
//! [`vexact_replica`].

pub mod oltp;
pub mod replication;
