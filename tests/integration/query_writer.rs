//! Random queries over two tables `t` and `u` with the columns of [`crate::routes`].

use crate::replication::random::Random;

/// Writes queries.
pub(crate) struct Writer {
    pub random: Random,
}

impl Writer {
    pub fn pick(&mut self, from: &[&str]) -> String {
        (*self.random.pick(from)).to_owned()
    }

    fn number(&mut self, depth: usize) -> String {
        if depth == 0 || self.random.chance(25) {
            return self.pick(&[
                "id",
                "a",
                "a",
                "a",
                "f",
                "f",
                "f",
                "n",
                "g",
                "0",
                "1",
                "2",
                "-1",
                "7",
                "1.5",
                "0.0",
                "NULL",
                "10",
                "0x1F",
                "1_000",
                "1e3",
                ".5",
                "5.",
                "1e400",
                "0xffffffffffffffff",
            ]);
        }
        match self.random.below(12) {
            0..=4 => {
                let (a, b) = (self.number(depth - 1), self.number(depth - 1));
                let op = self.pick(&["+", "-", "*", "/", "%", "&", "|"]);
                self.joined(&a, &op, &b)
            }
            5 => format!("-{}", self.operand(depth)),
            6 => format!("abs({})", self.number(depth - 1)),
            7 => format!(
                "CAST({} AS {})",
                self.any(depth - 1),
                self.pick(&["INTEGER", "INT", "BIGINT", "REAL", "DOUBLE"])
            ),
            8 => format!("length({})", if self.random.chance(50) { self.text(depth - 1) } else { self.any(depth - 1) }),
            9 => format!(
                "CASE WHEN {} THEN {} ELSE {} END",
                self.condition(depth - 1),
                self.number(depth - 1),
                self.number(depth - 1)
            ),
            10 => format!("coalesce({}, {})", self.number(depth - 1), self.number(depth - 1)),
            _ => match self.random.below(5) {
                0 => format!("nullif({}, {})", self.number(depth - 1), self.number(depth - 1)),
                1 => format!("instr({}, {})", self.text(depth - 1), self.text(depth - 1)),
                2 => format!("round({}{})", self.number(depth - 1), self.pick(&["", ", 1", ", 2", ", -1", ", a"])),
                3 => format!("a {} {}", self.pick(&["<<", ">>"]), self.pick(&["0", "1", "3"])),
                _ => format!("max({}, {})", self.number(depth - 1), self.number(depth - 1)),
            },
        }
    }

    fn text(&mut self, depth: usize) -> String {
        if depth == 0 || self.random.chance(30) {
            return self.pick(&["s", "s", "s", "'a'", "'ab'", "'A'", "''", "'5'", "NULL", "'b'"]);
        }
        match self.random.below(10) {
            0..=3 => {
                let a = if self.random.chance(80) { self.text(depth - 1) } else { self.any(depth - 1) };
                let b = self.text(depth - 1);
                self.joined(&a, "||", &b)
            }
            4 => format!("{}({})", self.pick(&["lower", "upper", "trim", "ltrim", "rtrim"]), self.text(depth - 1)),
            5 => format!(
                "substr({}, {}, {})",
                self.text(depth - 1),
                self.pick(&["1", "2", "0", "-1", "-2", "a", "NULL"]),
                self.pick(&["0", "1", "2", "-1", "a"])
            ),
            6 => format!("replace({}, {}, {})", self.text(depth - 1), self.text(0), self.text(0)),
            7 => format!("CAST({} AS TEXT)", self.any(depth - 1)),
            8 => format!("CASE WHEN {} THEN {} END", self.condition(depth - 1), self.text(depth - 1)),
            _ => match self.random.below(4) {
                0 => format!("typeof({})", self.any(depth - 1)),
                1 => format!("hex({})", self.pick(&["x", "s"])),
                2 if self.random.chance(50) => format!(
                    "{}({})",
                    self.pick(&["date", "datetime", "lower", "upper", "unicode", "quote"]),
                    self.any(depth - 1)
                ),
                2 => format!("ifnull({}, {})", self.text(depth - 1), self.text(depth - 1)),
                _ => format!("coalesce({}, {})", self.text(depth - 1), self.any(depth - 1)),
            },
        }
    }

