use super::*;

fn schema(columns: &[(&str, &str)], key: &[&str]) -> Result<TableSchema> {
    let columns: Vec<_> = columns.iter().map(|(name, kind)| (name.to_string(), kind.to_string())).collect();
    TableSchema::try_new("t", &columns, &key.iter().map(|name| name.to_string()).collect::<Vec<_>>())
}

fn refusal(columns: &[(&str, &str)], key: &[&str]) -> String {
    schema(columns, key).unwrap_err().to_string()
}

#[test]
fn type_strings_are_read_in_any_case_and_printed_canonically() {
    let cases = [
        ("int8", "int8"),
        ("INT16", "int16"),
        ("int", "int32"),
        ("Int32", "int32"),
        ("BigInt", "int64"),
        ("int64", "int64"),
        ("uint8", "uint8"),
        ("uint16", "uint16"),
        ("uint32", "uint32"),
        ("uint64", "uint64"),
        ("half", "float16"),
        ("float16", "float16"),
        ("FLOAT", "float32"),
        ("float32", "float32"),
        ("double", "float64"),
        ("float64", "float64"),
        ("String", "utf8"),
        ("TEXT", "utf8"),
        ("utf8", "utf8"),
        ("boolean", "bool"),
        ("bool", "bool"),
        ("bytes", "binary"),
        ("binary", "binary"),
        ("vector(384)", "vector(384)"),
        ("Float32[3]", "vector(3)"),
        ("VECTOR( 3 )", "vector(3)"),
        ("float16[8]", "float16[8]"),
        ("INT8[16]", "int8[16]"),
        ("uint8[ 3 ]", "uint8[3]"),
        ("Bit[24]", "bit[24]"),
    ];
    for (text, canonical) in cases {
        let parsed = ColumnType::parse(text).unwrap();
        assert_eq!(parsed.to_string(), canonical, "{text}");
        assert_eq!(ColumnType::parse(canonical).unwrap(), parsed, "{text}");
        assert_eq!(ColumnType::of_arrow(&parsed.arrow()), Some(parsed), "{text}");
    }
}

#[test]
fn unknown_types_are_named_as_given() {
    for text in [
        "Integer",
        "vector",
        "vector()",
        "vector(-1)",
        "vector(+3)",
        "float32[3",
        "float64[3]",
        "bit(8)",
        "int16[2]",
        "",
        "decimal(3)",
    ] {
        assert_eq!(ColumnType::parse(text).unwrap_err().to_string(), format!("unknown type: {text}"));
    }
    let zero = ColumnType::parse("vector(0)").unwrap_err().to_string();
    assert!(zero.contains("vector(0)") && zero.contains("got 0"), "{zero}");
    let bits = ColumnType::parse("bit[12]").unwrap_err().to_string();
    assert_eq!(bits, "type bit[12]: expected a multiple of 8 bits, got 12");
    assert!(ColumnType::parse("vector(99999999999)").unwrap_err().to_string().contains("2147483647"));
}

#[test]
fn a_schema_that_cannot_be_is_refused_with_the_name_of_what_is_wrong() {
    let id = ("id", "int64");
    assert!(refusal(&[], &["id"]).contains("at least one column"));
    assert!(refusal(&[id, ("ID", "utf8")], &["id"]).contains("duplicate column \"ID\""));
    assert!(refusal(&[id], &[]).contains("at least one key column"));
    assert!(refusal(&[id], &["nope"]).contains("unknown key column \"nope\": expected one of [id]"));
    assert!(refusal(&[id], &["id", "Id"]).contains("duplicate key column \"Id\""));
    assert_eq!(refusal(&[id, ("a", "Integer")], &["id"]), "t.a: unknown type: Integer");
    for reserved in ["_valid_from", "_VALID_TO", "_operation", ""] {
        assert!(refusal(&[id, (reserved, "int64")], &["id"]).contains("is reserved"), "{reserved}");
    }
    assert!(refusal(&[id, ("a\0b", "int64")], &["id"]).contains("column \"a\\0b\": expected a name without NUL"));
    for rounding in ["float16", "float32", "vector(2)"] {
        assert!(refusal(&[("k", rounding)], &["k"]).contains("keeps keys apart"), "{rounding}");
    }
    for name in ["", "sqlite_master", "_VEXACT_log", "a\0b"] {
        let columns = [("id".to_string(), "int64".to_string())];
        assert!(TableSchema::try_new(name, &columns, &["id".to_string()]).is_err(), "{name:?}");
    }
}

#[test]
fn key_columns_are_not_nullable_in_arrow() {
    let schema = schema(&[("a", "int64"), ("b", "vector(2)"), ("K", "utf8")], &["k", "a"]).unwrap();
    assert_eq!(schema.key(), [2, 0]);
    assert_eq!(schema.to_string(), "t(a int64, b vector(2), K utf8; key K, a)");
    let arrow = schema.arrow();
    let nullable: Vec<_> = arrow.fields().iter().map(|field| field.is_nullable()).collect();
    assert_eq!(nullable, [false, true, false]);
    assert_eq!(arrow.field(1).data_type(), &DataType::new_fixed_size_list(DataType::Float32, 2, true));
}

#[test]
fn schemas_are_the_same_whatever_the_case_of_their_names() {
    let lower = schema(&[("a", "int64"), ("b", "utf8")], &["a"]).unwrap();
    assert!(lower.is_same(&schema(&[("A", "bigint"), ("B", "text")], &["A"]).unwrap()));
    assert!(!lower.is_same(&schema(&[("a", "int64"), ("b", "utf8")], &["b"]).unwrap()));
    assert!(!lower.is_same(&schema(&[("a", "int64"), ("b", "binary")], &["a"]).unwrap()));
}

#[test]
fn declarations_follow_the_affinity_of_sqlite() {
    let cases = [
        ("INTEGER", Some(ColumnType::Int64)),
        ("tinyint(1)", Some(ColumnType::Int64)),
        ("FLOATING POINT", Some(ColumnType::Int64)),
        ("varchar(20)", Some(ColumnType::Utf8)),
        ("Clob", Some(ColumnType::Utf8)),
        ("BLOB", Some(ColumnType::Binary)),
        ("DOUBLE PRECISION", Some(ColumnType::Float64)),
        ("real", Some(ColumnType::Float64)),
        ("BOOLEAN", Some(ColumnType::Boolean)),
        ("vector(3)", Some(ColumnType::Vector { element: VectorElement::Float32, dim: 3 })),
        ("float32[3]", Some(ColumnType::Vector { element: VectorElement::Float32, dim: 3 })),
        ("DECIMAL(10,2)", None),
        ("DATETIME", None),
        ("", None),
    ];
    for (declaration, expected) in cases {
        assert_eq!(declared(Some(declaration)), expected, "{declaration}");
    }
    assert_eq!(declared(None), None);
}
