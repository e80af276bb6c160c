//! Tests of the router, over a small set of tables of each kind.

mod olap;
mod placeholders;
mod properties;
mod read_only;
mod routes;

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::sql::parser::Statement;
use vexact_core::error::Result;

use super::{OlapTable, Owner, ParsedQuery, Route, TableLookup};

/// Returns the route of a text.
fn route(sql: &str, names: &dyn TableLookup) -> Result<Route> {
    super::route(&ParsedQuery::parse(sql)?, names)
}

/// Returns the statement of a text that only reads.
fn read_only(sql: &str) -> Result<Statement> {
    super::read_only(&ParsedQuery::parse(sql)?).cloned()
}

/// `Docs`, `orders` and `Group By` are replicated, `notes` is not, `feed` is a sidecar's, `Frame`
/// is the session's; SQLite has a `shared` that the session shadows.
struct World;

const REPLICAS: [(&str, &[&str]); 4] = [
    ("Docs", &["Id", "Title", "category", "price", "Embedding"]),
    ("orders", &["id", "doc_id", "Amount"]),
    ("Group By", &["Select", "from"]),
    ("feed", &["id", "updated_at"]),
];
const SESSION: [(&str, &[&str]); 2] = [("Frame", &["x", "Y"]), ("shared", &["x"])];
const SQLITE: [&str; 6] = ["docs", "orders", "group by", "notes", "a_view", "shared"];

fn schema(columns: &[&str]) -> SchemaRef {
    let vector = DataType::FixedSizeList(Arc::new(Field::new_list_field(DataType::Float32, true)), 2);
    let fields = columns.iter().map(|name| match *name {
        "Embedding" => Field::new(*name, vector.clone(), true),
        "Title" | "category" => Field::new(*name, DataType::Utf8, true),
        _ => Field::new(*name, DataType::Int64, true),
    });
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

impl TableLookup for World {
    fn in_sqlite(&self, table: &str) -> bool {
        SQLITE.iter().any(|name| name.eq_ignore_ascii_case(table))
    }

    fn olap(&self, table: &str) -> Option<OlapTable> {
        let session = SESSION.iter().map(|(name, columns)| (name, columns, Owner::Session));
        let all = session.chain(REPLICAS.iter().map(|(name, columns)| (name, columns, Owner::Replica)));
        let mut found = all.filter(|(name, ..)| name.eq_ignore_ascii_case(table));
        found.next().map(|(name, columns, owner)| OlapTable {
            name: (*name).into(),
            schema: schema(columns),
            owner,
            row_id: None,
        })
    }
}
