"""Batch SQL over Arrow data and files: lazy queries, named tables and appended rows.

    python examples/batch_sql.py
"""

import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa

import vexact

folder = Path(tempfile.mkdtemp(prefix="vexact-batch-sql-"))
session = vexact.Session()

# Arrow in memory: no copy. numpy arrays of two dimensions are columns of vectors.
rng = np.random.default_rng(0)
products = pa.table({
    "product": pa.array(range(6), pa.int64()),
    "name": ["tea", "coffee", "cocoa", "cup", "pot", "spoon"],
})
session.create_temp_view("products", session.create_dataframe_from_arrow(products))

# Files: `probe` detects a file's format, and files are read lazily.
(folder / "orders.csv").write_text(
    "day;product;price\n" + "".join(f"2024-03-{1 + i % 28:02d};{i % 6};{1 + i % 7}.5\n" for i in range(1000))
)
found = session.probe(folder / "orders.csv")
print(found["final_format"], found["delimiter"], found["confidence"], [column["type"] for column in found["schema"]])

session.sql(f"""
    CREATE TABLE orders (day DATE, product BIGINT, price DOUBLE)
    USING csv OPTIONS (path: '{folder}/orders.csv', delimiter: ';')
""")
revenue = session.sql("""
    SELECT name, count(*) AS orders, sum(price) AS revenue
    FROM orders JOIN products USING (product)
    GROUP BY name ORDER BY revenue DESC, name
""")
revenue.show()
assert sum(row[1] for row in revenue.to_rows()["rows"]) == 1000

# INSERT adds whole statements: to the csv file, and to a folder of Parquet files, one file each.
session.sql("INSERT INTO orders VALUES ('2024-04-01', 5, 100), ('2024-04-02', 5, 50)")
session.sql(f"CREATE TABLE months (month DATE, revenue DOUBLE) USING parquet OPTIONS (path: '{folder}/months')")
for month in (3, 4):
    session.sql(
        "INSERT INTO months SELECT date_trunc('month', day)::DATE, sum(price) FROM orders "
        f"WHERE extract(month FROM day) = {month} GROUP BY 1"
    )
months = session.sql("SELECT month, revenue FROM months ORDER BY month")
months.show()
assert [row[1] for row in months.to_rows()["rows"]][1] == 150.0

# Logs: lines are rows, and the groups of a pattern are the columns.
(folder / "service.log").write_text("10:00:01 INFO search 12 ms\n10:00:02 WARN search 340 ms\n10:00:02 INFO insert 3 ms\n")
log = session.read_line_file(
    folder / "service.log", mode="regex", regex_pattern=r"^(?P<at>\S+) (?P<level>\w+) (?P<call>\w+) (?P<ms>\d+) ms$"
)
session.create_temp_view("log", log)
session.sql("SELECT call, count(*) AS calls, max(ms) AS slowest FROM log GROUP BY call ORDER BY call").show()

# A table in memory with vectors: searches see the rows that are added.
session.sql("CREATE TABLE notes (id BIGINT, embedding VECTOR(8))")
for id in range(3):
    session.sql("INSERT INTO notes VALUES ($1, $2)", [id, rng.standard_normal(8)])
nearest = session.sql("SELECT id, score FROM vector_search('notes', 'embedding', $1, 2)", [np.ones(8)])
nearest.show()

# Results are Arrow, pandas, polars or files.
revenue.write_parquet(folder / "revenue.parquet")
assert session.read(folder / "revenue.parquet").to_arrow().equals(revenue.to_arrow())
print(revenue.to_pandas().describe())
