//! The stored form of bases and sketches: little-endian, with a version and a checksum.
//!
//! - Basis: `VXSB`, version, dim, components, form, rows left, the components, the matrix,
//!   checksum.
//! - Sketch: `VXSK`, version, the checksum of its basis, rows, codes, residual norms, norms,
//!   checksum.

use std::sync::Arc;

use super::basis::{Component, Left, SketchBasis};
use super::bound::DIM_MAX;
use super::{DIGITS_MAX, Sketch};
use crate::arch::codes::{CODE_PADDING, CodeForm};
use crate::error::{KernelError, Result};

const BASIS_MAGIC: [u8; 4] = *b"VXSB";
const SKETCH_MAGIC: [u8; 4] = *b"VXSK";

/// The version of both formats. Others are refused: a sketch is made again in less time than it is
/// worth to convert.
const VERSION: u32 = 1;

/// Detects damage, not malice: words are mixed by multiplication and rotation in four independent
/// lanes.
fn checksum(bytes: &[u8]) -> u64 {
    const FACTOR: u64 = 0x9E37_79B9_7F4A_7C15;
    let mix = |state: u64, word: u64| (state ^ word).wrapping_mul(FACTOR).rotate_left(29);
    let mut lanes = [1_u64, 2, 3, 4];
    let (blocks, rest) = bytes.as_chunks::<32>();
    for block in blocks {
        for (lane, word) in lanes.iter_mut().zip(block.as_chunks::<8>().0) {
            *lane = mix(*lane, u64::from_le_bytes(*word));
        }
    }
    let all = lanes.iter().fold(bytes.len() as u64, |all, lane| mix(all, *lane));
    let sum = rest.iter().fold(all, |all, byte| mix(all, u64::from(*byte)));
    mix(sum ^ (sum >> 31), FACTOR)
}

struct Writer(Vec<u8>);

impl Writer {
    fn new(magic: [u8; 4]) -> Self {
        let mut writer = Self(magic.to_vec());
        writer.put(&VERSION.to_le_bytes());
        writer
    }

    fn put(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    fn finish(mut self) -> Vec<u8> {
        let sum = checksum(&self.0);
        self.put(&sum.to_le_bytes());
        self.0
    }
}

struct Reader<'b>(&'b [u8]);

impl<'b> Reader<'b> {
    /// Checks the magic, the version and the checksum.
    fn new(bytes: &'b [u8], magic: [u8; 4]) -> Result<Self> {
        let Some((body, sum)) = bytes.split_last_chunk::<8>() else {
            return Err(unreadable("a header and a checksum", format!("{} bytes", bytes.len())));
        };
        let mut reader = Self(body);
        let got: [u8; 4] = reader.array()?;
        if got != magic {
            return Err(unreadable(format!("the mark {:?}", magic.escape_ascii().to_string()), format!("{got:?}")));
        }
        let version = u32::from_le_bytes(reader.array()?);
        if version != VERSION {
            return Err(unreadable(format!("version {VERSION}"), format!("version {version}")));
        }
        let (expected, got) = (u64::from_le_bytes(*sum), checksum(body));
        if expected != got {
            return Err(unreadable(format!("the checksum {expected:016x}"), format!("{got:016x}")));
        }
        Ok(reader)
    }

    fn take(&mut self, count: usize) -> Result<&'b [u8]> {
        let (taken, rest) = self
            .0
            .split_at_checked(count)
            .ok_or_else(|| unreadable(format!("{count} more bytes"), format!("{}", self.0.len())))?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    fn count(&mut self) -> Result<usize> {
        Ok(u32::from_le_bytes(self.array()?) as usize)
    }

    fn floats(&mut self, count: usize) -> Result<Vec<f32>> {
        let bytes = self.take(count.saturating_mul(4))?;
        Ok(bytes.as_chunks::<4>().0.iter().map(|x| f32::from_le_bytes(*x)).collect())
    }

