//! INSERT into a folder of Parquet files in an object store: each statement adds a file, so that a
//! reader sees all rows of it or none.

use std::fmt;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::datasource::sink::DataSink;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::{DisplayAs, DisplayFormatType};
use futures::TryStreamExt;
use vexact_core::rows::conform;

use super::object_stores::{Location, ObjectStores};
use super::parquet_table::part_name;
use super::row_file::{RowFileOptions, RowFormat};
use super::scan::external;
use super::store_file::StoreFile;

/// A folder that takes files.
#[derive(Debug)]
pub(crate) struct StoreSink {
    pub stores: Arc<ObjectStores>,
    pub folder: Location,
    pub schema: SchemaRef,
}

impl DisplayAs for StoreSink {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ParquetFolder(url={})", self.folder)
    }
}

#[async_trait]
impl DataSink for StoreSink {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    async fn write_all(
        &self,
        mut rows: SendableRecordBatchStream,
        _: &Arc<TaskContext>,
    ) -> datafusion::common::Result<u64> {
        let folder = self.folder.to_string();
        let location =
            Location::parse(format!("{}/{}", folder.trim_end_matches('/'), part_name())).map_err(external)?;
        let options = RowFileOptions::default();
        let file = StoreFile::create(self.stores.as_ref(), &location, RowFormat::Parquet, &self.schema, &options);
        let mut file = file.map_err(external)?;
        let mut count = 0;
        while let Some(batch) = rows.try_next().await? {
            count += batch.num_rows() as u64;
            file.write(&conform(batch, &self.schema)?).await.map_err(external)?;
        }
        if count > 0 {
            file.finish().await.map_err(external)?;
        }
        Ok(count)
    }
}
