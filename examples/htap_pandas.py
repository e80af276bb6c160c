"""Analytics with pandas over live data: a shop writes orders to SQLite while they are analysed and
searched by meaning.

The products are dictionary entries with embeddings of what they are. A second program, with nothing but Python's `sqlite3`, takes the
orders. At the end every figure is compared with pandas, which reads SQLite itself. Run by `make examples`.
"""

import asyncio
import random
import sqlite3
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

import vexact

DATA = Path(__file__).parent / "data"
ORDERS, CUSTOMERS = 1_200, 100
SCHEMA = """
CREATE TABLE products (id INTEGER PRIMARY KEY, name TEXT NOT NULL, category TEXT NOT NULL, price REAL NOT NULL, embedding BLOB NOT NULL);
CREATE TABLE orders (id INTEGER PRIMARY KEY, customer INTEGER NOT NULL, product INTEGER NOT NULL, count INTEGER NOT NULL, state TEXT NOT NULL);
"""
PRODUCTS = vexact.TableSchema(
    "products",
    [("id", "int64"), ("name", "utf8"), ("category", "utf8"), ("price", "float64"), ("embedding", "vector(384)")],
    pk=["id"],
)
REPLICATED_ORDERS = vexact.TableSchema(
    "orders", [("id", "int64"), ("customer", "int32"), ("product", "int64"), ("count", "int16"), ("state", "utf8")], pk=["id"]
)


def open_shop(path: Path) -> None:
    """Creates the database of the shop, which has no analytics: 4 000 products, no orders."""
    entries = pq.read_table(DATA / "wordnet-sample-4k-minilm-384.parquet").to_pylist()
    with sqlite3.connect(path) as shop:
        shop.executescript(SCHEMA)
        shop.executemany(
            "INSERT INTO products VALUES (?, ?, ?, ?, ?)",
            [(e["id"], e["word"], e["domain"], 1 + e["id"] % 9_900 / 100, np.asarray(e["embedding"], "<f4").tobytes()) for e in entries],
        )
    shop.close()


def take_orders(path: Path) -> None:
    """A program that knows nothing of replicas: orders come, some are paid, some are cancelled, some are deleted. A process of its own: two
    SQLite libraries in one process, Python's and the engine's, would not see each other's locks."""
    dice = random.Random(7)
    shop = sqlite3.connect(path, timeout=60)
    shop.execute("PRAGMA synchronous = NORMAL")           # no wait for the disk at each commit
    products = [row[0] for row in shop.execute("SELECT id FROM products ORDER BY id")]
    for number in range(1, ORDERS + 1):
        with shop:                                        # a transaction: the order, and what becomes of older ones
            order = (number, dice.randrange(CUSTOMERS), dice.choice(products), dice.randint(1, 5), "new")
            shop.execute("INSERT INTO orders VALUES (?, ?, ?, ?, ?)", order)
            shop.execute("UPDATE orders SET state = ? WHERE id = ?", (dice.choice(["paid", "paid", "cancelled"]), dice.randint(1, number)))
            if number % 50 == 0:
                shop.execute("DELETE FROM orders WHERE id = ?", (dice.randint(1, number),))
        if number == ORDERS // 3:
            print("a third of the orders is in", flush=True)
    shop.close()


def frame(batches: list[pa.RecordBatch]) -> pd.DataFrame:
    return pa.Table.from_batches(batches).to_pandas()


def show(title: str, table: pd.DataFrame) -> None:
    print(f"\n{title}\n{table.to_string(index=False)}")


REVENUE = """
SELECT category, count(*) AS orders, sum(count * price) AS revenue
FROM orders JOIN products ON products.id = orders.product
WHERE state = 'paid' GROUP BY category ORDER BY revenue DESC, category
"""
# Sales of the 200 products closest in meaning to a text.
MEANING = """
SELECT found.name, sum(orders.count) AS sold, min(found.score) AS score
FROM vector_search('products', 'embedding', ?, 200, 'cosine', 'price < 80') AS found JOIN orders ON orders.product = found.id
WHERE orders.state <> 'cancelled' GROUP BY found.name ORDER BY sold DESC, found.name
"""
LOYAL = """
SELECT customer, spent, rank FROM (
    SELECT customer, sum(count * price) AS spent, rank() OVER (ORDER BY sum(count * price) DESC) AS rank
    FROM orders JOIN products ON products.id = orders.product WHERE state = 'paid' GROUP BY customer)
WHERE rank <= 5 ORDER BY rank, customer
"""


