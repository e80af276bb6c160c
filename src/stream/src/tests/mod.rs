//! Streaming queries, each compared with the answer of the same query over the same rows at once.

mod answers;
mod lifecycle;
mod refusals;
mod world;
