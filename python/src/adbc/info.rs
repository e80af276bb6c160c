//! Name, vendor and versions of the driver.

use std::collections::HashSet;
use std::sync::Arc;

use adbc_core::constants::ADBC_VERSION_1_1_0;
use adbc_core::error::Result;
use adbc_core::options::InfoCode;
use adbc_core::schemas::GET_INFO_SCHEMA;
use arrow::array::{
    ArrayRef, BooleanArray, Int64Array, RecordBatch, RecordBatchReader, StringArray, UInt32Array, UnionArray,
    new_empty_array,
};
use arrow::buffer::ScalarBuffer;
use arrow::datatypes::DataType;

use super::reader::in_memory;
use super::status::error;

enum Value {
    Text(&'static str),
    Boolean(bool),
    Integer(i64),
}

/// Returns the facts that are asked for, or all.
pub fn reader(codes: Option<&HashSet<InfoCode>>) -> Result<Box<dyn RecordBatchReader + Send + 'static>> {
    let version = env!("CARGO_PKG_VERSION");
    let known = [
        (InfoCode::VendorName, Value::Text("vexact")),
        (InfoCode::VendorVersion, Value::Text(version)),
        (InfoCode::VendorArrowVersion, Value::Text(arrow::ARROW_VERSION)),
        (InfoCode::VendorSql, Value::Boolean(true)),
        (InfoCode::VendorSubstrait, Value::Boolean(false)),
        (InfoCode::DriverName, Value::Text("ADBC vexact driver")),
        (InfoCode::DriverVersion, Value::Text(version)),
        (InfoCode::DriverArrowVersion, Value::Text(arrow::ARROW_VERSION)),
        (InfoCode::DriverAdbcVersion, Value::Integer(i64::from(ADBC_VERSION_1_1_0))),
    ];
    let (mut names, mut types, mut offsets) = (Vec::new(), Vec::<i8>::new(), Vec::<i32>::new());
    let (mut texts, mut booleans, mut integers) = (Vec::new(), Vec::new(), Vec::new());
    for (code, value) in known {
        if codes.is_some_and(|codes| !codes.contains(&code)) {
            continue;
        }
        names.push(u32::from(&code));
        let (kind, offset) = match value {
            Value::Text(text) => {
                texts.push(text);
                (0, texts.len())
            }
            Value::Boolean(boolean) => {
                booleans.push(boolean);
                (1, booleans.len())
            }
            Value::Integer(integer) => {
                integers.push(integer);
                (2, integers.len())
            }
        };
        types.push(kind);
        offsets.push(offset as i32 - 1);
    }
    let schema = Arc::clone(&GET_INFO_SCHEMA);
    let DataType::Union(fields, _) = schema.field(1).data_type() else {
        return Err(error(adbc_core::error::Status::Internal, "the schema of the driver's information has no union"));
    };
    let children = fields.iter().map(|(kind, field)| -> ArrayRef {
        match kind {
            0 => Arc::new(StringArray::from(texts.clone())),
            1 => Arc::new(BooleanArray::from(booleans.clone())),
            2 => Arc::new(Int64Array::from(integers.clone())),
            _ => new_empty_array(field.data_type()),
        }
    });
    let children = children.collect();
    let offsets = Some(ScalarBuffer::from(offsets));
    let values = UnionArray::try_new(fields.clone(), ScalarBuffer::from(types), offsets, children)?;
    let columns: Vec<ArrayRef> = vec![Arc::new(UInt32Array::from(names)), Arc::new(values)];
    let batch = RecordBatch::try_new(Arc::clone(&schema), columns)?;
    Ok(in_memory(&schema, vec![batch]))
}
