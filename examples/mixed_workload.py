"""A mixed workload: two other processes write to the SQLite file with Python's own driver, while this one syncs, searches and
aggregates; at the end both sides are compared row by row. `mixed_workload.py [TRANSACTIONS]`, 150 for each writer by default."""

import asyncio
import multiprocessing
import random
import sqlite3
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa

import vexact
from vexact import TableSchema

DIM = 64
CREATE = """CREATE TABLE products (sku TEXT PRIMARY KEY, shop INTEGER, price REAL, stock INTEGER, v BLOB);
CREATE TABLE sales (id INTEGER PRIMARY KEY, sku TEXT, amount INTEGER)"""
PRODUCTS = TableSchema(
    "products",
    [("sku", "utf8"), ("shop", "int64"), ("price", "float64"), ("stock", "int64"), ("v", f"vector({DIM})")],
    pk=["sku"],
)
SALES = TableSchema("sales", [("id", "int64"), ("sku", "utf8"), ("amount", "int64")], pk=["id"])


def write(path: str, shop: int, transactions: int) -> None:
    """Writes as a shop does: new products, price changes, sales that reduce the stock in the same
    transaction."""
    rng = random.Random(shop)
    vectors = np.random.default_rng(shop)
    connection = sqlite3.connect(path, timeout=60)
    for number in range(transactions):
        with connection:
            for item in range(5):
                vector = vectors.standard_normal(DIM).astype("<f4").tobytes()
                row = (f"{shop}-{number}-{item}", shop, rng.uniform(1, 100), 100, vector)
                connection.execute("INSERT INTO products VALUES (?, ?, ?, ?, ?)", row)
            sku = f"{shop}-{rng.randrange(number + 1)}-{rng.randrange(5)}"
            amount = rng.randrange(1, 4)
            connection.execute("INSERT INTO sales(sku, amount) VALUES (?, ?)", (sku, amount))
            connection.execute("UPDATE products SET stock = stock - ? WHERE sku = ?", (amount, sku))
            if number % 10 == 9:
                connection.execute("UPDATE products SET price = price * 1.1 WHERE shop = ?", (shop,))
                connection.execute("DELETE FROM products WHERE sku = ?", (f"{shop}-{number // 2}-0",))
    connection.close()


async def main(path: Path, transactions: int) -> None:
    async with await vexact.open(path) as engine:
        await engine.execute_batch(CREATE.split(";"))
        await engine.register_table(PRODUCTS)
        await engine.register_table(SALES)
        engine.start_sync(0.005)
        writers = [multiprocessing.Process(target=write, args=(str(path), shop, transactions)) for shop in (1, 2)]
        for writer in writers:
            writer.start()
        query = np.random.default_rng(0).standard_normal(DIM).astype(np.float32)
        took: list[float] = []
        while any(writer.is_alive() for writer in writers):
            started = time.perf_counter()
            await engine.vector_search("products", "v", query, 5, filter="stock > 0", columns=["price"])
            (totals,) = pa.Table.from_batches(
                await engine.query("SELECT count(*) AS n, sum(100 - stock) AS sold FROM products")
            ).to_pylist()
            took.append(time.perf_counter() - started)
            if sys.stderr.isatty():
                print(f"\r{totals['n']} products, {totals['sold']} sold", end="", file=sys.stderr)
            await asyncio.sleep(0)
        for writer in writers:
            writer.join()
            assert writer.exitcode == 0
        engine.stop_sync()
        await engine.sync_all()

        orders = {
            schema.name: f"SELECT {', '.join(name for name, _ in schema.columns)} FROM {schema.name} ORDER BY {schema.pk[0]}"
            for schema in (PRODUCTS, SALES)
        }
        replicas = {name: pa.Table.from_batches(await engine.query_olap(order)) for name, order in orders.items()}

    # With the engine closed: two copies of SQLite in one process, Python's and the engine's, do not see each other's locks.
    connection = sqlite3.connect(path)
    for name, order in orders.items():
        expected, found = connection.execute(order).fetchall(), replicas[name].to_pylist()
        for row, mine in zip(expected, found, strict=True):
            values = [np.array(value, dtype="<f4").tobytes() if key == "v" else value for key, value in mine.items()]
            assert list(row) == values, (row, values)
        print(f"{name}: {len(found)} rows, equal on both sides")
    connection.close()
    quantiles = statistics.quantiles(took, n=100) if len(took) > 1 else took * 99
    print(
        f"{2 * transactions} transactions by two processes; beside them {len(took)} rounds of a search and an aggregate: "
        f"median {quantiles[49] * 1e3:.1f} ms, p99 {quantiles[98] * 1e3:.1f} ms"
    )


if __name__ == "__main__":
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 150
    with tempfile.TemporaryDirectory(prefix="vexact-mixed-") as folder:
        asyncio.run(main(Path(folder) / "shop.db", count))
