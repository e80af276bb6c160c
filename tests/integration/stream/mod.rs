//! Streaming queries from a folder of CSV files into files: with repeated kills, and with files
//! that arrive while they run.

mod arrivals;
mod crash;
mod deadly;

use std::fs::File;
use std::path::Path;
use std::time::{Duration, SystemTime};

/// Writes a file with an old modification time, so that it is read at the first look.
fn write_old(path: &Path, text: &str) {
    std::fs::write(path, text).unwrap();
    let file = File::options().append(true).open(path).unwrap();
    file.set_modified(SystemTime::now() - Duration::from_secs(60)).unwrap();
}

/// A small generator, so that a seed determines a run (xorshift, Marsaglia 2003).
struct Random(u64);

impl Random {
    fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % limit
    }
}
