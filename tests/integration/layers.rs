//! The build: the packages that an embedder compiles. Every selection of packages builds the same
//! dependencies.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Returns the lines of `cargo tree`: a package and its features, as `{p}|{f}`.
fn tree(arguments: &[&str]) -> BTreeSet<String> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let fixed = ["tree", "--offline", "--locked", "--prefix", "none", "--format", "{p}|{f}"];
    let output = Command::new(cargo).args(fixed).args(arguments).output().unwrap();
    assert!(output.status.success(), "cargo tree {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().filter(|line| !line.is_empty()).map(|line| line.trim_end_matches(" (*)").to_owned()).collect()
}

fn names(tree: &BTreeSet<String>) -> BTreeSet<&str> {
    tree.iter().filter_map(|line| line.split(' ').next()).collect()
}

/// The packages of the workspace.
fn members() -> Vec<String> {
    let all = tree(&["--workspace", "--edges", "normal,build,dev"]);
    let own = all.iter().filter(|line| line.contains(concat!("(", env!("CARGO_MANIFEST_DIR"))));
    let names: BTreeSet<String> = own.filter_map(|line| Some(line.split(' ').next()?.to_owned())).collect();
    assert!(names.len() > 10, "{names:?}");
    names.into_iter().collect()
}

#[test]
fn an_embedder_compiles_no_web_server_no_command_line_and_no_postgresql_client() {
    let facade = tree(&["--package", "vexact", "--no-default-features", "--edges", "normal"]);
    // Object stores have a client of HTTP and TLS.
    let unwanted = ["axum", "clap", "indicatif", "maud", "tokio-postgres", "vexact-cli", "vexact-ui"];
    let names = names(&facade);
    assert!(names.contains("datafusion") && names.contains("vexact-kernel"), "{names:?}");
    let found: Vec<&str> = unwanted.into_iter().filter(|name| names.contains(name)).collect();
    assert!(found.is_empty(), "the crate vexact without features depends on {found:?}");
}

#[test]
fn postgresql_comes_with_its_feature() {
    let facade = tree(&["--package", "vexact", "--features", "postgres", "--edges", "normal"]);
    assert!(names(&facade).contains("tokio-postgres"));
}

#[test]
fn the_kernel_and_its_sql_need_no_engine() {
    for (package, unwanted) in [
        ("vexact-kernel", &["datafusion", "tokio", "rusqlite"][..]),
        ("vexact-sql", &["rusqlite", "vexact-core", "vexact"][..]),
    ] {
        let tree = tree(&["--package", package, "--edges", "normal"]);
        let names = names(&tree);
        let found: Vec<&&str> = unwanted.iter().filter(|name| names.contains(**name)).collect();
        assert!(found.is_empty(), "{package} depends on {found:?}");
    }
}

/// `workspace-hack/Cargo.toml` unifies the features for this.
#[test]
fn every_selection_builds_the_dependencies_of_the_whole_workspace() {
    // A crate may be built twice: for build scripts and macros, and for what runs. The second tree
    // has only the latter.
    let trees: Vec<(&str, BTreeSet<String>)> = ["normal,build,dev", "normal,dev,no-proc-macro"]
        .map(|edges| (edges, tree(&["--workspace", "--edges", edges])))
        .into();
    let mut differing = Vec::new();
    let mut compare = |package: &str, edges: &str, whole: &BTreeSet<String>| {
        let selected = tree(&["--package", package, "--edges", edges]);
        // The crates of the workspace are left out: without the feature `postgres` they compile
        // again, quickly.
        let dependencies = selected.difference(whole).filter(|line| !line.contains(env!("CARGO_MANIFEST_DIR")));
        let other = dependencies.map(|line| format!("{package} ({edges}): {line}"));
        differing.extend(other);
    };
    for member in members() {
        for (edges, whole) in &trees {
            compare(&member, edges, whole);
        }
        // These are below `vexact-core`, which determines the features: their users choose them.
        if !["vexact-kernel", "vexact-sql", "vexact-locks"].contains(&member.as_str()) {
            compare(&member, "normal,build", &trees[0].1);
        }
    }
    assert!(differing.is_empty(), "other features than the workspace's:\n{}", differing.join("\n"));
}

/// The Rust files of a folder, without tests.
fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        match path.is_dir() {
            true if !matches!(name, "tests" | "target") => sources(&path, found),
            false if name.ends_with(".rs") && !matches!(name, "tests.rs" | "build.rs") => found.push(path),
            _ => {}
        }
    }
}

/// Two SQLite libraries in one process lose data unless the locks of `vexact-locks` are installed.
/// Its `open` installs them.
#[test]
fn sqlite_connections_are_opened_by_vexact_locks() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    for folder in ["src", "python/src", "sql-udfs", "kernel"] {
        sources(&root.join(folder), &mut files);
    }
    assert!(files.len() > 100, "{files:?}");
    // The calls that open DuckDB's connections have similar names.
    let is_other =
        |path: &Path| path.starts_with(root.join("src/locks")) || path.starts_with(root.join("src/htap/src/duckdb"));
    files.retain(|path| !is_other(path));
    let opens = |path: &PathBuf| {
        let text = std::fs::read_to_string(path).unwrap();
        let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
        code.contains("Connection::open")
    };
    files.retain(opens);
    assert!(files.is_empty(), "expected connections opened by vexact_locks, got others in {files:?}");
}
