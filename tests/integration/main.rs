//! Tests of the crate's guarantees through its public interface. They are one program, as each
//! program would link all of DataFusion.

mod construct_writer;
mod constructs;
mod crash;
mod docs;
mod fallback;
mod functions;
mod fuzz;
mod laws;
mod layers;
mod nullability;
mod object_stores;
mod partial;
mod plan_cache;
mod pruning;
mod query_writer;
mod replication;
mod routes;
mod row_ids;
mod shutdown;
mod sidecar;
mod sketches;
mod sql;
mod stream;
mod text;
mod text_crash;
mod ties;
mod unloaded;
