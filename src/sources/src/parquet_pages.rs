//! Detects damaged pages of Parquet files: the sizes in their headers are checked before the reader
//! allocates memory for them.
//!
//! The reader takes a page's decompressed size, and the number of values of a dictionary, from the
//! header alone: a flipped bit makes it allocate gigabytes. Here the sizes have to be possible: a
//! codec has a highest ratio, a page is within its column chunk, and a dictionary's values are in
//! its page.

use std::ops::Range;

use bytes::Bytes;
use datafusion::parquet::basic::{Compression, Encoding, Type};
use datafusion::parquet::file::metadata::{ColumnChunkMetaData, ParquetMetaData};

use super::parquet_delta::{check_lengths, has_lengths};

/// Number of bytes of a header that are read first.
const HEADER_BYTES: u64 = 1 << 12;
/// Maximum nesting depth of structs in a header.
const MAX_DEPTH: u32 = 8;
/// Tolerated understatement of the sizes in a file's metadata, in bytes: some writers leave headers
/// out of the sums.
const SLACK_BYTES: i64 = 1 << 20;

/// Rejects metadata with a column chunk that does not fit in a file of `len` bytes.
///
/// # Errors
/// The first such chunk, expected and got.
pub(super) fn check_metadata(metadata: &ParquetMetaData, len: u64) -> Result<(), String> {
    for (number, group) in metadata.row_groups().iter().enumerate() {
        let rows = group.num_rows();
        if rows < 0 {
            return Err(format!("row group {number}: expected a number of rows, got {rows}"));
        }
        for column in group.columns() {
            let refused =
                |problem: String| Err(format!("row group {number}, column {}: {problem}", column.column_path()));
            let pages = match chunk(column) {
                Some(pages) if pages.end <= len => pages,
                _ => {
                    let (start, bytes) = (column.data_page_offset(), column.compressed_size());
                    return refused(format!(
                        "expected pages within the {len} bytes of the file, got {bytes} from {start}"
                    ));
                }
            };
            let (size, most) = (column.uncompressed_size(), most_bytes(column.compression(), pages.end - pages.start));
            if !(0..=most).contains(&size) {
                return refused(format!("expected at most {most} bytes when it is decompressed, got {size}"));
            }
            if column.num_values() < 0 {
                return refused(format!("expected a number of values, got {}", column.num_values()));
            }
        }
    }
    Ok(())
}

/// Returns the byte range of a column chunk; `None` if its metadata has none.
pub(super) fn chunk(column: &ColumnChunkMetaData) -> Option<Range<u64>> {
    let start = column.dictionary_page_offset().filter(|offset| *offset > 0).unwrap_or(column.data_page_offset());
    let start = u64::try_from(start.min(column.data_page_offset())).ok()?;
    Some(start..start.checked_add(u64::try_from(column.compressed_size()).ok()?)?)
}

/// Returns the maximum decompressed size of this number of bytes, with the tolerance for wrong
/// sums.
fn most_bytes(compression: Compression, bytes: u64) -> i64 {
    let ratio = match compression {
        Compression::UNCOMPRESSED => 1,
        // Snappy expands three bytes to at most 64.
        Compression::SNAPPY => 22,
        // LZ4 expands one byte to at most 255.
        Compression::LZ4 | Compression::LZ4_RAW | Compression::LZO => 256,
        // Deflate expands two bits to at most 258 bytes.
        Compression::GZIP(_) => 1033,
        // Zstandard expands four bytes to a block of 128 KiB; other codecs have no known bound.
        _ => 1 << 15,
    };
    i64::try_from(bytes).unwrap_or(i64::MAX).saturating_mul(ratio).saturating_add(SLACK_BYTES)
}

