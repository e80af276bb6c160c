//! One step of a run: a write, a sync, a change of a schema, a migration or a restart.

use vexact::ColumnType;
use vexact::htap::{HtapEngine, Param};

use super::statement::{self, statement, swap};
use super::table::{Column, quoted};
use super::value::{self, TYPES};
use super::world::{Standing, World};

fn param(value: rusqlite::types::Value) -> Param {
    use rusqlite::types::Value;
    match value {
        Value::Null => Param::Null,
        Value::Integer(integer) => Param::Integer(integer),
        Value::Real(real) => Param::Real(real),
        Value::Text(text) => Param::Text(text),
        Value::Blob(blob) => Param::Bytes(blob),
    }
}

impl World {
    fn engine(&self, at: usize) -> &HtapEngine {
        self.slots[at].engine.as_ref().unwrap()
    }

    fn any_table(&mut self) -> usize {
        self.random.below(self.tables.len())
    }

    fn statements(&mut self, count: usize) -> Vec<String> {
        (0..count)
            .map(|_| {
                let table = self.any_table();
                statement(&mut self.random, &self.tables[table])
            })
            .collect()
    }

    pub async fn step(&mut self) {
        let slot = self.random.below(self.slots.len());
        match self.random.below(100) {
            0..30 => {
                let sql = self.statements(1).remove(0);
                self.execute(slot, &sql).await;
            }
            30..38 => self.batch(slot).await,
            38..43 => self.many(slot).await,
            43..55 => self.write_elsewhere(),
            55..65 => self.sync_now(slot).await,
            65..74 => self.sync_all(slot).await,
            74..79 => self.keep_point(),
            79..83 => self.load(slot).await,
            83..86 => self.trigger(slot).await,
            86..88 => self.index(slot).await,
            88..90 => self.add_column(slot).await,
            90..92 => self.drop_column(slot).await,
            92..94 => self.migrate(),
            94..96 => self.restart(slot).await,
            96 if self.slots.len() == 1 => self.add_engine("B").await,
            97 => self.break_or_mend(),
            98 => self.set(slot).await,
            _ => self.keep_point(),
        }
    }

    async fn batch(&mut self, slot: usize) {
        let count = 1 + self.random.below(5);
        let mut statements = self.statements(count);
        if self.random.chance(30) {
            let table = self.any_table();
            statements.extend(swap(&mut self.random, &self.tables[table]));
        }
        if self.random.chance(20) {
            // The statements before this one are rolled back.
            statements.push("INSERT INTO no_such_table VALUES (1)".into());
        }
        self.note(self.slots[slot].name, &format!("BEGIN; {}; COMMIT", statements.join("; ")));
        let outcome = self.engine(slot).execute_batch(statements).await;
        self.outcome(outcome.map(drop).map_err(|error| error.to_string()));
    }

    async fn many(&mut self, slot: usize) {
        let table = self.any_table();
        let table = self.tables[table].clone();
        let columns = table.settable();
        let marks: Vec<String> = (1..=columns.len()).map(|at| format!("${at}")).collect();
        let clause = *self.random.pick(&["", "OR REPLACE", "OR IGNORE"]);
        let list = statement::column_list(&table);
        let sql = format!("INSERT {clause} INTO {}({list}) VALUES ({})", quoted(&table.name), marks.join(", "));
        let count = 1 + self.random.below(8);
        let row =
            |random: &mut _| -> Vec<_> { columns.iter().map(|column| value::fitting(random, column.kind)).collect() };
        let rows: Vec<Vec<_>> = (0..count).map(|_| row(&mut self.random)).collect();
        let texts = rows.iter().map(|row| row.iter().map(value::literal).collect::<Vec<_>>().join(", "));
        self.note(self.slots[slot].name, &format!("{sql}; {}", texts.collect::<Vec<_>>().join("; ")));
        let rows: Vec<Vec<Param>> = rows.into_iter().map(|row| row.into_iter().map(param).collect()).collect();
        let outcome = self.engine(slot).execute_many(&sql, &rows).await;
        self.outcome(outcome.map(drop).map_err(|error| error.to_string()));
    }

