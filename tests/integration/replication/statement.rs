//! Random statements.

use super::random::Random;
use super::table::{Column, Table, quoted};

const CLAUSES: [&str; 10] =
    ["", "", "", "", "OR REPLACE", "OR REPLACE", "OR REPLACE", "OR IGNORE", "OR FAIL", "OR ABORT"];

fn filter(random: &mut Random, table: &Table) -> String {
    let column = random.pick(&table.columns);
    let name = quoted(&column.name);
    match random.below(9) {
        0 => String::new(),
        1 => format!(" WHERE {name} IS NOT NULL"),
        2 => format!(" WHERE {name} > {}", table.draw(random, column)),
        3 => format!(" WHERE {name} IN ({}, {})", table.draw(random, column), table.draw(random, column)),
        4 => {
            // Any single row.
            let key: Vec<String> = table.key.iter().map(|at| quoted(&table.columns[*at].name)).collect();
            let key = key.join(", ");
            let skipped = random.below(6);
            format!(" WHERE ({key}) = (SELECT {key} FROM {} LIMIT 1 OFFSET {skipped})", quoted(&table.name))
        }
        _ => format!(" WHERE {name} = {}", table.draw(random, column)),
    }
}

fn assigned(random: &mut Random, table: &Table, column: &Column) -> String {
    let name = quoted(&column.name);
    if random.chance(75) {
        return table.draw(random, column);
    }
    match column.kind {
        kind if kind.contains("int") => format!("{name} {} 1", random.pick(&["+", "-"])),
        "utf8" => random
            .pick(&[&*format!("upper({name})"), &*format!("{name} || 'x'"), &*format!("lower({name})")])
            .to_string(),
        "float64" | "float32" | "float16" => format!("-{name}"),
        "bool" => format!("NOT {name}"),
        _ => name,
    }
}

fn assignments(random: &mut Random, table: &Table) -> String {
    let columns = table.settable();
    let mut chosen: Vec<&Column> = Vec::new();
    for _ in 0..1 + random.below(3) {
        let column = *random.pick(&columns);
        if !chosen.iter().any(|known| known.uid == column.uid) {
            chosen.push(column);
        }
    }
    let set = chosen.iter().map(|column| format!("{} = {}", quoted(&column.name), assigned(random, table, column)));
    set.collect::<Vec<_>>().join(", ")
}

pub fn row(random: &mut Random, table: &Table) -> String {
    let values: Vec<String> = table.settable().iter().map(|column| table.draw(random, column)).collect();
    format!("({})", values.join(", "))
}

pub fn column_list(table: &Table) -> String {
    table.settable().iter().map(|column| quoted(&column.name)).collect::<Vec<_>>().join(", ")
}

pub fn insert(random: &mut Random, table: &Table) -> String {
    let rows: Vec<String> = (0..1 + random.below(5)).map(|_| row(random, table)).collect();
    let clause = random.pick(&CLAUSES);
    format!("INSERT {clause} INTO {}({}) VALUES {}", quoted(&table.name), column_list(table), rows.join(", "))
}

fn upsert(random: &mut Random, table: &Table) -> String {
    let key: Vec<String> = table.key.iter().map(|at| quoted(&table.columns[*at].name)).collect();
    let target = if random.chance(80) { format!("({})", key.join(", ")) } else { String::new() };
    let action = match random.chance(80) || target.is_empty() {
        true => format!("UPDATE SET {}", assignments(random, table)),
        false => "NOTHING".into(),
    };
    let rows: Vec<String> = (0..1 + random.below(3)).map(|_| row(random, table)).collect();
    let (name, columns) = (quoted(&table.name), column_list(table));
    format!("INSERT INTO {name}({columns}) VALUES {} ON CONFLICT{target} DO {action}", rows.join(", "))
}

fn copies(random: &mut Random, table: &Table) -> String {
    let values: Vec<String> = table
        .settable()
        .iter()
        .map(|column| if random.chance(40) { assigned(random, table, column) } else { quoted(&column.name) })
        .collect();
    let (name, columns) = (quoted(&table.name), column_list(table));
    let clause = random.pick(&["OR REPLACE", "OR IGNORE", ""]);
    format!("INSERT {clause} INTO {name}({columns}) SELECT {} FROM {name}{}", values.join(", "), filter(random, table))
}

/// One statement on one table.
pub fn statement(random: &mut Random, table: &Table) -> String {
    let name = quoted(&table.name);
    match random.below(20) {
        0..6 => insert(random, table),
        6..8 => upsert(random, table),
        8 => copies(random, table),
        9 => insert(random, table).replacen("INSERT OR FAIL", "INSERT", 1).replacen("INSERT  ", "REPLACE ", 1),
        10..16 => {
            let clause = random.pick(&CLAUSES);
            format!("UPDATE {clause} {name} SET {}{}", assignments(random, table), filter(random, table))
        }
        16 => {
            // All keys at once.
            let key = &table.columns[*random.pick(&table.key)];
            if key.is_generated {
                return format!("DELETE FROM {name}{}", filter(random, table));
            }
            let clause = random.pick(&["", "OR REPLACE", "OR IGNORE"]);
            format!("UPDATE {clause} {name} SET {} = {}", quoted(&key.name), assigned(random, table, key))
        }
        17 if random.chance(30) => format!("DELETE FROM {name}"),
        _ => format!("DELETE FROM {name}{}", filter(random, table)),
    }
}