/// Rejects pages of a column chunk with impossible sizes; `pages` begins with a page, and `read`
/// returns bytes of the file.
///
/// # Errors
/// The position of the first such page, expected and got; an error of `read`.
pub(super) fn check_pages(
    column: &ColumnChunkMetaData,
    pages: Range<u64>,
    mut read: impl FnMut(Range<u64>) -> Result<Bytes, String>,
) -> Result<(), String> {
    let mut has_dictionary = chunk(column).is_some_and(|chunk| chunk.start < pages.start);
    let mut position = pages.start;
    while position < pages.end {
        let header = header(position..pages.end, &mut read)?;
        let Some(header) = header else {
            return Err(format!("page at byte {position}: expected a header, got other bytes"));
        };
        let left = pages.end - position - header.length;
        header
            .check(column, left, has_dictionary)
            .map_err(|problem| format!("column {}, page at byte {position}: {problem}", column.column_path()))?;
        has_dictionary |= header.kind == DICTIONARY_PAGE;
        let end = position + header.length + header.compressed as u64;
        if header.kind != DICTIONARY_PAGE && header.encoding.is_some_and(has_lengths) {
            check_lengths(column, position, read(position..end)?)
                .map_err(|problem| format!("column {}, page at byte {position}: {problem}", column.column_path()))?;
        }
        position = end;
    }
    Ok(())
}

const DATA_PAGE: i64 = 0;
const DICTIONARY_PAGE: i64 = 2;
const DATA_PAGE_V2: i64 = 3;

/// The sizes in the header of a page.
#[derive(Debug, Default)]
struct PageHeader {
    /// Length of the header itself, in bytes.
    length: u64,
    kind: i64,
    uncompressed: i64,
    compressed: i64,
    /// Number of values in the header of the page's kind.
    values: Option<i64>,
    encoding: Option<i64>,
}

/// Parses the header at the start of some bytes; returns `None` if there is none.
fn header(
    bytes: Range<u64>,
    read: &mut impl FnMut(Range<u64>) -> Result<Bytes, String>,
) -> Result<Option<PageHeader>, String> {
    let (all, mut window) = (bytes.end - bytes.start, HEADER_BYTES);
    loop {
        let found = read(bytes.start..bytes.start + window.min(all))?;
        match PageHeader::read(&found) {
            None if window < all => window = window.saturating_mul(8),
            header => return Ok(header),
        }
    }
}

impl PageHeader {
    fn read(bytes: &[u8]) -> Option<Self> {
        let (mut thrift, mut header) =
            (Thrift { bytes, position: 0 }, Self { kind: -1, compressed: -1, ..Self::default() });
        thrift.fields(|thrift, field, kind| {
            match (field, kind) {
                (1, Thrift::INTEGER) => header.kind = thrift.integer()?,
                (2, Thrift::INTEGER) => header.uncompressed = thrift.integer()?,
                (3, Thrift::INTEGER) => header.compressed = thrift.integer()?,
                (5 | 7 | 8, Thrift::STRUCT) => {
                    let encoding = if field == 8 { 4 } else { 2 };
                    thrift.fields(|thrift, inner, kind| {
                        match kind {
                            Thrift::INTEGER if inner == 1 => header.values = Some(thrift.integer()?),
                            Thrift::INTEGER if inner == encoding => header.encoding = Some(thrift.integer()?),
                            _ => thrift.skip(kind, MAX_DEPTH)?,
                        }
                        Some(())
                    })?;
                }
                _ => thrift.skip(kind, MAX_DEPTH)?,
            }
            Some(())
        })?;
        header.length = thrift.position as u64;
        Some(header)
    }

