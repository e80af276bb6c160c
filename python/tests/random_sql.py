"""Random tables and random queries over them, for the laws in `test_random_sql.py`.

A query of the *portable* kind has one answer in SQLite too. Others use every type, and are compared with themselves: over other
sources, with other settings, and written another way.
"""

import datetime as dt
import decimal
import math
import random

import pyarrow as pa

WORDS = ["q", "a", "A", "ab", "b%", "x_y", "é", "10", "-3", "zz"]
REALS = [0.0, -0.0, 1.0, -1.5, 2.5, 3.25, 1e-3, 1e15, -7.75]
ODD_REALS = [math.nan, math.inf, -math.inf]
UNITS = ["s", "ms", "us", "ns"]
EPOCH = dt.datetime(1970, 1, 1)

KINDS = {
    "id": "int", "i8": "int", "i": "int", "n": "int", "f": "real", "g": "real", "s": "text", "b": "bool",
    "d": "decimal", "day": "day", "ts_s": "ts", "ts_ms": "ts", "ts_us": "ts", "ts_ns": "ts",
}
PORTABLE = ["id", "i8", "i", "n", "f", "s"]


def table(rng: random.Random, rows: int, portable: bool) -> pa.Table:
    """A table of few values, so that many are equal, with NULL everywhere but in `id`."""

    def nullable(make, share=0.2):
        return [None if rng.random() < share else make() for _ in range(rows)]

    # -0.0 and 0.0 are one number in SQLite.
    reals = [real for real in REALS if str(real) != "-0.0"] if portable else REALS + ODD_REALS
    instants = [
        EPOCH + dt.timedelta(days=rng.choice([-1, 0, 1, 365, 19000]), seconds=rng.choice([0, 1, 86399]),
                             microseconds=rng.choice([0, 1, 500000, 999999]))
        for _ in range(6)
    ]
    stamps = pa.array(nullable(lambda: rng.choice(instants)), pa.timestamp("us"))
    columns = {
        "id": pa.array(rng.sample(range(rows), rows), pa.int64()),
        "i8": pa.array(nullable(lambda: rng.choice([-128, -1, 0, 1, 5, 127] if not portable else [-5, -1, 0, 1, 5])), pa.int8()),
        "i": pa.array(nullable(lambda: rng.randint(-3, 3)), pa.int32()),
        "n": pa.array(nullable(lambda: rng.choice([0, 1, 7, 10, -10, 255, 70000])), pa.int64()),
        "f": pa.array(nullable(lambda: rng.choice(reals)), pa.float64()),
        "g": pa.array(nullable(lambda: rng.choice(reals)), pa.float32()),
        "s": pa.array(nullable(lambda: rng.choice(WORDS)), pa.string()),
        "b": pa.array(nullable(lambda: rng.random() < 0.5), pa.bool_()),
        "d": pa.array(nullable(lambda: decimal.Decimal(rng.randint(-1500, 1500)) / 100), pa.decimal128(12, 2)),
        "day": pa.array(nullable(lambda: rng.choice(instants).date()), pa.date32()),
        **{f"ts_{unit}": stamps.cast(pa.timestamp(unit), safe=False) for unit in UNITS},
        "v": pa.array(
            nullable(lambda: [float(rng.randint(0, 2)), rng.choice([0.0, 1.0, 2.0] + ([] if portable else [math.nan]))], 0.1),
            pa.list_(pa.float32(), 2),
        ),
    }
    return pa.table(columns)


