//! Tests of streaming queries, each compared with the answer of the same query over all rows at
//! once.

mod answers;
mod lifecycle;
mod refusals;
mod world;
