//! Random queries with the constructs in which the two routes have differed.

use crate::query_writer::Writer;

impl Writer {
    pub fn join_with_using(&mut self) -> String {
        let kind = self.pick(&["", "LEFT ", "LEFT ", "RIGHT ", "FULL "]);
        let (first, second) = if self.random.chance(50) { ("t", "u") } else { ("u", "t") };
        let shared = self.pick(&["id", "a", "s", "id, a", "f"]);
        let one = shared.split(',').next().unwrap_or_default().to_owned();
        let join = match self.random.below(4) {
            0 => format!("{first} NATURAL {kind}JOIN {second}"),
            1 => format!(
                "(SELECT id, a, s, f FROM {first}) AS p {kind}JOIN (SELECT id, a, s, f, b FROM {second}) AS q USING ({shared})"
            ),
            _ => format!("{first} {kind}JOIN {second} USING ({shared})"),
        };
        match self.random.below(5) {
            0 => format!("SELECT * FROM {join}"),
            1 => format!("SELECT {one}, count(*) FROM {join} GROUP BY {one}"),
            2 => format!("SELECT DISTINCT {one} FROM {join} WHERE {one} IS NOT NULL"),
            3 => format!("SELECT count({one}), max({one}) FROM {join}"),
            _ => format!("SELECT {one} FROM {join} WHERE {one} > {}", self.pick(&["2", "'a'", "id"])),
        }
    }

    pub fn correlated(&mut self) -> String {
        let key = self.pick(&[
            "u.a = t.a",
            "u.a = t.a",
            "u.id = t.id",
            "u.a > t.a",
            "u.s = t.s AND u.a > 2",
            "u.a IS t.a",
            "t.a = u.a OR u.id = 1",
        ]);
        let selected = self.pick(&[
            "1",
            "count(*)",
            "sum(a)",
            "max(f)",
            "count(*) + 1",
            "coalesce(sum(a), -1)",
            "a",
            "DISTINCT a",
            "min(s)",
            "t.a",
            "count(DISTINCT a)",
            "count(*) FILTER (WHERE a > 2)",
            "avg(small)",
        ]);
        let tail = self.pick(&[
            "",
            "",
            "",
            "",
            " LIMIT 1",
            " LIMIT 0",
            " LIMIT 5 OFFSET 1",
            " GROUP BY a",
            " HAVING count(*) > 1",
            " UNION SELECT 3",
        ]);
        // The first of several rows must be unique.
        let order = if tail.starts_with(" LIMIT") { " ORDER BY 1" } else { "" };
        let subquery = format!("SELECT {selected} FROM u WHERE {key}{order}{tail}");
        let not = self.not();
        match self.random.below(7) {
            0 => format!("SELECT id FROM t WHERE {not}EXISTS ({subquery})"),
            1 => format!("SELECT id, {not}EXISTS ({subquery}) FROM t"),
            2 => format!("SELECT id FROM t WHERE {} {not}IN ({subquery})", self.pick(&["t.a", "3", "0", "t.id"])),
            3 => format!("SELECT id, (SELECT max(x) FROM ({subquery}) AS q(x)) FROM t"),
            4 if !selected.contains("a") || selected.contains('(') => format!("SELECT id, ({subquery}) FROM t"),
            5 if selected.contains('(') => {
                format!("SELECT id FROM t WHERE ({subquery}) {}", self.pick(&["= 0", "IS NULL", "> 1"]))
            }
            _ => format!("SELECT id FROM t WHERE {not}EXISTS ({subquery}) OR id = 1"),
        }
    }

