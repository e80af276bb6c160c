//! Text indexes against a model: the texts by key, and BM25 computed from its definition.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Int64Type, Schema};

use super::{TextColumn, Tokenizer};
use crate::{Change, ChangeBatch, Definition, KeyState, Replicas, Snapshot, SyncMode, Update};

type Texts = BTreeMap<i64, Option<String>>;

/// BM25 of FTS5: k1 = 1.2, b = 0.75, and the document frequency that never makes a term worse.
/// The documents that have any of the terms, best first, equal ones by key.
fn bm25(texts: &Texts, terms: &[&str]) -> Vec<(i64, f64)> {
    let documents: Vec<(i64, Vec<String>)> = texts
        .iter()
        .filter_map(|(key, text)| {
            let words = text.as_ref()?.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty());
            Some((*key, words.map(str::to_lowercase).collect()))
        })
        .collect();
    let count = documents.len() as f64;
    let average = documents.iter().map(|(_, words)| words.len()).sum::<usize>() as f64 / count;
    let frequency = |words: &[String], term: &str| words.iter().filter(|word| *word == term).count() as f64;
    let idf = |term: &&str| {
        let with = documents.iter().filter(|(_, words)| frequency(words, term) > 0.0).count() as f64;
        let idf = ((count - with + 0.5) / (with + 0.5)).ln();
        if idf <= 0.0 { 1e-6 } else { idf }
    };
    let weights: Vec<(&str, f64)> = terms.iter().map(|term| (*term, idf(term))).collect();
    let score = |words: &[String]| -> f64 {
        let of_term = |(term, idf): &(&str, f64)| {
            let f = frequency(words, term);
            idf * (f * (1.2 + 1.0)) / (f + 1.2 * (1.0 - 0.75 + 0.75 * words.len() as f64 / average))
        };
        weights.iter().map(of_term).sum()
    };
    let has_any = |words: &[String]| terms.iter().any(|term| frequency(words, term) > 0.0);
    let found = documents.iter().filter(|(_, words)| has_any(words));
    let mut found: Vec<(i64, f64)> = found.map(|(key, words)| (*key, score(words))).collect();
    found.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    found
}

fn definition(key: DataType) -> Arc<Definition> {
    let schema = Schema::new(vec![Field::new("id", key, false), Field::new("body", DataType::Utf8, true)]);
    Arc::new(Definition { name: "Docs".into(), schema: Arc::new(schema), key: vec![0], mode: SyncMode::Destructive })
}

/// The key column of a type, whose order is that of the numbers.
fn keys(key: &DataType, ids: &[i64]) -> ArrayRef {
    match key {
        DataType::Utf8 => Arc::new(StringArray::from_iter_values(ids.iter().map(|id| format!("k{id:06}")))),
        other => arrow::compute::cast(&Int64Array::from(ids.to_vec()), other).unwrap(),
    }
}

fn rows(definition: &Definition, texts: &[(i64, Option<String>)]) -> RecordBatch {
    let ids: Vec<i64> = texts.iter().map(|(id, _)| *id).collect();
    let bodies = StringArray::from_iter(texts.iter().map(|(_, text)| text.as_deref()));
    let key = definition.schema.field(0).data_type();
    RecordBatch::try_new(Arc::clone(&definition.schema), vec![keys(key, &ids), Arc::new(bodies)]).unwrap()
}

fn load(replicas: &Replicas, definition: &Arc<Definition>, texts: &Texts) {
    let texts: Vec<(i64, Option<String>)> = texts.iter().map(|(id, text)| (*id, text.clone())).collect();
    let update = Update::Replace(Arc::clone(definition), vec![rows(definition, &texts)], 0);
    replicas.update(vec![("docs".into(), update)], 1).remove(0).1.unwrap();
}

