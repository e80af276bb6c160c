//! Detects damaged pages of texts in the encodings DELTA_LENGTH_BYTE_ARRAY and DELTA_BYTE_ARRAY.
//!
//! Their pages begin with sequences of lengths, which have their number of values in front. The
//! reader allocates memory for that number before it reads a length; it is behind the page's
//! compression, so that the header does not bound it. Here it has to be within the values of the
//! page.

use std::ops::Range;
use std::sync::Arc;

use bytes::{Buf, Bytes, buf};
use datafusion::parquet::basic::Encoding;
use datafusion::parquet::column::page::{Page, PageReader};
use datafusion::parquet::errors::Result as ParquetResult;
use datafusion::parquet::file::metadata::ColumnChunkMetaData;
use datafusion::parquet::file::page_index::offset_index::PageLocation;
use datafusion::parquet::file::reader::{ChunkReader, Length};
use datafusion::parquet::file::serialized_reader::SerializedPageReader;

use super::parquet_pages::{Thrift, chunk};

/// Returns true if pages of an encoding have to be checked.
pub(super) fn has_lengths(encoding: i64) -> bool {
    sequences(encoding) > 0
}

/// Returns the number of sequences of lengths at the start of the values.
fn sequences(encoding: i64) -> usize {
    match encoding {
        encoding if encoding == Encoding::DELTA_LENGTH_BYTE_ARRAY as i64 => 1,
        // Lengths of prefixes, then those of suffixes.
        encoding if encoding == Encoding::DELTA_BYTE_ARRAY as i64 => 2,
        _ => 0,
    }
}

/// Rejects a data page whose sequences claim more values than the page has. `bytes` are those of
/// the page at `position`, with its header, which was checked.
///
/// # Errors
/// A page that cannot be decompressed, expected and got.
pub(super) fn check_lengths(column: &ColumnChunkMetaData, position: u64, bytes: Bytes) -> Result<(), String> {
    let broken = |error| format!("expected a page of values, got {error}");
    let place = PageLocation {
        offset: i64::try_from(position).unwrap_or(i64::MAX),
        compressed_page_size: i32::try_from(bytes.len()).unwrap_or(i32::MAX),
        first_row_index: 0,
    };
    let is_first = chunk(column).is_some_and(|chunk| chunk.start == position);
    let page = Arc::new(OnePage { position, bytes });
    let mut pages = SerializedPageReader::new(page, column, 0, Some(vec![place])).map_err(broken)?;
    if !is_first {
        // The reader takes the bytes before the page for a dictionary.
        pages.skip_next_page().map_err(broken)?;
    }
    let Some(page) = pages.get_next_page().map_err(broken)? else { return Ok(()) };
    let most = u64::from(page.num_values());
    let encoding = page.encoding() as i64;
    let levels = column.column_descr();
    let values = match &page {
        Page::DataPage { buf, rep_level_encoding, def_level_encoding, .. } => {
            let after = after_levels(buf, levels.max_rep_level(), *rep_level_encoding);
            after.and_then(|buf| after_levels(buf, levels.max_def_level(), *def_level_encoding))
        }
        Page::DataPageV2 { buf, rep_levels_byte_len, def_levels_byte_len, .. } => {
            usize::try_from(u64::from(*rep_levels_byte_len) + u64::from(*def_levels_byte_len))
                .ok()
                .and_then(|levels| buf.get(levels..))
        }
        Page::DictionaryPage { .. } => return Ok(()),
    };
    let Some(values) = values else { return Err("expected values after the levels, got the end of the page".into()) };
    check_sequences(values, sequences(encoding), most)
}

/// Returns the bytes after the levels of a page; `None` if there are not that many. Levels in the
/// encoding of the first versions of Parquet have no length; the values after them are not checked.
fn after_levels(bytes: &[u8], most: i16, encoding: Encoding) -> Option<&[u8]> {
    if most == 0 {
        return Some(bytes);
    }
    if encoding != Encoding::RLE {
        return Some(&[]);
    }
    let (length, levels) = bytes.split_first_chunk()?;
    levels.get(usize::try_from(u32::from_le_bytes(*length)).ok()?..)
}

/// Checks the sequences at the start of some values.
fn check_sequences(values: &[u8], sequences: usize, most: u64) -> Result<(), String> {
    let mut thrift = Thrift { bytes: values, position: 0 };
    for _ in 0..sequences {
        // A sequence that ends early is an error of the reader.
        let Some(head) = Head::read(&mut thrift) else { return Ok(()) };
        if head.values > most {
            return Err(format!("expected lengths of at most {most} values, got {}", head.values));
        }
        if head.skip_values(&mut thrift).is_none() {
            return Ok(());
        }
    }
    Ok(())
}

/// Start of a sequence in the encoding DELTA_BINARY_PACKED.
struct Head {
    block_values: u64,
    parts: u64,
    values: u64,
}

impl Head {
    fn read(thrift: &mut Thrift<'_>) -> Option<Self> {
        let head = Self { block_values: thrift.varint()?, parts: thrift.varint()?, values: thrift.varint()? };
        // The first value.
        thrift.integer()?;
        Some(head)
    }

    /// Skips the differences between the values; `None` if there are not that many bytes.
    fn skip_values(&self, thrift: &mut Thrift<'_>) -> Option<()> {
        let part_values = self.block_values.checked_div(self.parts).filter(|values| *values > 0)?;
        let mut left = self.values.saturating_sub(1);
        while left > 0 {
            // The smallest difference of the block, then the bits of a difference in each part.
            thrift.integer()?;
            let widths = thrift.position..thrift.position.checked_add(usize::try_from(self.parts).ok()?)?;
            thrift.pass(self.parts)?;
            for width in widths {
                if left == 0 {
                    break;
                }
                let bits = u64::from(*thrift.bytes.get(width)?).checked_mul(part_values)?;
                thrift.pass(bits.div_ceil(8))?;
                left = left.saturating_sub(part_values);
            }
        }
        Some(())
    }
}

