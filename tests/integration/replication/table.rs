//! Random tables: their SQL, and their registration.

use vexact::schema::TableSchema;

use super::random::Random;
use super::value::{self, KEY_TYPES, TYPES};

pub fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

const TABLE_NAMES: [&str; 12] =
    ["t", "Order", "select", "Gr\"oup", "MiXed Case", "tbl", "r", "n", "NEW", "Índice", "_log", "main"];
const COLUMN_NAMES: [&str; 26] = [
    "id", "Key", "a b", "where", "q\"uote", "x", "NEW", "OLD", "r", "n", "tbl", "idx", "seq", "c0", "u0", "k0", "oid",
    "value", "Date", "日本", "time", "version", "op", "it's", "[b]", "_rowid_",
];

#[derive(Debug, Clone)]
pub struct Column {
    /// Unique id, which is never reused, not even for a column of the same name.
    pub uid: usize,
    pub name: String,
    /// Spelling of the name in the registration.
    pub registered: String,
    pub kind: &'static str,
    /// Type, collation, constraints, expression.
    pub declaration: String,
    pub is_generated: bool,
    pub is_registered: bool,
}

#[derive(Debug, Clone)]
pub struct Table {
    pub name: String,
    pub registered: String,
    pub columns: Vec<Column>,
    /// Ordinals of the registered key.
    pub key: Vec<usize>,
    /// UNIQUE, PRIMARY KEY and FOREIGN KEY.
    pub constraints: Vec<String>,
    pub options: &'static str,
}

/// Returns a name in another case.
fn respelled(random: &mut Random, name: &str) -> String {
    let flip = |c: char| if c.is_ascii_lowercase() { c.to_ascii_uppercase() } else { c.to_ascii_lowercase() };
    if random.chance(70) { name.into() } else { name.chars().map(flip).collect() }
}

fn declared(random: &mut Random, kind: &'static str) -> String {
    let usual = match kind {
        "float16" | "float32" | "float64" => "REAL",
        "utf8" => "TEXT",
        "bool" => "BOOLEAN",
        "binary" | "vector(2)" | "float16[2]" => "BLOB",
        _ => "INTEGER",
    };
    if random.chance(12) { String::new() } else { usual.into() }
}

fn names(random: &mut Random, pool: &[&str], count: usize) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    while names.len() < count {
        let name = (*random.pick(pool)).to_owned();
        if !names.iter().any(|known| known.eq_ignore_ascii_case(&name)) {
            names.push(name);
        }
    }
    names
}

/// Collations of a text column. With the last two, different values can be the same key to the
/// column's index.
const COLLATIONS: [&str; 4] = ["", "", " COLLATE NOCASE", " COLLATE RTRIM"];

/// Returns tables; a later one may refer to an earlier one.
pub fn tables(random: &mut Random, count: usize, uid: &mut usize) -> Vec<Table> {
    let mut tables: Vec<Table> = Vec::new();
    for name in names(random, &TABLE_NAMES, count) {
        let table = table(random, &name, &tables, uid);
        tables.push(table);
    }
    tables
}

fn table(random: &mut Random, name: &str, earlier: &[Table], uid: &mut usize) -> Table {
    let key_width = *random.pick(&[1, 1, 1, 2, 3]);
    let width = key_width + 1 + random.below(4);
    let mut columns: Vec<Column> = Vec::new();
    for (at, name) in names(random, &COLUMN_NAMES, width).into_iter().enumerate() {
        let kind = *random.pick(if at < key_width { &TYPES[..KEY_TYPES] } else { &TYPES });
        let mut declaration = declared(random, kind);
        if kind == "utf8" {
            declaration += *random.pick(&COLLATIONS);
        }
        *uid += 1;
        let registered = respelled(random, &name);
        let is_registered = at < key_width || random.chance(85);
        columns.push(Column { uid: *uid, name, registered, kind, declaration, is_generated: false, is_registered });
    }
    let mut constraints = Vec::new();
    let mut options = "";
    let key: Vec<usize> = (0..key_width).collect();
    let list = |columns: &[Column], key: &[usize]| -> String {
        key.iter().map(|at| quoted(&columns[*at].name)).collect::<Vec<_>>().join(", ")
    };
    match random.below(4) {
        0 if key_width == 1 && columns[0].kind.contains("int") => {
            columns[0].declaration = "INTEGER PRIMARY KEY".into();
        }
        0 | 1 => {
            constraints.push(format!("PRIMARY KEY({})", list(&columns, &key)));
            options = if random.chance(50) { " WITHOUT ROWID" } else { "" };
        }
        2 => constraints.push(format!("UNIQUE({})", list(&columns, &key))),
        // A key besides an integer column that is the row id.
        _ => {
            constraints.push(format!("UNIQUE({})", list(&columns, &key)));
            let other = key_width;
            columns[other].kind = "int64";
            columns[other].declaration = "INTEGER PRIMARY KEY".into();
        }
    }
    generate(random, &mut columns, key_width, &constraints);
    uniques(random, &columns, &mut constraints);
    references(random, name, &columns, &key, earlier, &mut constraints);
    // The columns are registered in another order than declared.
    let order = random.below(2);
    let mut key = key;
    if order == 1 {
        let last = columns.len() - 1;
        columns.reverse();
        key.iter_mut().for_each(|at| *at = last - *at);
    }
    Table { registered: respelled(random, name), name: name.into(), columns, key, constraints, options }
}

