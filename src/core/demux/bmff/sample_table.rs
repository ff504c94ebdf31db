//! `stbl` (ISO 14496-12, 8.5.1): the places of a plain file's samples, read as they are needed.

use bytes::Bytes;

use super::boxes::Cursor;
use super::error::BmffError;
use super::place::SamplePlace;

/// The tables, as bytes of the file.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct SampleTable {
    /// count:32 delta:32.
    durations: Bytes,
    /// count:32 offset:32.
    offsets: Bytes,
    /// first_chunk:32 samples_per_chunk:32 description:32.
    chunks: Bytes,
    /// Offsets of 32 bits each, or of 64.
    chunk_offsets: Bytes,
    wide: bool,
    /// Sizes of 32 bits each, unless all samples have `size`.
    sizes: Bytes,
    size: u32,
    count: u32,
    /// The numbers of the random access points, 32 bits each; `None` if each sample is one.
    sync: Option<Bytes>,
}

impl SampleTable {
    /// Keeps the tables of an `stbl` that lies in `moov`.
    pub(super) fn read(stbl: Cursor<'_>, moov: &Bytes) -> Result<SampleTable, BmffError> {
        // Returns the rows of a table, which follow their count.
        let rows = |kind: &[u8; 4], row: usize| -> Result<Option<Bytes>, BmffError> {
            let Some(mut table) = stbl.find(kind)? else { return Ok(None) };
            table.full()?;
            let len = usize::try_from(table.u32()?).unwrap_or(usize::MAX).saturating_mul(row);
            Ok(Some(moov.slice_ref(table.take(len)?)))
        };
        let (mut sizes, mut size, mut count) = (Bytes::new(), 0, 0);
        if let Some(mut stsz) = stbl.find(b"stsz")? {
            stsz.full()?;
            size = stsz.u32()?;
            count = stsz.u32()?;
            if size == 0 {
                sizes = moov.slice_ref(stsz.take(usize::try_from(count).unwrap_or(usize::MAX).saturating_mul(4))?);
            }
        }
        let wide = stbl.find(b"co64")?.is_some();
        Ok(SampleTable {
            durations: rows(b"stts", 8)?.unwrap_or_default(),
            offsets: rows(b"ctts", 8)?.unwrap_or_default(),
            chunks: rows(b"stsc", 12)?.unwrap_or_default(),
            chunk_offsets: if wide { rows(b"co64", 8)? } else { rows(b"stco", 4)? }.unwrap_or_default(),
            wide,
            sizes,
            size,
            count,
            sync: rows(b"stss", 4)?,
        })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.count == 0
    }
}

/// A track's samples, in decoding order.
#[derive(Clone, Debug, Default)]
pub struct Samples {
    table: SampleTable,
    /// The index of the next sample.
    index: u32,
    dts: i64,
    /// The position of the next sample, unless it begins a chunk.
    at: u64,
    /// The samples left in its chunk, and the index of the next chunk.
    left: u32,
    chunk: u32,
    /// The places in the other tables.
    durations: Run,
    offsets: Run,
    chunk_row: usize,
    sync_row: usize,
}

/// A place in a table of runs: the row, and how many samples have used it.
#[derive(Clone, Copy, Debug, Default)]
struct Run {
    row: usize,
    used: u32,
}

impl Run {
    /// Returns the next sample's value; 0 behind the table's end.
    fn next(&mut self, rows: &Bytes) -> u32 {
        while let Some([count, value]) = pair(rows, self.row) {
            if self.used < count {
                self.used += 1;
                return value;
            }
            (self.row, self.used) = (self.row + 1, 0);
        }
        0
    }
}

fn word(table: &Bytes, index: usize) -> Option<u32> {
    table.get(index.checked_mul(4)?..)?.first_chunk::<4>().map(|word| u32::from_be_bytes(*word))
}

fn pair(table: &Bytes, row: usize) -> Option<[u32; 2]> {
    Some([word(table, row * 2)?, word(table, row * 2 + 1)?])
}

impl Samples {
    /// Returns the samples of these tables. The first is decoded at time `shift`, in ticks.
    pub(super) fn new(table: &SampleTable, shift: i64) -> Samples {
        Samples { table: table.clone(), dts: shift, ..Samples::default() }
    }

    /// Returns the number of samples that are still to come. The tables count them, and may hold fewer.
    pub(super) fn left(&self) -> usize {
        usize::try_from(self.table.count - self.index).unwrap_or(usize::MAX)
    }

    /// Goes to the next chunk.
    fn open(&mut self) -> Option<()> {
        // "first_chunk gives the index of the first chunk in this run" (8.7.4.3), from 1.
        while word(&self.table.chunks, (self.chunk_row + 1) * 3).is_some_and(|first| first <= self.chunk + 1) {
            self.chunk_row += 1;
        }
        self.left = word(&self.table.chunks, self.chunk_row * 3 + 1)?;
        let index = usize::try_from(self.chunk).ok()?;
        self.at = match self.table.wide {
            true => pair(&self.table.chunk_offsets, index).map(|[high, low]| u64::from(high) << 32 | u64::from(low))?,
            false => word(&self.table.chunk_offsets, index)?.into(),
        };
        self.chunk += 1;
        Some(())
    }
}

impl Iterator for Samples {
    type Item = SamplePlace;

    fn next(&mut self) -> Option<SamplePlace> {
        if self.index >= self.table.count {
            return None;
        }
        while self.left == 0 {
            self.open()?;
        }
        let index = usize::try_from(self.index).ok()?;
        let len = if self.table.size != 0 { self.table.size } else { word(&self.table.sizes, index)? };
        let duration = self.durations.next(&self.table.durations);
        let keyframe = match &self.table.sync {
            None => true,
            Some(sync) => {
                while word(sync, self.sync_row).is_some_and(|number| number < self.index + 1) {
                    self.sync_row += 1;
                }
                word(sync, self.sync_row) == Some(self.index + 1)
            }
        };
        let place = SamplePlace {
            offset: self.at,
            len,
            dts: self.dts,
            duration,
            // Unsigned in version 0 (8.6.1.3), but some muxers write signed offsets. None is as long as 2^31 ticks.
            composition_offset: self.offsets.next(&self.table.offsets).cast_signed(),
            keyframe,
        };
        (self.index, self.left) = (self.index + 1, self.left - 1);
        self.at = self.at.saturating_add(len.into());
        self.dts = self.dts.saturating_add(duration.into());
        Some(place)
    }
}