    /// Checks the sizes; `left` is the number of bytes of the chunk after the header.
    fn check(&self, column: &ColumnChunkMetaData, left: u64, has_dictionary: bool) -> Result<(), String> {
        let compressed = u64::try_from(self.compressed).ok().filter(|bytes| *bytes <= left);
        let Some(compressed) = compressed else {
            return Err(format!("expected at most {left} bytes, got {}", self.compressed));
        };
        let whole = column.uncompressed_size().saturating_mul(2).saturating_add(SLACK_BYTES);
        let most = most_bytes(column.compression(), compressed).min(whole);
        if !(0..=most).contains(&self.uncompressed) {
            return Err(format!("expected at most {most} bytes when it is decompressed, got {}", self.uncompressed));
        }
        let Some(values) = self.values else { return Ok(()) };
        let most = match self.kind {
            DICTIONARY_PAGE => {
                // Each value has at least its length field in the page.
                let bytes = match column.column_type() {
                    Type::BOOLEAN => return Err("expected no dictionary of booleans, got one".into()),
                    Type::INT32 | Type::FLOAT | Type::BYTE_ARRAY => 4,
                    Type::INT64 | Type::DOUBLE => 8,
                    Type::INT96 => 12,
                    Type::FIXED_LEN_BYTE_ARRAY => i64::from(column.column_descr().type_length()).max(1),
                };
                self.uncompressed.max(self.compressed) / bytes
            }
            DATA_PAGE | DATA_PAGE_V2 => column.num_values(),
            _ => return Ok(()),
        };
        if !(0..=most).contains(&values) {
            return Err(format!("expected at most {most} values, got {values}"));
        }
        let is_of_dictionary = [Encoding::PLAIN_DICTIONARY, Encoding::RLE_DICTIONARY]
            .iter()
            .any(|encoding| self.encoding == Some(i64::from(*encoding as i32)));
        if self.kind != DICTIONARY_PAGE && is_of_dictionary && !has_dictionary {
            return Err("expected a dictionary before its values, got none".into());
        }
        Ok(())
    }
}

/// Reads Thrift's compact protocol, as far as page headers use it. Each method returns `None` if
/// the bytes are invalid.
pub(super) struct Thrift<'a> {
    pub bytes: &'a [u8],
    pub position: usize,
}