    fn condition(&mut self, depth: usize) -> String {
        if depth == 0 {
            return self.pick(&[
                "b",
                "a > 2",
                "f >= 0",
                "f = 0",
                "s = 'a'",
                "NOT b",
                "a IS NULL",
                "TRUE",
                "f < 0.0",
                "id % 2 = 0",
            ]);
        }
        match self.random.below(14) {
            13 => format!("t.id IN (SELECT {} FROM u) OR {}", self.pick(&["a", "f", "n"]), self.condition(depth - 1)),
            0..=2 => {
                let (a, b) = if self.random.chance(50) {
                    (self.number(depth - 1), self.number(depth - 1))
                } else {
                    (self.text(depth - 1), self.text(depth - 1))
                };
                let op = self.pick(&["=", "==", "<>", "!=", "<", "<=", ">", ">="]);
                self.joined(&a, &op, &b)
            }
            3 => {
                let (a, b) = (self.any(depth - 1), self.any(depth - 1));
                let op = self.pick(&["=", "<", ">=", "IS DISTINCT FROM", "IS NOT DISTINCT FROM"]);
                self.joined(&a, &op, &b)
            }
            4..=5 => {
                let (a, b) = (self.condition(depth - 1), self.condition(depth - 1));
                let op = self.pick(&["AND", "OR"]);
                self.joined(&a, &op, &b)
            }
            6 => format!("NOT {}", self.condition(depth - 1)),
            7 => format!(
                "{} {}LIKE {}",
                self.operand_text(depth),
                self.not(),
                self.pick(&["'a%'", "'%b%'", "'A'", "'_'", "'a\\%'", "s"])
            ),
            8 => format!(
                "{} {}IN ({}, {})",
                self.operand(depth),
                self.not(),
                self.number(depth - 1),
                self.number(depth - 1)
            ),
            9 => format!("{} {}BETWEEN {} AND {}", self.operand(depth), self.not(), self.operand(1), self.operand(1)),
            10 => format!("({}) IS {}NULL", self.any(depth - 1), self.not()),
            11 => format!(
                "{} {}IN (SELECT {} FROM u)",
                self.operand(depth),
                self.not(),
                self.pick(&["a", "id", "f", "s"])
            ),
            _ => format!("EXISTS (SELECT 1 FROM u AS w WHERE w.a = {})", self.pick(&["t.a", "3", "t.f"])),
        }
    }

    fn any(&mut self, depth: usize) -> String {
        match self.random.below(10) {
            0..=3 => self.number(depth),
            4..=6 => self.text(depth),
            7..=8 => self.condition(depth),
            _ => self.pick(&["x", "x", "X'61'", "NULL", "small", "small + small", "small * 2", "-small"]),
        }
    }

    pub fn not(&mut self) -> &'static str {
        if self.random.chance(30) { "NOT " } else { "" }
    }

    fn operand(&mut self, depth: usize) -> String {
        format!("({})", self.number(depth - 1))
    }

    fn operand_text(&mut self, depth: usize) -> String {
        format!("({})", self.text(depth - 1))
    }

    /// Half of the time without parentheses, so that the precedence counts.
    fn joined(&mut self, a: &str, op: &str, b: &str) -> String {
        if self.random.chance(50) { format!("{a} {op} {b}") } else { format!("({a}) {op} ({b})") }
    }

    pub fn query(&mut self) -> String {
        let depth = 1 + self.random.below(3);
        let (one, two, filter) = (self.any(depth), self.any(depth), self.condition(depth));
        let number = self.number(depth);
        match self.random.below(22) {
            13..=14 => self.join_with_using(),
            15..=16 => self.correlated(),
            17 => self.set_operations(),
            18 => self.recursive(),
            19..=20 => self.windows(),
            21 => self.hidden_names(),
            0 => format!("SELECT {one}, {two} FROM t WHERE {filter}"),
            1 => format!("SELECT DISTINCT {one}, {two} FROM t WHERE {filter}"),
            2 => format!("SELECT count(*), sum({number}), avg({number}), min({one}), max({two}) FROM t WHERE {filter}"),
            3 => format!("SELECT {one} AS e, count(*) FROM t WHERE {filter} GROUP BY {one} HAVING count(*) > 0"),
            4 => format!(
                "SELECT t.id, u.id, {} FROM t JOIN u ON t.{} = u.{}",
                self.pick(&["t.a + u.a", "t.s || u.s", "t.f / u.a"]),
                self.pick(&["a", "s", "id", "f"]),
                self.pick(&["a", "s", "id", "f", "small"])
            ),
            5 => format!(
                "SELECT {one} FROM t {} SELECT {two} FROM u",
                self.pick(&["UNION", "UNION ALL", "EXCEPT", "INTERSECT"])
            ),
            6 => format!("SELECT e FROM (SELECT {one} AS e, * FROM t) AS t WHERE {filter}"),
            7 => format!(
                "SELECT id, {one} FROM t WHERE a > (SELECT {} FROM u) AND {filter}",
                self.pick(&["min(a)", "avg(f)", "count(*)", "max(s)"])
            ),
            8 => format!("WITH w AS (SELECT id, {one} AS e FROM t WHERE {filter}) SELECT e, id FROM w"),
            9 => format!(
                "SELECT id, {} OVER (ORDER BY {}, id) FROM t WHERE {filter}",
                self.pick(&["row_number()", "rank()", "sum(a)", "count(*)", "lag(s)", "first_value(a)", "ntile(3)"]),
                self.pick(&["a", "s", "f", "b"])
            ),
            10 => format!(
                "SELECT DISTINCT {one} AS e, id FROM t WHERE {filter} ORDER BY {}, id LIMIT {} OFFSET {}",
                self.pick(&["e", "id", "e DESC"]),
                self.pick(&["3", "0", "-1", "100"]),
                self.pick(&["0", "1", "-1"])
            ),
            11 => format!(
                "SELECT t.id, u.s FROM t {} JOIN u USING (id) WHERE t.a = 3 OR {}",
                self.pick(&["LEFT", "INNER", ""]),
                self.pick(&["u.s IS NULL", "u.f < 2", "u.b"])
            ),
            _ => format!(
                "SELECT b, {} FROM t WHERE {filter} GROUP BY b",
                self.pick(&[
                    "sum(small)",
                    "avg(small)",
                    "max(small)",
                    "total(a)",
                    "group_concat(s)",
                    "count(DISTINCT a)",
                    "min(x)",
                    "sum(f) / count(*)"
                ])
            ),
        }
    }
}
