//! Invariants of a history: the intervals of a key meet, the versions at any time are the table at
//! that time, and the past does not change.

use std::collections::{BTreeMap, HashMap};

use super::value::{Cell, Row};
use super::world::key_of;

/// The tables at a time: for each table, the columns' uids and the rows.
pub struct Point {
    pub time: i64,
    pub tables: BTreeMap<usize, (Vec<usize>, Vec<Row>)>,
}

/// A row of a history.
#[derive(Debug, Clone)]
pub struct Version {
    pub row: Row,
    pub from: i64,
    pub to: Option<i64>,
    pub operation: char,
}

impl Version {
    pub fn of(mut row: Row) -> Self {
        let operation = match row.pop() {
            Some(Cell::Text(text)) if ["I", "U", "D"].contains(&text.as_str()) => text.as_bytes()[0] as char,
            other => panic!("_operation is {other:?}"),
        };
        let to = match row.pop() {
            Some(Cell::Null) => None,
            Some(Cell::Integer(time)) => Some(time as i64),
            other => panic!("_valid_to is {other:?}"),
        };
        let from = match row.pop() {
            Some(Cell::Integer(time)) => time as i64,
            other => panic!("_valid_from is {other:?}"),
        };
        Self { row, from, to, operation }
    }

    /// Returns all fields, for comparisons.
    pub fn whole(&self) -> Row {
        let mut row = self.row.clone();
        row.push(Cell::Integer(self.from.into()));
        row.push(self.to.map_or(Cell::Null, |to| Cell::Integer(to.into())));
        row.push(Cell::Text(self.operation.into()));
        row
    }

    pub fn holds_at(&self, time: i64) -> bool {
        self.from <= time && self.to.is_none_or(|to| to > time)
    }
}

/// The changes of a key at one time.
#[derive(Default)]
struct Moment {
    inserted: i64,
    updated: i64,
    deleted: i64,
    ended: i64,
}

/// Checks the laws of intervals.
pub fn check_intervals(versions: &[Version], key: &[usize]) {
    let mut by_key: HashMap<Row, Vec<&Version>> = HashMap::new();
    for version in versions {
        assert!(version.to.is_none_or(|to| to >= version.from), "it ends before it begins: {version:?}");
        by_key.entry(key_of(&version.row, key)).or_default().push(version);
    }
    for versions in by_key.into_values() {
        let mut moments: BTreeMap<i64, Moment> = BTreeMap::new();
        for version in &versions {
            let moment = moments.entry(version.from).or_default();
            match version.operation {
                'I' => moment.inserted += 1,
                'U' => moment.updated += 1,
                _ => {
                    moment.deleted += 1;
                    assert_eq!(version.to, Some(version.from), "a deletion that lasts: {version:?}");
                    continue;
                }
            }
            if let Some(to) = version.to {
                moments.entry(to).or_default().ended += 1;
            }
        }
        // Several versions can begin and end in one moment; the open version is known only before
        // and after it.
        let mut open = 0;
        for (time, moment) in moments {
            let after = open + moment.inserted - moment.deleted;
            assert!((0..=1).contains(&after), "{after} rows of one key at {time}: {versions:#?}");
            assert_eq!(moment.ended, moment.updated + moment.deleted, "ends and successors at {time}: {versions:#?}");
            assert!(open == 1 || moment.updated + moment.deleted == 0 || moment.inserted > 0, "{time}: {versions:#?}");
            let holding: Vec<_> =
                versions.iter().filter(|version| version.operation != 'D' && version.holds_at(time)).collect();
            assert_eq!(holding.len() as i64, after, "rows that hold at {time}: {versions:#?}");
            open = after;
        }
    }
}

/// Projects rows of `columns` to those of the `wanted` columns that they have. The last `tail`
/// cells of each row are kept.
pub fn projected(rows: &[Row], columns: &[usize], wanted: &[usize], tail: usize) -> Vec<Row> {
    let positions: Vec<usize> = wanted.iter().filter_map(|uid| columns.iter().position(|known| known == uid)).collect();
    let project = |row: &Row| -> Row {
        let kept = positions.iter().map(|at| row[*at].clone());
        kept.chain(row[row.len() - tail..].iter().cloned()).collect()
    };
    let mut rows: Vec<Row> = rows.iter().map(project).collect();
    rows.sort();
    rows
}

/// Returns the first row of `part` that `whole` lacks, or `None`. Both are sorted.
pub fn missing<'r>(part: &'r [Row], whole: &[Row]) -> Option<&'r Row> {
    let mut rest = whole.iter();
    part.iter().find(|row| !rest.any(|other| other == *row))
}