impl Thrift<'_> {
    const INTEGER: u8 = 5;
    const STRUCT: u8 = 12;

    fn byte(&mut self) -> Option<u8> {
        let byte = *self.bytes.get(self.position)?;
        self.position += 1;
        Some(byte)
    }

    pub fn pass(&mut self, bytes: u64) -> Option<()> {
        let end = self.position.checked_add(usize::try_from(bytes).ok()?)?;
        self.position = Some(end).filter(|end| *end <= self.bytes.len())?;
        Some(())
    }

    pub fn varint(&mut self) -> Option<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Some(value);
            }
        }
        None
    }

    pub fn integer(&mut self) -> Option<i64> {
        let value = self.varint()?;
        Some((value >> 1) as i64 ^ -((value & 1) as i64))
    }

    /// Calls a function for each field of a struct, with its number and its kind; the function
    /// skips the value.
    fn fields(&mut self, mut field: impl FnMut(&mut Self, i64, u8) -> Option<()>) -> Option<()> {
        let mut number = 0_i64;
        loop {
            let byte = self.byte()?;
            if byte == 0 {
                return Some(());
            }
            number = match byte >> 4 {
                0 => self.integer()?,
                delta => number.checked_add(i64::from(delta))?,
            };
            field(self, number, byte & 0x0f)?;
        }
    }

    /// Skips a value.
    fn skip(&mut self, kind: u8, depth: u32) -> Option<()> {
        let depth = depth.checked_sub(1)?;
        match kind {
            // The kind of a boolean field is its value.
            1 | 2 => Some(()),
            3 => self.pass(1),
            4..=6 => self.varint().map(|_| ()),
            7 => self.pass(8),
            8 => {
                let length = self.varint()?;
                self.pass(length)
            }
            9 | 10 => {
                let byte = self.byte()?;
                let items = if byte >> 4 == 15 { self.varint()? } else { u64::from(byte >> 4) };
                (0..items).try_for_each(|_| self.skip_item(byte & 0x0f, depth))
            }
            11 => {
                let items = self.varint()?;
                let kinds = if items == 0 { 0 } else { self.byte()? };
                (0..items).try_for_each(|_| {
                    self.skip_item(kinds >> 4, depth)?;
                    self.skip_item(kinds & 0x0f, depth)
                })
            }
            Self::STRUCT => self.fields(|thrift, _, kind| thrift.skip(kind, depth)),
            _ => None,
        }
    }

    /// Skips an item of a list, in which a boolean is a byte.
    fn skip_item(&mut self, kind: u8, depth: u32) -> Option<()> {
        if matches!(kind, 1 | 2) { self.pass(1) } else { self.skip(kind, depth) }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, BooleanArray, FixedSizeBinaryArray, Int64Array, ListArray, RecordBatch, StringArray};
    use arrow::datatypes::Int32Type;
    use datafusion::parquet::arrow::ArrowWriter;
    use datafusion::parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
    use datafusion::parquet::basic::{BrotliLevel, GzipLevel, ZstdLevel};
    use datafusion::parquet::file::properties::{WriterProperties, WriterVersion};

    use super::*;

    fn written(compression: Compression, version: WriterVersion, has_dictionary: bool) -> Bytes {
        let lists = (0..5000).map(|row| (row % 3 > 0).then(|| vec![Some(row), None, Some(7)]));
        let fixed = (0..5000_u32).map(|row| row.to_le_bytes());
        let columns: [(&str, ArrayRef); 5] = [
            ("i", Arc::new(Int64Array::from_iter((0..5000).map(|row| (row % 7 > 0).then_some(row * row))))),
            ("s", Arc::new(StringArray::from_iter_values((0..5000).map(|row| format!("text {}", row % 50))))),
            ("l", Arc::new(ListArray::from_iter_primitive::<Int32Type, _, _>(lists))),
            ("b", Arc::new(BooleanArray::from_iter((0..5000).map(|row| Some(row % 2 == 0))))),
            ("f", Arc::new(FixedSizeBinaryArray::try_from_iter(fixed).unwrap())),
        ];
        let batch = RecordBatch::try_from_iter(columns).unwrap();
        let properties = WriterProperties::builder()
            .set_compression(compression)
            .set_writer_version(version)
            .set_dictionary_enabled(has_dictionary)
            .set_data_page_row_count_limit(700)
            .set_max_row_group_row_count(Some(3000))
            .build();
        let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), Some(properties)).unwrap();
        writer.write(&batch).unwrap();
        writer.into_inner().unwrap().into()
    }

    fn metadata(file: &Bytes) -> Arc<ParquetMetaData> {
        Arc::clone(ParquetRecordBatchReaderBuilder::try_new(file.clone()).unwrap().metadata())
    }

    fn check(file: &Bytes, column: &ColumnChunkMetaData) -> Result<(), String> {
        let read = |part: Range<u64>| Ok(file.slice(part.start as usize..part.end as usize));
        check_pages(column, chunk(column).unwrap(), read)
    }

    #[test]
    fn what_is_written_passes_at_every_codec_and_encoding() {
        let codecs = [
            Compression::UNCOMPRESSED,
            Compression::SNAPPY,
            Compression::GZIP(GzipLevel::default()),
            Compression::BROTLI(BrotliLevel::default()),
            Compression::LZ4_RAW,
            Compression::ZSTD(ZstdLevel::default()),
        ];
        for codec in codecs {
            for (version, has_dictionary) in [
                (WriterVersion::PARQUET_1_0, true),
                (WriterVersion::PARQUET_2_0, true),
                (WriterVersion::PARQUET_2_0, false),
            ] {
                let file = written(codec, version, has_dictionary);
                let metadata = metadata(&file);
                check_metadata(&metadata, file.len() as u64).unwrap();
                for column in metadata.row_groups().iter().flat_map(|group| group.columns()) {
                    check(&file, column).unwrap();
                }
                assert!(check_metadata(&metadata, 100).unwrap_err().contains("within the 100 bytes"));
            }
        }
    }

    /// Returns a number in Thrift's compact protocol.
    fn integer(value: i64) -> Vec<u8> {
        let (mut rest, mut bytes) = ((value << 1 ^ value >> 63) as u64, Vec::new());
        while rest >= 0x80 {
            bytes.push(rest as u8 | 0x80);
            rest >>= 7;
        }
        bytes.push(rest as u8);
        bytes
    }

    /// Returns a header of a page of `kind`, whose own header has the field `inner`.
    fn page(kind: i64, inner: u8, sizes: [i64; 2], values: i64, encoding: i64) -> Vec<u8> {
        let mut bytes = Vec::new();
        for number in [kind, sizes[0], sizes[1]] {
            bytes.push(0x15);
            bytes.extend(integer(number));
        }
        bytes.push((inner - 3) << 4 | Thrift::STRUCT);
        bytes.push(0x15);
        bytes.extend(integer(values));
        bytes.push((if inner == 8 { 3 } else { 1 }) << 4 | Thrift::INTEGER);
        bytes.extend(integer(encoding));
        // A flag, as of dictionaries that are sorted, and the ends of both structs.
        bytes.extend([0x11, 0, 0]);
        bytes
    }

    #[test]
    fn sizes_that_cannot_be_are_refused_before_anything_is_allocated_for_them() {
        const HUGE: i64 = i32::MAX as i64;

        for codec in [Compression::UNCOMPRESSED, Compression::SNAPPY, Compression::ZSTD(ZstdLevel::default())] {
            let file = written(codec, WriterVersion::PARQUET_1_0, true);
            let column = metadata(&file).row_group(0).column(0).clone();
            let (plain, dictionary) = (Encoding::PLAIN as i64, Encoding::RLE_DICTIONARY as i64);
            for (header, expected) in [
                (page(DICTIONARY_PAGE, 7, [80, 50], 10, plain), ""),
                (page(DATA_PAGE, 5, [80, 50], 10, plain), ""),
                (page(DATA_PAGE_V2, 8, [80, 50], 10, plain), ""),
                (page(DICTIONARY_PAGE, 7, [80, 50], 11, plain), "expected at most 10 values, got 11"),
                (page(DICTIONARY_PAGE, 7, [80, 50], HUGE, plain), "expected at most 10 values, got 2147483647"),
                (page(DICTIONARY_PAGE, 7, [80, 50], -1, plain), "values, got -1"),
                (page(DATA_PAGE, 5, [80, 50], HUGE, plain), "expected at most 3000 values, got 2147483647"),
                (page(DATA_PAGE_V2, 8, [80, 50], HUGE, plain), "expected at most 3000 values"),
                (page(DATA_PAGE, 5, [HUGE, 50], 10, plain), "when it is decompressed, got 2147483647"),
                (page(DICTIONARY_PAGE, 7, [HUGE, 50], 10, plain), "when it is decompressed, got 2147483647"),
                (page(DATA_PAGE, 5, [-1, 50], 10, plain), "when it is decompressed, got -1"),
                (page(DATA_PAGE, 5, [80, 51], 10, plain), "expected at most 50 bytes, got 51"),
                (page(DATA_PAGE, 5, [80, -1], 10, plain), "bytes, got -1"),
                (page(DATA_PAGE, 5, [80, 50], 10, dictionary), "expected a dictionary before its values, got none"),
            ] {
                let bytes = Bytes::from([&header[..], &[0; 50]].concat());
                let builder = column.clone().into_builder().set_dictionary_page_offset(None).set_data_page_offset(0);
                let column = builder.set_total_compressed_size(bytes.len() as i64).build().unwrap();
                let found = check(&bytes, &column).err().unwrap_or_default();
                assert_eq!(found.is_empty(), expected.is_empty(), "{expected:?}: {found}");
                assert!(found.contains(expected), "{expected:?}: {found}");
                for cut in 0..header.len() {
                    let cut = bytes.slice(..cut);
                    let column =
                        column.clone().into_builder().set_total_compressed_size(cut.len() as i64).build().unwrap();
                    assert_eq!(check(&cut, &column).is_ok(), cut.is_empty());
                }
            }
        }
    }

    #[test]
    fn no_flipped_bit_of_a_header_is_a_page_beyond_its_chunk() {
        let file = written(Compression::SNAPPY, WriterVersion::PARQUET_2_0, true);
        let metadata = metadata(&file);
        for column in metadata.row_groups().iter().flat_map(|group| group.columns()) {
            let pages = chunk(column).unwrap();
            for bit in pages.start * 8..(pages.start + 64).min(pages.end) * 8 {
                let mut damaged = file.to_vec();
                damaged[bit as usize / 8] ^= 1 << (bit % 8);
                // The check accepts or rejects it, and reads no missing bytes.
                let _ = check(&damaged.into(), column);
            }
        }
    }
}