/// Makes a column a generated one, by an expression of another column.
fn generate(random: &mut Random, columns: &mut [Column], key_width: usize, constraints: &[String]) {
    if !random.chance(35) {
        return;
    }
    let last = columns.len() - 1;
    let by_key = random.chance(25) && key_width == 1 && constraints.iter().any(|text| text.starts_with("UNIQUE"));
    let target = if by_key { 0 } else { last };
    let sources: Vec<usize> =
        (0..columns.len()).filter(|at| *at != target && ["int64", "utf8"].contains(&columns[*at].kind)).collect();
    if sources.is_empty() || columns[target].declaration.contains("PRIMARY") {
        return;
    }
    if target == last && last < key_width {
        return;
    }
    let source = &columns[*random.pick(&sources)];
    if source.declaration.contains("PRIMARY") {
        // SQLite assigns the row id only at the insert.
        return;
    }
    let name = quoted(&source.name);
    let (kind, expression) = match source.kind {
        "utf8" => ("utf8", format!("lower({name}) || 'g'")),
        _ => ("int64", format!("{name} + 1")),
    };
    let storage = random.pick(&["STORED", "VIRTUAL"]);
    let column = &mut columns[target];
    column.kind = kind;
    column.declaration = format!("{} AS ({expression}) {storage}", if kind == "utf8" { "TEXT" } else { "INTEGER" });
    column.is_generated = true;
}

fn uniques(random: &mut Random, columns: &[Column], constraints: &mut Vec<String>) {
    for _ in 0..random.below(3) {
        let at = random.below(columns.len());
        let collation = if columns[at].kind == "utf8" { *random.pick(&COLLATIONS) } else { "" };
        let mut parts = vec![format!("{}{collation}", quoted(&columns[at].name))];
        if random.chance(40) {
            let other = random.below(columns.len());
            if other != at {
                parts.push(quoted(&columns[other].name));
            }
        }
        let clause = if random.chance(15) { " ON CONFLICT REPLACE" } else { "" };
        constraints.push(format!("UNIQUE({}){clause}", parts.join(", ")));
    }
}

fn references(
    random: &mut Random,
    name: &str,
    columns: &[Column],
    key: &[usize],
    earlier: &[Table],
    constraints: &mut Vec<String>,
) {
    let mut targets: Vec<(String, &Column)> = Vec::new();
    for table in earlier.iter().filter(|table| table.key.len() == 1) {
        targets.push((quoted(&table.name), &table.columns[table.key[0]]));
    }
    if key.len() == 1 {
        targets.push((quoted(name), &columns[key[0]]));
    }
    for (table, parent) in targets {
        let children: Vec<&Column> = columns
            .iter()
            .enumerate()
            .filter(|(at, column)| column.kind == parent.kind && !key.contains(at) && !column.is_generated)
            .map(|(_, column)| column)
            .collect();
        if children.is_empty() || !random.chance(70) {
            continue;
        }
        let child = random.pick(&children);
        let delete = random.pick(&["CASCADE", "SET NULL", "SET DEFAULT", "NO ACTION"]);
        let update = random.pick(&["CASCADE", "CASCADE", "SET NULL"]);
        let when = if random.chance(25) { " DEFERRABLE INITIALLY DEFERRED" } else { "" };
        constraints.push(format!(
            "FOREIGN KEY({}) REFERENCES {table}({}) ON DELETE {delete} ON UPDATE {update}{when}",
            quoted(&child.name),
            quoted(&parent.name)
        ));
    }
}

impl Table {
    pub fn create(&self) -> String {
        self.create_as(&self.name)
    }

    pub fn create_as(&self, name: &str) -> String {
        let columns = self.columns.iter().map(|column| format!("{} {}", quoted(&column.name), column.declaration));
        let parts: Vec<String> = columns.chain(self.constraints.iter().cloned()).collect();
        format!("CREATE TABLE {}({}){}", quoted(name), parts.join(", "), self.options)
    }

    /// The registered columns.
    pub fn followed(&self) -> Vec<&Column> {
        self.columns.iter().filter(|column| column.is_registered).collect()
    }

    /// Positions of the key among the registered columns.
    pub fn followed_key(&self) -> Vec<usize> {
        let followed = self.followed();
        let position = |at: &usize| followed.iter().position(|column| column.uid == self.columns[*at].uid).unwrap();
        self.key.iter().map(position).collect()
    }

    pub fn schema(&self) -> TableSchema {
        let columns: Vec<(String, String)> =
            self.followed().iter().map(|column| (column.registered.clone(), column.kind.to_owned())).collect();
        let key: Vec<String> = self.key.iter().map(|at| self.columns[*at].registered.clone()).collect();
        TableSchema::try_new(&self.registered, &columns, &key).unwrap()
    }

    /// Columns that a statement can set.
    pub fn settable(&self) -> Vec<&Column> {
        self.columns.iter().filter(|column| !column.is_generated).collect()
    }

    pub fn is_key(&self, column: &Column) -> bool {
        self.key.iter().any(|at| self.columns[*at].uid == column.uid)
    }

    /// Returns a value for a column as SQL: in most cases one that fits.
    pub fn draw(&self, random: &mut Random, column: &Column) -> String {
        let nulls = if self.is_key(column) { 1 } else { 12 };
        match random.below(100) {
            draw if draw < nulls => "NULL".into(),
            99 if random.chance(30) => value::literal(&value::unfit(column.kind)),
            _ => value::literal(&value::fitting(random, column.kind)),
        }
    }
}