    fn finish(self) -> Result<()> {
        match self.0.len() {
            0 => Ok(()),
            rest => Err(unreadable("the end", format!("{rest} more bytes"))),
        }
    }
}

fn unreadable(expected: impl Into<String>, got: impl Into<String>) -> KernelError {
    KernelError::UnreadableSketch { expected: expected.into(), got: got.into() }
}

impl SketchBasis {
    /// The basis as bytes, for [`Self::from_bytes`].
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut writer = Writer::new(BASIS_MAGIC);
        writer.put(&(self.dim as u32).to_le_bytes());
        writer.put(&(self.components.len() as u32).to_le_bytes());
        writer.put(&[match self.form {
            CodeForm::Nibbles => 0,
            CodeForm::Bytes => 1,
        }]);
        for x in [self.left.of_sample, self.left.sample_rows, self.left.growth] {
            writer.put(&x.to_le_bytes());
        }
        for component in &self.components {
            for x in [component.centre, component.step, component.weight] {
                writer.put(&x.to_le_bytes());
            }
            writer.put(&[component.digits]);
        }
        self.matrix.iter().for_each(|x| writer.put(&x.to_le_bytes()));
        writer.finish()
    }

    /// The basis that [`Self::to_bytes`] wrote. Its bounds are computed anew from what it holds.
    ///
    /// # Errors
    /// [`KernelError::UnreadableSketch`] for bytes of another format or version, and for damaged
    /// ones.
    pub fn from_bytes(bytes: &[u8]) -> Result<Arc<Self>> {
        let mut reader = Reader::new(bytes, BASIS_MAGIC)?;
        let (dim, count) = (reader.count()?, reader.count()?);
        let [form] = reader.array()?;
        let form = match form {
            0 => CodeForm::Nibbles,
            1 => CodeForm::Bytes,
            other => return Err(unreadable("form 0 or 1", other.to_string())),
        };
        let is_possible = (1..=DIM_MAX).contains(&dim) && (1..=dim).contains(&count);
        if !is_possible || (form == CodeForm::Bytes && count != dim) {
            return Err(unreadable("a basis of the vectors", format!("{count} of {dim} components")));
        }
        let mut double = || Ok::<_, KernelError>(f64::from_le_bytes(reader.array()?));
        let left = Left { of_sample: double()?, sample_rows: double()?, growth: double()? };
        let mut components = Vec::with_capacity(count);
        for _ in 0..count {
            let numbers = reader.floats(3)?;
            let [digits] = reader.array()?;
            let is_byte = form == CodeForm::Bytes;
            let has_digits = if is_byte { digits == 2 } else { (1..=DIGITS_MAX as u8).contains(&digits) };
            let is_sound = numbers.iter().all(|x| x.is_finite()) && numbers[1] > 0.0 && numbers[2] > 0.0;
            if !has_digits || !is_sound {
                return Err(unreadable("a component", format!("{numbers:?} with {digits} digits")));
            }
            components.push(Component { centre: numbers[0], step: numbers[1], weight: numbers[2], digits });
        }
        let matrix = reader.floats(if form == CodeForm::Bytes { 0 } else { dim * count })?;
        reader.finish()?;
        Ok(Arc::new(Self::assemble(dim, form, matrix, components, left)))
    }

    /// The checksum of bytes that are stored beside a basis. It detects damage, not malice.
    pub fn checksum(bytes: &[u8]) -> u64 {
        checksum(bytes)
    }

    /// Identifies the basis in the bytes of its sketches.
    fn identity(&self) -> u64 {
        checksum(&self.to_bytes())
    }
}