/// Applies the states of some keys to the replica and to the model.
fn change(
    replicas: &Replicas,
    definition: &Arc<Definition>,
    texts: &mut Texts,
    states: &[(i64, Option<Option<String>>)],
) {
    let present: Vec<(i64, Option<String>)> =
        states.iter().filter_map(|(id, state)| Some((*id, state.clone()?))).collect();
    let gone: Vec<i64> = states.iter().filter(|(_, state)| state.is_none()).map(|(id, _)| *id).collect();
    let (mut row, mut lost) = (0, 0);
    let next = |counter: &mut u32| {
        *counter += 1;
        *counter - 1
    };
    let mut state = |state: &Option<Option<String>>| match state {
        Some(_) => KeyState::Row(next(&mut row)),
        None => KeyState::Gone(next(&mut lost)),
    };
    let states_of: Vec<KeyState> = states.iter().map(|(_, text)| text).map(&mut state).collect();
    let changes = states_of.into_iter().map(|state| Change { time: 0, state }).collect();
    let key = Arc::new(Schema::new(vec![definition.schema.field(0).clone()]));
    let gone = RecordBatch::try_new(key, vec![keys(definition.schema.field(0).data_type(), &gone)]).unwrap();
    let batch = ChangeBatch { rows: rows(definition, &present), gone, changes };
    replicas.update(vec![("docs".into(), Update::Apply(&batch))], 2).remove(0).1.unwrap();
    for (id, state) in states {
        match state {
            Some(text) => texts.insert(*id, text.clone()),
            None => texts.remove(id),
        };
    }
}

/// The ids and scores that a search finds.
fn found(snapshot: &Snapshot, query: &str) -> Vec<(i64, f64)> {
    let found = snapshot.text_search("DOCS", "Body", query, None).unwrap();
    let column = found.keys.column(0);
    let id = |row: usize| match column.data_type() {
        DataType::Utf8 => column.as_string::<i32>().value(row)[1..].parse().unwrap(),
        _ => arrow::compute::cast(column, &DataType::Int64).unwrap().as_primitive::<Int64Type>().value(row),
    };
    (0..column.len()).map(id).zip(found.scores.iter().copied()).collect()
}

fn assert_found(snapshot: &Snapshot, texts: &Texts, terms: &[&str]) {
    let query = terms.iter().map(|term| format!("\"{term}\"")).collect::<Vec<_>>().join(" OR ");
    let (found, expected) = (found(snapshot, &query), bm25(texts, terms));
    assert_eq!(found.len(), expected.len(), "{query}");
    let mut sorted = found.clone();
    sorted.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    assert_eq!(found, sorted, "{query}");
    let expected: BTreeMap<i64, f64> = expected.into_iter().collect();
    for (id, score) in found {
        let wanted = expected[&id];
        assert!((score - wanted).abs() <= 1e-9 * wanted.abs().max(1.0), "{query}, {id}: {score}, expected {wanted}");
    }
}

fn indexed(tokenizer: Tokenizer) -> Vec<TextColumn> {
    vec![TextColumn { table: "docs".into(), column: "body".into(), tokenizer }]
}

fn text(seed: u64) -> Option<String> {
    const WORDS: [&str; 12] =
        ["battery", "lithium", "Cell", "solar", "wind", "grid", "ION", "charge", "state", "élan", "car", "of"];
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut next = |below: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
    let words = next(9);
    if words == 8 {
        return None;
    }
    let words: Vec<&str> = (0..words).map(|_| WORDS[(next(12) * next(12) / 11) as usize]).collect();
    Some(words.join(if words.len().is_multiple_of(2) { " " } else { ", " }))
}

fn follows_its_replica(key: DataType) {
    let (replicas, definition) = (Arc::new(Replicas::default()), definition(key));
    let mut texts: Texts = (0..1_000).map(|id| (id, text(id as u64))).collect();
    load(&replicas, &definition, &texts);
    replicas.index_text(|_| indexed(Tokenizer::Unicode61)).unwrap();
    let queries: [&[&str]; 4] = [&["battery"], &["lithium", "battery"], &["of", "car", "grid"], &["absent"]];
    let mut seen: Vec<(Arc<Snapshot>, Texts)> = Vec::new();
    for round in 0..12_u64 {
        let snapshot = replicas.snapshot();
        queries.iter().for_each(|terms| assert_found(&snapshot, &texts, terms));
        seen.push((snapshot, texts.clone()));
        let states: Vec<(i64, Option<Option<String>>)> = (0..200)
            .map(|at| {
                let id = (round as i64 * 137 + at * 11) % 1_100;
                (
                    id,
                    (at % 4 != 0).then(|| {
                        if at % 7 == 0 { texts.get(&id).cloned().flatten() } else { text(round << 20 | at as u64) }
                    }),
                )
            })
            .collect::<BTreeMap<_, _>>()
            .into_iter()
            .collect();
        change(&replicas, &definition, &mut texts, &states);
        if round % 5 == 4 {
            replicas.compact(true).unwrap();
        }
        if round == 8 {
            texts.retain(|id, _| id % 3 == 0);
            load(&replicas, &definition, &texts);
        }
    }
    // Whoever holds a snapshot reads its state, in several threads too.
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                for (snapshot, texts) in &seen {
                    queries.iter().for_each(|terms| assert_found(snapshot, texts, terms));
                }
            });
        }
    });
}