    pub fn set_operations(&mut self) -> String {
        let column = self.pick(&["a", "s", "id", "f"]);
        let mut sql = format!("SELECT {column} FROM t");
        for _ in 0..1 + self.random.below(3) {
            let operation = self.pick(&["UNION", "UNION ALL", "INTERSECT", "EXCEPT"]);
            let member = self.pick(&["t", "u", "u WHERE id < 5", "t WHERE a > 2"]);
            sql += &format!(" {operation} SELECT {column} FROM {member}");
        }
        match self.random.below(3) {
            0 => format!("SELECT count(*) FROM ({sql}) AS q"),
            1 => format!("WITH w AS ({sql}) SELECT * FROM w"),
            _ => sql,
        }
    }

    pub fn recursive(&mut self) -> String {
        let (first, step) =
            (self.pick(&["1", "0.5", "NULL", "'a'"]), self.pick(&["i + 1", "i + 0.5", "i || 'b'", "i * 2"]));
        let (union, end) =
            (self.pick(&["UNION ALL", "UNION"]), self.pick(&["LIMIT 5", "WHERE i < 4 LIMIT 9", "LIMIT 4 OFFSET 1"]));
        let rows = format!("WITH RECURSIVE c(i) AS (SELECT {first} {union} SELECT {step} FROM c {end})");
        match self.random.below(3) {
            0 => format!("{rows} SELECT i FROM c"),
            1 => format!("{rows} SELECT count(*), max(i) FROM c"),
            _ => format!("{rows} SELECT c.i, t.s FROM c JOIN t ON t.id = c.i"),
        }
    }

    pub fn windows(&mut self) -> String {
        let call = self.pick(&[
            "row_number()",
            "rank()",
            "sum(a)",
            "count(*)",
            "max(s)",
            "lag(a, 2)",
            "lead(a, 1, 0)",
            "avg(small)",
            "sum(g)",
        ]);
        let (partition, order) = (self.pick(&["b", "a", "s"]), self.pick(&["id", "id DESC", "a, id"]));
        let frame = self.pick(&[
            "",
            "",
            "ROWS 1 PRECEDING",
            "ROWS BETWEEN CURRENT ROW AND UNBOUNDED FOLLOWING",
            "GROUPS 1 PRECEDING",
            "RANGE BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW",
        ]);
        match self.random.below(4) {
            0 => format!("SELECT id, {call} OVER (PARTITION BY {partition} ORDER BY {order} {frame}) FROM t"),
            1 => format!(
                "SELECT id, {call} OVER (w ORDER BY {order} {frame}) FROM t WINDOW w AS (PARTITION BY {partition})"
            ),
            2 => format!(
                "SELECT id, {call} OVER v FROM t WINDOW w AS (PARTITION BY {partition}), v AS (w ORDER BY {order} {frame})"
            ),
            _ => format!(
                "SELECT id, {call} OVER w AS e FROM t WINDOW w AS (PARTITION BY {partition} ORDER BY {order}) ORDER BY {call} OVER w, id"
            ),
        }
    }

    /// Aliases that are also names of columns.
    pub fn hidden_names(&mut self) -> String {
        let (one, alias) =
            (self.pick(&["-a", "abs(a)", "a + id", "s", "f", "small"]), self.pick(&["a", "id", "s", "f"]));
        match self.random.below(7) {
            0 => format!("SELECT DISTINCT {one} AS {alias} FROM t"),
            1 => format!("SELECT DISTINCT {one} AS {alias} FROM t ORDER BY {alias}"),
            2 => format!("SELECT DISTINCT {one} AS {alias} FROM t ORDER BY t.{alias}"),
            3 => format!("SELECT {one} AS {alias}, count(*) FROM t GROUP BY {alias}"),
            4 => format!("SELECT {one} AS {alias}, count(*) FROM t GROUP BY {one} HAVING {alias} IS NOT NULL"),
            5 => format!("SELECT DISTINCT {one} AS {alias}, b FROM t ORDER BY -{alias}, b, 1"),
            _ => format!(
                "SELECT max({alias}) FROM (SELECT DISTINCT {one} AS {alias}, t.{alias} AS k FROM t) AS q WHERE {alias} IS NOT NULL"
            ),
        }
    }
}