impl Sketch {
    /// The sketch as bytes, without its basis, for [`Self::from_bytes`].
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut writer = Writer::new(SKETCH_MAGIC);
        writer.put(&self.basis.identity().to_le_bytes());
        writer.put(&(self.rows as u32).to_le_bytes());
        writer.put(&self.codes[..self.rows * self.basis.stride]);
        self.residuals.iter().for_each(|x| writer.put(&x.to_le_bytes()));
        self.norms.iter().for_each(|x| writer.put(&x.to_le_bytes()));
        writer.finish()
    }

    /// The sketch that [`Self::to_bytes`] wrote.
    ///
    /// # Errors
    /// [`KernelError::UnreadableSketch`] for bytes of another format, version or basis, and for
    /// damaged ones.
    pub fn from_bytes(basis: &Arc<SketchBasis>, bytes: &[u8]) -> Result<Self> {
        let mut reader = Reader::new(bytes, SKETCH_MAGIC)?;
        let (expected, got) = (basis.identity(), u64::from_le_bytes(reader.array()?));
        if expected != got {
            return Err(unreadable(format!("a sketch of the basis {expected:016x}"), format!("{got:016x}")));
        }
        let rows = reader.count()?;
        let mut codes = reader.take(rows.saturating_mul(basis.stride))?.to_vec();
        codes.resize(codes.len() + CODE_PADDING, 0);
        let words = reader.take(rows.saturating_mul(4))?.as_chunks::<4>().0;
        let residuals = words.iter().map(|x| u32::from_le_bytes(*x)).collect();
        let norms = reader.floats(rows)?;
        reader.finish()?;
        Ok(Self { basis: Arc::clone(basis), rows, codes, residuals, norms })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::column::{ChunkedColumn, VectorColumn};
    use crate::tier::Tier;

    fn sketches() -> Vec<Sketch> {
        let floats: Vec<f32> = (0..40 * 300).map(|i| (i * 7919 % 1013) as f32 - 500.0).collect();
        let column = VectorColumn::of_floats(&floats, 40);
        let sketch = |tier| {
            let basis = SketchBasis::train(&ChunkedColumn::from(&column), tier).basis.unwrap();
            basis.encode(&column).unwrap()
        };
        vec![sketch(Tier::I8), sketch(Tier::Pca4)]
    }

    #[test]
    fn bytes_give_back_what_was_written() {
        for sketch in sketches() {
            let basis = SketchBasis::from_bytes(&sketch.basis().to_bytes()).unwrap();
            assert_eq!(&basis, sketch.basis());
            assert_eq!(Sketch::from_bytes(&basis, &sketch.to_bytes()).unwrap(), sketch);
        }
    }

    #[test]
    fn every_damaged_byte_and_every_cut_is_refused() {
        for sketch in sketches() {
            let (basis, bytes) = (sketch.basis().to_bytes(), sketch.to_bytes());
            for i in (0..basis.len()).step_by(3) {
                let mut damaged = basis.clone();
                damaged[i] ^= 1 << (i % 8);
                assert!(SketchBasis::from_bytes(&damaged).is_err(), "byte {i}");
                assert!(SketchBasis::from_bytes(&basis[..i]).is_err(), "cut at {i}");
            }
            for i in (0..bytes.len()).step_by(29) {
                let mut damaged = bytes.clone();
                damaged[i] ^= 1 << (i % 8);
                assert!(Sketch::from_bytes(sketch.basis(), &damaged).is_err(), "byte {i}");
                assert!(Sketch::from_bytes(sketch.basis(), &bytes[..i]).is_err(), "cut at {i}");
            }
        }
    }

    #[test]
    fn a_sketch_of_another_basis_is_refused_by_name() {
        let [bytes, nibbles]: [Sketch; 2] = sketches().try_into().unwrap();
        let message = Sketch::from_bytes(bytes.basis(), &nibbles.to_bytes()).unwrap_err().to_string();
        assert!(message.starts_with("unreadable sketch: expected a sketch of the basis"), "{message}");
        let message = SketchBasis::from_bytes(&nibbles.to_bytes()).unwrap_err().to_string();
        assert!(message.starts_with("unreadable sketch: expected the mark \"VXSB\""), "{message}");
    }
}