#[test]
fn an_index_by_row_id_follows_its_replica() {
    follows_its_replica(DataType::Int64);
    follows_its_replica(DataType::Int16);
}

#[test]
fn an_index_by_encoded_keys_follows_its_replica() {
    follows_its_replica(DataType::Utf8);
    follows_its_replica(DataType::Float64);
}

#[test]
fn tokenizers_differ() {
    let (replicas, definition) = (Replicas::default(), definition(DataType::Int64));
    let bodies = ["running batteries", "電池の寿命を測る", "Élan vital", "battery"];
    let texts = bodies.iter().enumerate().map(|(id, body)| (id as i64, Some((*body).to_owned()))).collect();
    load(&replicas, &definition, &texts);
    let ids = |tokenizer, query: &str| -> Vec<i64> {
        replicas.index_text(|_| indexed(tokenizer)).unwrap();
        let mut ids: Vec<i64> = found(&replicas.snapshot(), query).into_iter().map(|(id, _)| id).collect();
        ids.sort_unstable();
        ids
    };
    assert_eq!(ids(Tokenizer::Unicode61, "\"elan\""), [2]);
    assert_eq!(ids(Tokenizer::Unicode61, "\"battery\""), [3]);
    assert_eq!(ids(Tokenizer::Unicode61, "\"寿命を\""), [0_i64; 0]);
    assert_eq!(ids(Tokenizer::Porter, "\"battery\""), [0, 3]);
    assert_eq!(ids(Tokenizer::Porter, "\"run\""), [0]);
    assert_eq!(ids(Tokenizer::Trigram, "\"寿命を\""), [1]);
    assert_eq!(ids(Tokenizer::Trigram, "\"TTER\""), [0, 3]);
    assert!("stemmer".parse::<Tokenizer>().unwrap_err().to_string().contains("unicode61, porter or trigram"));
}

#[test]
fn wrong_columns_are_refused_by_name() {
    let (replicas, definition) = (Replicas::default(), definition(DataType::Int64));
    load(&replicas, &definition, &BTreeMap::from([(1, Some("a".into()))]));
    let refused = |table: &str, column: &str| replicas.check_text(table, column).unwrap_err().to_string();
    assert!(refused("notes", "body").contains("\"notes\" is not replicated"));
    assert!(refused("docs", "title").contains("expected one of its text columns [body]"));
    assert!(refused("docs", "id").contains("expected text, got Int64"));
    let snapshot = replicas.snapshot();
    let error = snapshot.text_search("docs", "body", "a", None).unwrap_err().to_string();
    assert!(error.contains("register_text(\"docs\", [\"body\"])"), "{error}");
}

#[test]
fn an_index_outlives_its_table() {
    let (replicas, definition) = (Replicas::default(), definition(DataType::Int64));
    let texts: Texts = BTreeMap::from([(1, Some("solar".into()))]);
    load(&replicas, &definition, &texts);
    replicas.index_text(|_| indexed(Tokenizer::Unicode61)).unwrap();
    replicas.update(vec![("docs".into(), Update::Drop)], 3);
    assert!(replicas.snapshot().text_columns().is_empty());
    assert_eq!(replicas.text_definitions().len(), 1);
    load(&replicas, &definition, &texts);
    assert_eq!(found(&replicas.snapshot(), "solar").len(), 1);
    replicas.index_text(|_| Vec::new()).unwrap();
    assert!(replicas.snapshot().text_search("docs", "body", "solar", None).is_err());
}