    fn write_elsewhere(&mut self) {
        if self.random.chance(25) {
            // Another program, with its own settings.
            self.other = None;
        }
        let count = 1 + self.random.below(4);
        let mut statements = self.statements(count);
        match self.random.below(5) {
            0 => {
                let at = self.random.below(statements.len());
                statements.insert(at, "SAVEPOINT s".into());
                statements.insert(0, "BEGIN".into());
                statements.extend(["ROLLBACK TO s".into(), "COMMIT".into()]);
            }
            1 => {
                statements.insert(0, "BEGIN".into());
                statements.push("ROLLBACK".into());
            }
            2 | 3 => {
                statements.insert(0, "BEGIN".into());
                statements.push("COMMIT".into());
            }
            _ => {}
        }
        self.elsewhere(&statements.join(";\n  "));
    }

    pub async fn load(&mut self, slot: usize) {
        let table = self.any_table();
        let name = self.tables[table].registered.clone();
        self.note(self.slots[slot].name, &format!("initial_sync {name}"));
        let outcome = self.engine(slot).initial_sync(&name).await;
        if self.standing(table) != Standing::Sound {
            assert!(outcome.is_err(), "{name} is {:?}", self.standing(table));
            return;
        }
        let rows = self.number(&format!("SELECT count(*) FROM {}", quoted(&self.tables[table].name)));
        assert_eq!(outcome.unwrap(), rows.unsigned_abs());
        self.slots[slot].counted = None;
        self.synced(slot).await;
        if self.slots[slot].unloaded.remove(&table) {
            let now = self.next_tick();
            self.slots[slot].since.insert(table, now);
        }
    }

    async fn trigger(&mut self, slot: usize) {
        if self.triggers > 0 && self.random.chance(40) {
            let name = format!("user trigger {}", 1 + self.random.below(self.triggers));
            self.execute(slot, &format!("DROP TRIGGER IF EXISTS {}", quoted(&name))).await;
            return;
        }
        let (table, other) = (self.any_table(), self.any_table());
        self.may_reload(table);
        self.triggers += 1;
        let name = format!("user trigger {}", self.triggers);
        let sql = statement::trigger(&mut self.random, &name, &self.tables[table], &self.tables[other]);
        self.execute(slot, &sql).await;
    }

    async fn index(&mut self, slot: usize) {
        let name = quoted(&format!("user index {}", self.random.below(3)));
        let table = self.any_table();
        if self.standing(table) != Standing::Sound {
            return;
        }
        self.may_reload(table);
        let table = self.tables[table].clone();
        if self.random.chance(30) {
            self.execute(slot, &format!("DROP INDEX IF EXISTS {name}")).await;
            return;
        }
        let (a, b) = (self.random.pick(&table.columns).clone(), self.random.pick(&table.columns).clone());
        let mut parts = quoted(&a.name);
        if a.kind == "utf8" && self.random.chance(50) {
            parts += " COLLATE NOCASE";
        }
        if a.uid != b.uid && self.random.chance(50) {
            parts += &format!(", {}", quoted(&b.name));
        }
        let parts = statement::computed_parts(&mut self.random, &table, &a, &b).unwrap_or(parts);
        let only =
            if self.random.chance(30) { format!(" WHERE {} IS NOT NULL", quoted(&b.name)) } else { String::new() };
        let sql = format!("CREATE UNIQUE INDEX {name} ON {}({parts}){only}", quoted(&table.name));
        self.execute(slot, &sql).await;
    }

