//! The store against a disk that fails and loses power, against damaged files, and on the real file
//! system.

mod crash;
mod damage;
mod power;
mod round_trip;
mod speed;
mod work;
