//! Compiles the system calls for SQLite on Linux, with the header of the bundled library.

const SOURCES: [&str; 3] = ["src/ofd_locks.c", "src/fork.c", "src/install.c"];

fn main() {
    for file in SOURCES.into_iter().chain(["src/ofd_locks.h"]) {
        println!("cargo:rerun-if-changed={file}");
    }
    if std::env::var("CARGO_CFG_TARGET_OS").as_deref() != Ok("linux") {
        return;
    }
    let mut build = cc::Build::new();
    if let Some(folder) = std::env::var_os("DEP_SQLITE3_INCLUDE") {
        build.include(folder);
    }
    build.files(SOURCES).std("gnu11").warnings(true).extra_warnings(true);
    build.compile("vexact_ofd_locks");
}