/// Swaps the keys of two rows, through a key that neither has.
pub fn swap(random: &mut Random, table: &Table) -> Vec<String> {
    let key = &table.columns[*random.pick(&table.key)];
    let (a, b, free) = (table.draw(random, key), table.draw(random, key), table.draw(random, key));
    let (name, column) = (quoted(&table.name), quoted(&key.name));
    let step = |from: &str, to: &str| format!("UPDATE {name} SET {column} = {to} WHERE {column} = {from}");
    vec![step(&a, &free), step(&b, &a), step(&free, &b)]
}

/// Returns a trigger of the user: `CREATE TRIGGER name ..`.
pub fn trigger(random: &mut Random, name: &str, table: &Table, other: &Table) -> String {
    let on = quoted(&table.name);
    let column = *random.pick(&table.settable());
    let set = quoted(&column.name);
    let watched = random.pick(&table.columns);
    let (seen, seen_value) = (quoted(&watched.name), table.draw(random, watched));
    let key = |row: &str| -> String {
        let parts = table.key.iter().map(|at| quoted(&table.columns[*at].name));
        parts.map(|part| format!("{part} = {row}.{part}")).collect::<Vec<_>>().join(" AND ")
    };
    let new = assigned(random, table, column);
    let clause = random.pick(&["", "OR REPLACE", "OR IGNORE", "OR IGNORE"]);
    let body = match random.below(10) {
        0 => format!("AFTER INSERT ON {on} BEGIN UPDATE {clause} {on} SET {set} = {new} WHERE {}; END", key("NEW")),
        1 => format!(
            "AFTER UPDATE ON {on} WHEN NEW.{seen} = {seen_value} BEGIN UPDATE {clause} {on} SET {set} = {new} WHERE {}; END",
            key("NEW")
        ),
        2 => format!(
            "AFTER UPDATE OF {set} ON {on} WHEN NEW.{seen} = {seen_value} BEGIN DELETE FROM {on} WHERE {}; END",
            key("NEW")
        ),
        3 => {
            let columns = column_list(table);
            let values: Vec<String> =
                table.settable().iter().map(|column| format!("OLD.{}", quoted(&column.name))).collect();
            format!(
                "AFTER DELETE ON {on} WHEN OLD.{seen} = {seen_value} BEGIN INSERT OR IGNORE INTO {on}({columns}) VALUES ({}); END",
                values.join(", ")
            )
        }
        4 => format!("BEFORE INSERT ON {on} BEGIN DELETE FROM {on} WHERE {seen} = {seen_value}; END"),
        // SQLite chooses whether the user's trigger or the engine's one fires first.
        5 => format!(
            "BEFORE INSERT ON {on} BEGIN UPDATE {clause} {on} SET {set} = {new} WHERE {seen} = {seen_value}; END"
        ),
        6 => format!(
            "BEFORE UPDATE ON {on} BEGIN UPDATE {clause} {on} SET {set} = {new} WHERE NOT ({}); END",
            key("OLD")
        ),
        7 => format!("AFTER INSERT ON {on} BEGIN {}; END", insert(random, other)),
        8 => format!("AFTER DELETE ON {on} BEGIN {}; END", insert(random, other)),
        _ => format!("BEFORE DELETE ON {on} BEGIN DELETE FROM {} WHERE {}; END", quoted(&other.name), {
            let column = random.pick(&other.columns);
            format!("{} = {}", quoted(&column.name), other.draw(random, column))
        }),
    };
    format!("CREATE TRIGGER {} {body}", quoted(name))
}

/// Returns the parts of a unique index on expressions of two columns. There are none on the row id:
/// its expressions cannot be captured.
pub fn computed_parts(random: &mut Random, table: &Table, a: &Column, b: &Column) -> Option<String> {
    let may_be_row_id = |column: &Column| table.is_key(column) || column.declaration.contains("PRIMARY KEY");
    if may_be_row_id(a) || may_be_row_id(b) || !random.chance(30) {
        return None;
    }
    let (a, b) = (quoted(&a.name), quoted(&b.name));
    Some(match random.below(3) {
        0 => format!("lower({a}) COLLATE NOCASE DESC"),
        1 => format!("CASE WHEN {a} IS NULL THEN {b} ELSE {a} END, {b}"),
        _ => format!("{b}, coalesce({a}, 'none') || {b}"),
    })
}