    async fn add_column(&mut self, slot: usize) {
        let at = self.any_table();
        if self.standing(at) != Standing::Sound || self.tables[at].columns.len() > 9 {
            return;
        }
        let kind = *self.random.pick(&TYPES);
        self.uid += 1;
        // A new column may have the name of a dropped one.
        let (uid, name) = (self.uid, format!("Added {}", self.random.below(6)));
        if self.tables[at].columns.iter().any(|column| column.name == name) {
            return;
        }
        let mut declaration = String::new();
        let is_there = self.random.chance(60);
        if is_there {
            let usual = if kind == "utf8" { "TEXT" } else { "" };
            declaration = usual.into();
            if self.random.chance(60) {
                let default = value::literal(&value::fitting(&mut self.random, kind));
                // The default of an added column must be a constant.
                if !default.contains('(') {
                    declaration += &format!(" DEFAULT {default}");
                }
            }
            // A connection that has not seen another one's ALTER rejects the name of a dropped
            // column.
            self.other = None;
            let sql =
                format!("ALTER TABLE {} ADD COLUMN {} {declaration}", quoted(&self.tables[at].name), quoted(&name));
            assert!(if self.random.chance(50) { self.execute(slot, &sql).await } else { self.elsewhere(&sql) });
        }
        let column = Column {
            uid,
            name: name.clone(),
            registered: name.clone(),
            kind,
            declaration,
            is_generated: false,
            is_registered: false,
        };
        if is_there {
            // The write comes before the registration of the column with the engine.
            self.tables[at].columns.push(column.clone());
            for _ in 0..self.random.below(4) {
                let sql = statement(&mut self.random, &self.tables[at]);
                if !sql.starts_with("DROP") {
                    self.execute(slot, &sql).await;
                }
            }
            // Values that do not fit would be rejected, as they should be.
            let (table, column) = (quoted(&self.tables[at].name), quoted(&name));
            let fits = self
                .reader
                .prepare(&format!("SELECT {column} FROM {table}"))
                .unwrap()
                .query_map([], |row| row.get(0))
                .unwrap()
                .all(|value| value::fits(kind, &value.unwrap()));
            if !fits || self.standing(at) != Standing::Sound || self.random.chance(20) {
                return;
            }
        }
        let table = self.tables[at].registered.clone();
        self.note(self.slots[slot].name, &format!("add_column({table}, {name}, {kind})"));
        self.engine(slot).add_column(&table, &name, ColumnType::parse(kind).unwrap()).await.unwrap();
        if !is_there {
            let declaration = ColumnType::parse(kind).unwrap().sqlite().to_owned();
            self.tables[at].columns.push(Column { declaration, ..column.clone() });
        }
        // The engine registers the column as the last one, whatever its position in SQLite.
        let columns = &mut self.tables[at].columns;
        let place = columns.iter().position(|known| known.uid == uid).unwrap();
        let mut added = columns.remove(place);
        added.is_registered = true;
        columns.push(added);
        self.altered(slot, at).await;
    }

    async fn altered(&mut self, slot: usize, table: usize) {
        self.may_reload(table);
        self.synced(slot).await;
    }

    async fn drop_column(&mut self, slot: usize) {
        let at = self.any_table();
        if self.standing(at) != Standing::Sound {
            return;
        }
        let table = self.tables[at].clone();
        let column = self.random.pick(&table.columns).clone();
        if !column.is_registered {
            return;
        }
        self.note(self.slots[slot].name, &format!("drop_column({}, {})", table.registered, column.registered));
        let outcome = self.engine(slot).drop_column(&table.registered, &column.registered).await;
        if table.is_key(&column) {
            assert!(outcome.unwrap_err().to_string().contains("belongs to the key"));
            return;
        }
        // An index, a trigger or another column may depend on it.
        if self.outcome(outcome.map_err(|error| error.to_string())) {
            self.tables[at].columns.retain(|known| known.uid != column.uid);
            let key = table.key.iter().map(|at| table.columns[*at].uid);
            let columns = &self.tables[at].columns;
            let key = key.map(|uid| columns.iter().position(|column| column.uid == uid).unwrap()).collect();
            self.tables[at].key = key;
            self.altered(slot, at).await;
        }
    }

