//! Stored form of bases and sketches.