class Queries:
    """Random expressions and queries over tables `t` and `u`."""

    def __init__(self, rng: random.Random, portable: bool):
        self.rng, self.portable = rng, portable
        self.columns = PORTABLE if portable else list(KINDS)

    def column(self, alias: str, kind: str) -> str | None:
        fitting = [name for name in self.columns if KINDS[name] == kind]
        return f"{alias}.{self.rng.choice(fitting)}" if fitting else None

    def literal(self, kind: str) -> str:
        rng = self.rng
        if kind == "int":
            return str(rng.choice([-7, -1, 0, 1, 2, 5, 7, 10, 127, 255, 300]))
        if kind == "real":
            return rng.choice(["0.0", "1.0", "-1.5", "2.5", "3.0", "7.75", "0.001"])
        if kind == "text":
            return "'" + rng.choice(WORDS) + "'"
        if kind == "bool":
            return rng.choice(["true", "false"])
        if kind == "decimal":
            return f"CAST({rng.randint(-1500, 1500) / 100} AS DECIMAL({rng.choice(['12,2', '6,1', '20,4', '5,0'])}))"
        day = rng.choice(["1969-12-31", "1970-01-01", "1970-01-02", "1971-01-01", "2022-01-08"])
        if kind == "day":
            return f"DATE '{day}'"
        time = rng.choice(["00:00:00", "00:00:00.5", "00:00:01", "23:59:59.999999", "00:00:00.000000001"])
        stamp = f"TIMESTAMP '{day} {time}'"
        return rng.choice([stamp, f"arrow_cast({stamp}, 'Timestamp({rng.choice(UNITS)})')"])

    def value(self, alias: str, kind: str, depth: int) -> str:
        """An expression of a kind."""
        rng = self.rng
        column = self.column(alias, kind)
        if depth <= 0 or rng.random() < 0.3:
            return column if column and rng.random() < 0.75 else self.literal(kind)

        def sub(of=kind):
            return self.value(alias, of, depth - 1)

        choices = [
            lambda: f"coalesce({sub()}, {sub()})",
            lambda: f"CASE WHEN {self.predicate(alias, depth - 1)} THEN {sub()} ELSE {sub()} END",
            lambda: f"nullif({sub()}, {sub()})",
        ]
        if kind in ("int", "real"):
            choices += [lambda: "(" + " + ".join([f"{alias}.i", *(self.literal(kind) for _ in range(20))]) + ")"]
        if kind == "int":
            choices += [lambda: f"({sub()} {rng.choice('+-*')} {self.literal('int')})", lambda: f"abs({alias}.i)"] * 2
            if not self.portable:
                choices += [lambda: f"-{column}", lambda: self.cast(alias, "int", depth)] * 2
                choices += [lambda: f"extract({rng.choice(['year', 'month', 'day'])} FROM {self.column(alias, 'ts')})"]
                choices += [lambda: f"length({sub('text')})", lambda: f"({alias}.i % 3)"]
        if kind == "real":
            # A product of zero and a negative number is -0.0, which SQLite takes for 0.0.
            choices += [lambda: f"({sub()} {rng.choice('+-' if self.portable else '+-*')} {sub()})", lambda: f"({sub('int')} + 0.5)"]
            if not self.portable:
                choices += [lambda: f"-{column}", lambda: self.cast(alias, "real", depth)] * 2
                choices += [lambda: f"{rng.choice(['floor', 'ceil', 'round', 'abs'])}({sub()})"]
        if kind == "text":
            choices += [lambda: f"({sub()} || {sub()})"]
            if not self.portable:
                choices += [lambda: self.cast(alias, "text", depth), lambda: f"upper({sub()})", lambda: f"substr({sub()}, 1, 1)"]
        if kind in ("decimal", "day", "ts"):
            choices += [lambda: self.cast(alias, kind, depth)] * 3
        if kind == "decimal":
            choices += [lambda: f"({column} + {self.literal('decimal')})", lambda: f"abs({column})"]
            choices += [lambda: f"round({column}, {rng.choice(['1', '0', '-1', f'abs({alias}.i)'])})"] * 2
        if kind == "ts":
            choices += [lambda: f"({column} + INTERVAL '{rng.choice(['1 day', '1 month', '2 seconds'])}')"]
            choices += [lambda: f"date_trunc('{rng.choice(['second', 'day', 'year'])}', {column})"]
        return rng.choice(choices)()

    def cast(self, alias: str, kind: str, depth: int) -> str:
        rng = self.rng
        sources = {"int": ["int", "real", "decimal"], "real": ["int", "decimal", "real"], "text": ["int", "day"],
                   "decimal": ["decimal", "int"], "day": ["ts"], "ts": ["ts", "day"]}
        targets = {"int": ["TINYINT", "SMALLINT", "INT", "BIGINT"], "real": ["DOUBLE", "REAL"], "text": ["VARCHAR"],
                   "decimal": ["DECIMAL(12,1)", "DECIMAL(12,0)", "DECIMAL(19,4)", "DECIMAL(4,2)"], "day": ["DATE"],
                   "ts": ["TIMESTAMP(0)", "TIMESTAMP(3)", "TIMESTAMP(6)", "TIMESTAMP(9)"]}
        source = self.value(alias, rng.choice(sources[kind]), depth - 2)
        return f"TRY_CAST({source} AS {rng.choice(targets[kind])})"

    def kind(self) -> str:
        kinds = ["int", "int", "real", "text"]
        return self.rng.choice(kinds if self.portable else kinds + ["decimal", "decimal", "day", "ts", "ts", "bool"])

    def predicate(self, alias: str, depth: int) -> str:
        rng = self.rng
        if depth > 0 and rng.random() < 0.45:
            one, other = self.predicate(alias, depth - 1), self.predicate(alias, depth - 1)
            return rng.choice([f"({one} AND {other})", f"({one} OR {other})", f"(NOT {one})", f"(({one}) IS NULL)",
                               f"(({one}) IS NOT TRUE)"])
        kind = self.kind()
        left = self.value(alias, kind, depth - 1)
        if kind == "bool":
            return rng.choice([f"({left})", f"({left} IS TRUE)", f"({left} = {self.literal('bool')})"])

        def right():
            return self.literal(kind) if rng.random() < 0.6 else self.value(alias, kind, depth - 1)

        op = rng.choice(["=", "<>", "<", "<=", ">", ">="])
        choices = [
            lambda: f"({left} {op} {right()})",
            lambda: f"({left} {op} {right()})",
            lambda: f"({right()} {op} {left})",
            lambda: f"({left} IS {rng.choice(['', 'NOT '])}NULL)",
            lambda: f"({left} {rng.choice(['', 'NOT '])}IN ({', '.join(right() for _ in range(rng.randint(1, 5)))}{rng.choice(['', ', NULL'])}))",
            lambda: f"({left} {rng.choice(['', 'NOT '])}BETWEEN {right()} AND {right()})",
        ]
        def list_of() -> str:
            return ", ".join(self.literal(kind) for _ in range(rng.randint(1, 3)))

        def listed() -> str:
            """A condition that the optimizer makes a list of."""
            is_in, what = rng.choice([("=", "OR"), ("<>", "AND"), ("=", "AND")])
            return rng.choice([
                f"({left} {is_in} {self.literal(kind)} {what} {left} {is_in} {self.literal(kind)})",
                f"{left} {rng.choice(['', 'NOT '])}IN ({list_of()})", f"(NOT {left} IN ({list_of()}))", f"{left} {is_in} {self.literal(kind)}",
            ])

        choices += [
            lambda: f"({listed()} {rng.choice(['AND', 'OR'])} {listed()})",
            lambda: f"(({listed()} {rng.choice(['AND', 'OR'])} {listed()}) {rng.choice(['AND', 'OR'])} {listed()})",
            lambda: f"({left} {rng.choice(['', 'NOT '])}IN ({list_of()}) {rng.choice(['AND', 'OR'])} {left} {rng.choice(['', 'NOT '])}IN ({list_of()}))",
        ]
        if not self.portable:
            choices += [lambda: f"({left} IS {rng.choice(['', 'NOT '])}DISTINCT FROM {right()})"]
            choices += [lambda: f"({left} IS {rng.choice(['', 'NOT '])}DISTINCT FROM {right()} {rng.choice(['AND', 'OR'])} {self.predicate(alias, 0)})"]
            if kind in ("ts", "day"):
                length = rng.choice(["1 day", "24 hours", "25 hours", "1 month", "30 days", "0 days"])
                other = self.column(alias, "ts")
                choices += [lambda: f"({self.column(alias, 'ts')} - {other} {op} INTERVAL '{length}')", lambda: f"({alias}.day - DATE '1970-01-01' {op} {rng.choice([-1, 0, 365])})"]
            if kind == "ts":
                far = rng.choice(["0001-01-01", "9999-12-31 23:59:59.5", "2262-04-12 00:00:00", "1677-09-21 00:00:00"])
                choices += [lambda: f"({self.column(alias, 'ts')} {op} {rng.choice(['', 'TIMESTAMP '])}'{far}')"] * 2
            if kind == "int":
                choices += [lambda: f"(array_has([{alias}.i, 1], {self.literal('int')}))", lambda: f"(({alias}.i ^ {rng.choice([f'{alias}.i', '3'])}) {op} 1)"]
            if kind == "text":
                choices += [lambda: f"({left} {rng.choice(['~', '!~'])} '.*')"]
        if kind == "text":
            choices += [lambda: f"({left} {rng.choice(['', 'NOT '])}LIKE '{rng.choice(['%', 'a%', '%b', '_', 'x_y', '%a%', ''])}')"] * 2
        return rng.choice(choices)()

    def subquery_predicate(self, depth: int) -> str:
        """A predicate on `t` with a subquery of `u`."""
        rng = self.rng
        inner, key = self.predicate("u", depth - 1), rng.choice(["i", "i8", "n"])
        linked = f"u.i {rng.choice(['=', '=', '<'])} t.i AND " if rng.random() < 0.5 else ""
        offset = rng.choice(["", "", " LIMIT 2", " LIMIT 99 OFFSET 1" if self.portable else " OFFSET 1", " LIMIT 1 OFFSET 1"])
        ordered = f" ORDER BY u.id{offset}" if offset and not linked else ""
        negated = rng.choice(["", "NOT "])
        return rng.choice([
            lambda: f"{negated}EXISTS (SELECT 1 FROM u WHERE {linked}{inner}{offset if linked else ordered})",
            lambda: f"t.{key} {negated}IN (SELECT u.{key} FROM u WHERE {linked}{inner}{'' if linked else ordered})",
            lambda: f"{self.literal('int')} {negated}IN (SELECT u.{key} FROM u WHERE {linked}{inner})",
            lambda: f"t.{key} {rng.choice(['<', '>=', '='])} (SELECT {rng.choice(['max', 'min', 'count', 'sum'])}(u.{key}) FROM u WHERE {linked}{inner})",
        ])()

    def condition(self, depth: int = 3) -> str:
        """A random predicate on `t`."""
        rng = self.rng
        if rng.random() < 0.25:
            parts = [self.subquery_predicate(depth - 1), self.predicate("t", depth - 1)]
            rng.shuffle(parts)
            return rng.choice(["({} AND {})", "({} OR {})"]).format(*parts) if rng.random() < 0.6 else parts[0]
        return self.predicate("t", depth)

    def query(self, tables: dict[str, str]) -> str:
        """A whole query, whose rows are a multiset that no choice of a plan changes."""
        rng = self.rng
        t, u = tables["t"], tables["u"]
        where = self.condition()
        plain = ", ".join(f"{self.value('t', self.kind(), 2)} AS c{i}" for i in range(rng.randint(1, 3)))
        key = rng.choice(["i", "i8", "s", "n"])
        window = rng.choice([
            f"row_number() OVER (PARTITION BY t.{key} ORDER BY t.id)", f"rank() OVER (ORDER BY t.{key} NULLS FIRST)",
            "count(*) OVER ()", f"sum(t.i) OVER (PARTITION BY t.{key})", "lag(t.i) OVER (ORDER BY t.id)",
            "sum(t.n) OVER (ORDER BY t.id ROWS BETWEEN 1 PRECEDING AND 1 FOLLOWING)",
            "lead(t.n, 2) OVER (ORDER BY t.id)",
        ])
        cut = rng.choice(["LIMIT 5", "LIMIT 5 OFFSET 2", "LIMIT 100 OFFSET 3", "LIMIT 0", "LIMIT -1 OFFSET 4" if self.portable else "OFFSET 4"])
        if self.portable and cut.startswith("LIMIT -1"):
            cut = "LIMIT 1000 OFFSET 4"
        way = rng.choice([" NULLS FIRST", " DESC NULLS LAST"])
        aggregate = rng.choice(["count(*)", "sum(x.i)", "min(x.n)", "max(x.s)", "count(DISTINCT x.i)", "min(x.id)", "sum(DISTINCT x.i8)"])
        join = rng.choice(["JOIN", "LEFT JOIN", "RIGHT JOIN", "FULL JOIN"])
        on = rng.choice(["t.i = u.i", "t.id = u.id", "t.i = u.i AND t.id < u.id", "t.n = u.n AND u.i > 0"])
        shapes = [
            lambda: f"SELECT t.id, {plain} FROM {t} t WHERE {where}",
            lambda: f"SELECT t.id, {plain} FROM {t} t WHERE {where} ORDER BY t.{rng.choice(self.columns)}{way}, t.id {cut}",
            lambda: f"SELECT {aggregate} FROM {t} x",
            lambda: f"SELECT count(*), sum(t.i), min(t.n) FROM {t} t WHERE {where}",
            lambda: f"SELECT t.{key}, count(*) AS c, sum(t.i) FROM {t} t WHERE {where} GROUP BY t.{key} HAVING {rng.choice(['count(*) > 1', 'sum(t.i) > 0', 'min(t.id) < 9'])}",
            lambda: f"SELECT x.{key}, {aggregate} FROM (SELECT t.* FROM {t} t WHERE {self.predicate('t', 1)} ORDER BY t.id{way} {cut}) x GROUP BY x.{key}",
            lambda: f"SELECT x.id FROM (SELECT t.* FROM {t} t ORDER BY t.id{way} {cut}) x ORDER BY x.id{rng.choice([way, ''])} {rng.choice(['', 'LIMIT 3', 'LIMIT 9 OFFSET 1'])}",
            lambda: f"SELECT t.id, u.id FROM {t} t {join} {u} u ON {on} WHERE {rng.choice([where, self.predicate('u', 2)])}",
            lambda: f"SELECT t.id, u.n FROM {t} t {join} {u} u ON {on}",
            lambda: f"SELECT DISTINCT t.{key}, {self.value('t', 'int', 1)} FROM {t} t WHERE {where}",
            lambda: f"SELECT t.{key} FROM {t} t WHERE {where} {rng.choice(['UNION', 'UNION ALL', 'INTERSECT', 'EXCEPT'])} SELECT u.{key} FROM {u} u WHERE {self.predicate('u', 2)}",
            lambda: f"SELECT t.id, {window} AS w FROM {t} t WHERE {self.predicate('t', 2)}",
            lambda: f"SELECT x.id, x.w FROM (SELECT t.*, {window} AS w FROM {t} t) x WHERE x.w {rng.choice(['>', '<=', '='])} {rng.randint(0, 3)}",
            lambda: f"SELECT t.id, {window} AS w FROM {t} t ORDER BY t.id{way} {cut}",
            lambda: f"SELECT q.{key}, count(*) OVER () AS w FROM (SELECT t.{key}, max(t.i) AS m FROM {t} t GROUP BY t.{key}) q ORDER BY q.{key}{way} LIMIT 2",
            lambda: f"SELECT t.id, (SELECT {rng.choice(['max', 'count'])}(u.n) FROM {u} u WHERE u.i = t.i) AS m FROM {t} t WHERE {self.predicate('t', 1)}",
            lambda: f"WITH w AS (SELECT t.{key} AS k, count(*) AS c FROM {t} t GROUP BY t.{key}) SELECT a.c, b.c FROM w a JOIN w b ON a.k = b.k WHERE a.c > 1",
        ]
        shapes += [
            lambda: f"SELECT t.{key}, {rng.choice(['min', 'max'])}(t.{rng.choice(['i', 'n', 'f', 'id'])}) AS m FROM {t} t WHERE t.{key} IS NOT NULL GROUP BY t.{key} ORDER BY m{way}, t.{key} LIMIT 3",
            lambda: f"SELECT a.id, b.id, c.id FROM {t} a {join} {u} b ON a.i = b.i {rng.choice(['JOIN', 'LEFT JOIN'])} {t} c ON b.id = c.id WHERE {self.predicate(rng.choice('abc'), 2)}",
            lambda: f"SELECT a.id FROM {t} a JOIN {u} b ON a.i = b.i WHERE {self.predicate('a', 2)} AND b.n = a.n OR {self.predicate('b', 2)}",
            lambda: f"SELECT count(*) FROM (SELECT t.i FROM {t} t WHERE {where} UNION ALL SELECT u.i FROM {u} u) x WHERE x.i > 0",
            lambda: f"SELECT x.i, x.c FROM (SELECT t.i, count(*) AS c FROM {t} t GROUP BY t.i UNION ALL SELECT u.i, u.id FROM {u} u) x WHERE x.c > 1 AND x.i <> 2",
            lambda: f"SELECT DISTINCT t.{key} FROM {t} t ORDER BY t.{key}{way} LIMIT 3",
            lambda: f"SELECT {key}, t.id, u.n AS un FROM {t} t {join} {u} u USING ({key}) WHERE {rng.choice([where, f'u.{key} IS NULL', self.predicate('u', 2)])}",
            lambda: f"SELECT {key}, count(*), count({key}), min(u.id) FROM {t} t {join} {u} u USING ({key}, id) GROUP BY {key}",
            lambda: f"SELECT i, a.id, b.id AS bid, c.n FROM {t} a {join} {u} b USING (i) {rng.choice(['JOIN', 'LEFT JOIN', 'RIGHT JOIN', 'FULL JOIN'])} {t} c USING (i)",
            lambda: f"SELECT * FROM (SELECT a.i, a.id FROM {t} a) x {join} (SELECT b.i, b.n FROM {u} b) y USING (i) {rng.choice(['JOIN', 'LEFT JOIN', 'FULL JOIN'])} (SELECT c.i, c.s FROM {u} c) z USING (i)",
            lambda: f"WITH RECURSIVE r(id, i, n) AS (SELECT t.id, t.i, 1 FROM {t} t WHERE {self.predicate('t', 1)} UNION {rng.choice(['ALL ', ''])}SELECT y.id, {rng.choice(['y.i', 'nullif(y.i, 1)', 'r.i'])}, r.n + 1 FROM {u} y JOIN r ON y.i = r.i AND y.id > r.id WHERE r.n < 3) SELECT r.n, r.i, count(*) FROM r GROUP BY r.n, r.i",
            lambda: f"SELECT t.{key}, count(*) FILTER (WHERE {self.predicate('t', 1)}), sum(DISTINCT t.i) FILTER (WHERE t.n > 0) FROM {t} t GROUP BY t.{key}",
            lambda: f"SELECT t.id, CASE WHEN EXISTS (SELECT 1 FROM {u} y WHERE y.i = t.i AND {self.predicate('y', 1)}) THEN 1 ELSE 0 END AS e FROM {t} t WHERE t.i NOT IN (SELECT y.i FROM {u} y WHERE y.n IS NOT NULL AND y.i IS NOT NULL) OR t.id < 5",
            lambda: f"SELECT x.id FROM (SELECT t.id, {window} AS w FROM {t} t ORDER BY t.id{way} {cut}) x WHERE x.w > 1",
            lambda: f"SELECT sum(x.n), count(x.s), count(*) FROM {t} x WHERE EXISTS (SELECT 1 FROM {u} y WHERE y.i = x.i AND y.id > x.id)",
        ]
        if not self.portable:
            found = f"vector_search('{t}', 'v', '[1 1]', {rng.choice([1, 3, 99])}, '{rng.choice(['l2', 'dot'])}')"
            distance = rng.choice(["l2_distance(t.v, [1.0, 1.0])", "inner_product(t.v, [1.0, 0.0])", "-inner_product(t.v, [1.0, 0.0])"])
            shapes += [
                lambda: f"SELECT t.i, count(*) FROM {found} t WHERE {self.predicate('t', 2)} GROUP BY t.i HAVING count(*) > 0",
                lambda: f"SELECT t.id, u.id FROM {found} t {join} {u} u ON {on}",
                lambda: f"SELECT t.id, t.{key} FROM {found[:-1]}, group_by => '{key}', min_score => {rng.choice(['NULL', '0.5', '1'])}) t WHERE {self.predicate('t', 1)}",
                lambda: f"SELECT x.{key}, x.b, count(*) FROM (SELECT t.* FROM {t} t ORDER BY t.{key}{way}) x GROUP BY GROUPING SETS ((x.{key}, x.b), (x.{key}), ())",
                lambda: f"SELECT t.id FROM {t} t ORDER BY {rng.choice(['-abs(t.f)', '-abs(t.g + 1)', '-round(t.d, 1)', '-l2_norm(t.v)'])}{way}, t.id {cut}",
                lambda: f"SELECT t.id, row_number() OVER (PARTITION BY t.{key} ORDER BY {distance}, -abs(t.f), t.id) AS w FROM {t} t ORDER BY t.id {cut}",
                lambda: f"SELECT t.id FROM {t} t ORDER BY t.f{way}, t.id {cut}",
                lambda: f"SELECT t.id FROM {found} t WHERE t.id IN (SELECT u.id FROM {u} u WHERE {self.predicate('u', 2)})",
                lambda: f"SELECT sum(x.id), max(x.n) FROM (SELECT t.* FROM {t} t WHERE {self.predicate('t', 2)} ORDER BY {distance}{rng.choice(['', ' DESC', ' NULLS FIRST'])} {cut}) x",
                lambda: f"SELECT t.id FROM {t} t WHERE {distance} {rng.choice(['<', '<=', '>', '>=', '='])} {rng.choice([0.5, 1.0, 2.0])} AND {self.predicate('t', 2)}",
                lambda: f"SELECT x.id FROM (SELECT t.id, {distance} AS d FROM {t} t ORDER BY d {cut}) x JOIN {u} u ON x.id = u.id WHERE u.i > 0",
                lambda: f"SELECT t.i, t.b, count(*) FROM {t} t WHERE {where} GROUP BY {rng.choice(['ROLLUP', 'CUBE'])} (t.i, t.b)",
                lambda: f"SELECT DISTINCT ON (t.{key}) t.{key}, t.id FROM {t} t ORDER BY t.{key}, t.id{way}",
                lambda: f"SELECT t.{key}, t.b, grouping(t.{key}) AS g, count(*) FROM {t} t WHERE {self.predicate('t', 1)} GROUP BY {rng.choice(['ROLLUP', 'CUBE'])} (t.{key}, t.b)",
                lambda: f"SELECT t.{key}, t.b FROM {t} t {rng.choice(['EXCEPT ALL', 'INTERSECT ALL', 'EXCEPT', 'INTERSECT'])} SELECT u.{key}, u.b FROM {u} u WHERE {self.predicate('u', 2)}",
                lambda: f"SELECT t.id, t.{key} FROM {t} t WHERE {self.predicate('t', 1)} QUALIFY {rng.choice(['row_number', 'rank'])}() OVER (PARTITION BY t.{key} ORDER BY t.id) = {rng.choice([1, 2])}",
                lambda: f"SELECT x.id, x.e FROM (SELECT t.id, unnest([t.i, t.i8, {self.literal('int')}]) AS e FROM {t} t) x WHERE x.e {rng.choice(['>', '=', 'IS DISTINCT FROM'])} 1",
                lambda: f"SELECT t.id, count(*) OVER (ORDER BY t.{rng.choice(['day', 'ts_ms', 'b', 'd', 's'])} NULLS FIRST) AS w FROM {t} t WHERE {self.predicate('t', 1)}",
                lambda: f"SELECT s['a'], count(*) FROM (SELECT named_struct('a', t.{key}, 'b', t.id) AS s FROM {t} t WHERE {where}) x GROUP BY s['a']",
                lambda: f"SELECT count(*) FILTER (WHERE {self.predicate('t', 2)}), sum(t.i) FILTER (WHERE t.b), count(DISTINCT t.s) FROM {t} t",
                lambda: f"SELECT t.id, u.id FROM {t} t JOIN {u} u ON t.ts_s = u.ts_ms AND t.f = u.g",
                lambda: f"SELECT t.f, count(*) FROM {t} t WHERE t.f = t.f GROUP BY t.f ORDER BY t.f{way} LIMIT 3",
                lambda: f"SELECT t.id FROM {t} t ORDER BY t.{rng.choice(['f', 'g', 'd', 'ts_ns', 'b'])}{way}, t.id LIMIT 4",
            ]
        sql = rng.choice(shapes)()
        return sql.replace("FROM u ", f"FROM {u} u ").replace("FROM u)", f"FROM {u} u)")


def canonical(value):
    """A value that compares equal where SQL's do: NaN with NaN, 1.0 with 1, and -0.0 apart from 0.0."""
    if isinstance(value, float):
        return "nan" if math.isnan(value) else (f"{value:.9g}" if value or math.copysign(1, value) > 0 else "0")
    if isinstance(value, bool):
        return str(int(value))
    if isinstance(value, int):
        return f"{float(value):.9g}" if abs(value) < 2**53 else str(value)
    if isinstance(value, decimal.Decimal):
        return f"{float(value):.9g}"
    if isinstance(value, (list, dict)):
        return str(value)
    return None if value is None else str(value)


def multiset(rows) -> list:
    """Rows in an order of their own."""
    return sorted(([canonical(value) for value in row] for row in rows), key=repr)