async def main(path: Path) -> None:
    open_shop(path)
    questions = {q["text"]: q["embedding"] for q in pq.read_table(DATA / "wordnet-queries-minilm-384.parquet").to_pylist()}
    question = "a room where food is cooked"

    async with await vexact.open(path) as engine:
        await engine.register_table(PRODUCTS, initial_sync=True)
        await engine.register_table(REPLICATED_ORDERS, initial_sync=True)
        engine.start_sync(0.02)

        # The shop opens; the analyst looks at it while orders come in.
        clerk = subprocess.Popen([sys.executable, __file__, path], stdout=subprocess.PIPE)
        assert clerk.stdout is not None
        assert await asyncio.to_thread(clerk.stdout.readline), "the clerk has failed"
        while (seen := frame(await engine.query("SELECT count(*) AS n, max(id) AS newest FROM orders"))).n[0] < ORDERS // 4:
            await asyncio.sleep(0)
        print(f"{seen.n[0]} orders seen so far, the newest is {seen.newest[0]}; the shop is {'open' if clerk.poll() is None else 'closed'}")
        # One query sees one state: an order and its product, a sum and its parts.
        parts = frame(await engine.query("SELECT state, count(*) AS n, (SELECT count(*) FROM orders) AS whole FROM orders GROUP BY state"))
        assert parts.n.sum() == parts.whole[0]
        show("revenue by category, now", frame(await engine.query(REVENUE)).head(3))

        # The shop closes.
        assert await asyncio.to_thread(clerk.wait) == 0
        engine.stop_sync()
        await engine.sync_all()
        status = (await engine.sync_status()).tables["orders"]
        print(f"\nthe shop is closed: {status.rows} orders, {status.lag} changes to apply")
        revenue = frame(await engine.query(REVENUE))
        sold = frame(await engine.query(MEANING, [questions[question]]))
        loyal = frame(await engine.query(LOYAL))
        show("revenue by category", revenue.head(3))
        show(f"what sells among what is like {question!r}", sold.head(3))
        show("the best customers", loyal)
        print()
        for sql in (REVENUE, MEANING, "SELECT * FROM orders WHERE id = 7"):
            print(f"{engine.explain_route(sql):45} {' '.join(sql.split())[:70]}")

    # The same with pandas alone, from SQLite.
    with sqlite3.connect(path) as shop:
        orders, products = (pd.read_sql(f"SELECT * FROM {table}", shop) for table in ("orders", "products"))
    shop.close()
    lines = orders.merge(products, left_on="product", right_on="id")
    lines["worth"] = lines["count"] * lines["price"]
    paid = lines[lines.state == "paid"]

    by_category = paid.groupby("category").agg(orders=("worth", "size"), revenue=("worth", "sum"))
    assert revenue.orders.tolist() == by_category.orders[revenue.category].tolist() and len(revenue) == len(by_category)
    np.testing.assert_allclose(revenue.revenue, by_category.revenue[revenue.category], rtol=1e-12)

    spent = paid.groupby("customer").worth.sum().sort_values(ascending=False)
    assert loyal.customer.tolist() == spent.index[: len(loyal)].tolist()
    np.testing.assert_allclose(loyal.spent, spent.iloc[: len(loyal)], rtol=1e-12)

    vectors = np.stack([np.frombuffer(blob, "<f4").astype(np.float64) for blob in products.embedding])
    query = np.array(questions[question])
    products["score"] = 1 - vectors @ query / (np.linalg.norm(vectors, axis=1) * np.linalg.norm(query))
    close = products[products.price < 80].nsmallest(200, "score")
    kept = orders[orders.state != "cancelled"].merge(close, left_on="product", right_on="id").groupby("name")
    expected = kept.agg(sold=("count", "sum"), score=("score", "min"))
    assert dict(zip(sold.name, sold.sold)) == expected.sold.to_dict()
    np.testing.assert_allclose(sold.score, expected.score[sold.name], rtol=0, atol=1e-12)
    print("\nall figures equal those of pandas over SQLite")


if __name__ == "__main__" and len(sys.argv) > 1:
    take_orders(Path(sys.argv[1]))
elif __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="vexact-shop-") as folder:
        asyncio.run(main(Path(folder) / "shop.db"))