/// The bytes of one page, at their position in the file.
struct OnePage {
    position: u64,
    bytes: Bytes,
}

impl OnePage {
    fn part(&self, range: Range<u64>) -> Bytes {
        let within = |at: u64| (at.saturating_sub(self.position) as usize).min(self.bytes.len());
        self.bytes.slice(within(range.start)..within(range.end.max(range.start)))
    }
}

impl Length for OnePage {
    fn len(&self) -> u64 {
        self.position + self.bytes.len() as u64
    }
}

impl ChunkReader for OnePage {
    type T = buf::Reader<Bytes>;

    fn get_read(&self, start: u64) -> ParquetResult<Self::T> {
        Ok(self.part(start..u64::MAX).reader())
    }

    fn get_bytes(&self, start: u64, length: usize) -> ParquetResult<Bytes> {
        Ok(self.part(start..start.saturating_add(length as u64)))
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{ArrayRef, RecordBatch, StringArray};
    use datafusion::parquet::arrow::ArrowWriter;
    use datafusion::parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
    use datafusion::parquet::basic::{Compression, ZstdLevel};
    use datafusion::parquet::file::properties::{WriterProperties, WriterVersion};

    use super::super::parquet_pages::check_pages;
    use super::*;

    const ROWS: usize = 5000;

    fn written(codec: Compression, version: WriterVersion, encoding: Encoding, has_dictionary: bool) -> Bytes {
        let texts = (0..ROWS).map(|row| (row % 7 > 0).then(|| format!("text {}", row % 1000)));
        let texts: ArrayRef = Arc::new(StringArray::from_iter(texts));
        let batch = RecordBatch::try_from_iter_with_nullable([("s", texts, true)]).unwrap();
        let properties = WriterProperties::builder()
            .set_compression(codec)
            .set_writer_version(version)
            .set_dictionary_enabled(has_dictionary)
            .set_dictionary_page_size_limit(64)
            .set_encoding(encoding)
            .set_data_page_row_count_limit(1200)
            .build();
        let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), Some(properties)).unwrap();
        writer.write(&batch).unwrap();
        writer.into_inner().unwrap().into()
    }

    fn check(file: &Bytes) -> Result<(), String> {
        let builder = ParquetRecordBatchReaderBuilder::try_new(file.clone()).unwrap();
        let column = builder.metadata().row_group(0).column(0);
        let read = |part: Range<u64>| Ok(file.slice(part.start as usize..part.end as usize));
        check_pages(column, chunk(column).unwrap(), read)
    }

    fn variants() -> impl Iterator<Item = (Compression, WriterVersion, Encoding)> {
        let codecs =
            [Compression::UNCOMPRESSED, Compression::SNAPPY, Compression::ZSTD(ZstdLevel::default())].into_iter();
        codecs.flat_map(|codec| {
            [WriterVersion::PARQUET_1_0, WriterVersion::PARQUET_2_0].into_iter().flat_map(move |version| {
                [Encoding::DELTA_LENGTH_BYTE_ARRAY, Encoding::DELTA_BYTE_ARRAY]
                    .map(|encoding| (codec, version, encoding))
            })
        })
    }

    #[test]
    fn pages_with_lengths_pass_at_every_codec() {
        for (codec, version, encoding) in variants() {
            for has_dictionary in [false, true] {
                let file = written(codec, version, encoding, has_dictionary);
                check(&file).unwrap();
                let rows: usize = ParquetRecordBatchReaderBuilder::try_new(file)
                    .unwrap()
                    .build()
                    .unwrap()
                    .map(|batch| batch.unwrap().num_rows())
                    .sum();
                assert_eq!(rows, ROWS);
            }
        }
    }

    #[test]
    fn more_lengths_than_values_are_refused_before_they_are_allocated() {
        let varint = |mut value: u64| {
            let mut bytes = Vec::new();
            while value >= 0x80 {
                bytes.push(value as u8 | 0x80);
                value >>= 7;
            }
            bytes.push(value as u8);
            bytes
        };
        let sequence = |values: u64, width: u8| {
            let parts = [varint(128), varint(4), varint(values), vec![0], vec![0], vec![width; 4]];
            [parts.concat(), vec![0; 4 * 32 * usize::from(width) / 8]].concat()
        };
        for values in [101, 1 << 31, 1 << 40, u64::MAX] {
            let error = check_sequences(&sequence(values, 2), 1, 100).unwrap_err();
            assert_eq!(error, format!("expected lengths of at most 100 values, got {values}"));
            let second = [sequence(100, 3), sequence(values, 2)].concat();
            assert_eq!(check_sequences(&second, 2, 100).unwrap_err(), error);
            assert_eq!(check_sequences(&second, 1, 100), Ok(()));
        }
        assert_eq!(check_sequences(&[sequence(100, 3), sequence(100, 0)].concat(), 2, 100), Ok(()));
    }

    #[test]
    fn no_flipped_bit_of_a_page_makes_the_check_fail() {
        for (codec, version, encoding) in variants() {
            let file = written(codec, version, encoding, false);
            for bit in (4 * 8..200 * 8).step_by(3) {
                let mut damaged = file.to_vec();
                damaged[bit / 8] ^= 1 << (bit % 8);
                // It accepts or rejects the page, and never panics or allocates what the page claims.
                let _ = check(&damaged.into());
            }
        }
    }
}