    /// Another program rebuilds a table: by hand, or by the procedure of SQLite's manual for ALTER.
    fn migrate(&mut self) {
        let at = self.any_table();
        let table = self.tables[at].clone();
        let name = quoted(&table.name);
        self.block(at);
        if self.standing(at) == Standing::Gone {
            self.elsewhere(&table.create());
            return;
        }
        let list = statement::column_list(&table);
        let sql = match self.random.below(4) {
            0 => format!("DROP TABLE {name}"),
            1 => format!(
                "PRAGMA foreign_keys = OFF; BEGIN; {}; INSERT INTO \"migrated\"({list}) SELECT {list} FROM {name}; DROP TABLE {name}; \
                 ALTER TABLE \"migrated\" RENAME TO {name}; COMMIT",
                table.create_as("migrated")
            ),
            2 => format!("PRAGMA foreign_keys = OFF; BEGIN; DROP TABLE {name}; {}; COMMIT", table.create()),
            _ => format!(
                "PRAGMA foreign_keys = OFF; BEGIN; CREATE TEMP TABLE kept AS SELECT * FROM {name}; DROP TABLE {name}; {}; \
                 INSERT INTO {name}({list}) SELECT {list} FROM kept; DROP TABLE kept; COMMIT",
                table.create()
            ),
        };
        self.elsewhere(&sql);
        self.other = None;
        for _ in 0..self.random.below(3) {
            // These writes are not captured.
            let (columns, row) = (statement::column_list(&self.tables[at]), self.fitting_row(at));
            self.elsewhere(&format!("INSERT OR REPLACE INTO {name}({columns}) VALUES ({row})"));
        }
    }

    fn fitting_row(&mut self, at: usize) -> String {
        let table = self.tables[at].clone();
        let values =
            table.settable().into_iter().map(|column| value::literal(&value::fitting(&mut self.random, column.kind)));
        values.collect::<Vec<_>>().join(", ")
    }

    /// Another program adds a schema object that cannot be captured, or removes it again.
    fn break_or_mend(&mut self) {
        let at = self.any_table();
        let table = self.tables[at].clone();
        let name = quoted(&table.name);
        self.block(at);
        match self.standing(at) {
            Standing::Gone => drop(self.elsewhere(&table.create())),
            Standing::Unfit => drop(self.elsewhere(&format!("DROP INDEX IF EXISTS computed; DELETE FROM {name}"))),
            Standing::Sound => {
                let column = self.random.pick(&table.columns).clone();
                let sql = match self.random.below(2) {
                    0 => {
                        // The type's name is the name of a column.
                        let column = quoted(&column.name);
                        format!("CREATE UNIQUE INDEX computed ON {name}(CAST({column} AS {column}))")
                    }
                    _ => {
                        let list = statement::column_list(&table);
                        let value =
                            |column: &&Column, random: &mut _| match column.is_registered && !table.is_key(column) {
                                true => value::literal(&value::unfit(column.kind)),
                                false => value::literal(&value::fitting(random, column.kind)),
                            };
                        let values: Vec<String> =
                            table.settable().iter().map(|column| value(column, &mut self.random)).collect();
                        format!(
                            "PRAGMA foreign_keys = OFF; BEGIN; DROP TABLE {name}; {}; INSERT INTO {name}({list}) VALUES ({}); COMMIT",
                            table.create(),
                            values.join(", ")
                        )
                    }
                };
                self.elsewhere(&sql);
                self.other = None;
            }
        }
    }

    async fn set(&mut self, slot: usize) {
        let setting = *self.random.pick(&["foreign_keys", "recursive_triggers"]);
        let on = *self.random.pick(&["ON", "OFF"]);
        self.execute(slot, &format!("PRAGMA {setting} = {on}")).await;
    }

    async fn restart(&mut self, slot: usize) {
        let engine = self.slots[slot].engine.take().unwrap();
        let name = self.slots[slot].name;
        if self.random.chance(50) {
            self.note(name, "shuts down and opens again");
            engine.shutdown().await;
        } else {
            self.note(name, "is dropped and opened again");
        }
        drop(engine);
        let engine = HtapEngine::open(self.slots[slot].config.clone()).await.unwrap();
        let mut again = self.slots.remove(slot);
        again.engine = Some(engine);
        again.synced = Default::default();
        self.begin_history(&mut again);
        self.slots.insert(slot, again);
        self.synced(slot).await;
    }
}
