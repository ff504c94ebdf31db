//! CRC_32 of MPEG-2 sections (ISO 13818-1, annex A).

/// The CRC_32 of `bytes`: 0 over a section that ends with its own checksum.
pub(crate) fn crc32(bytes: &[u8]) -> u32 {
    bytes.iter().fold(u32::MAX, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte) << 24, |crc, _| crc << 1 ^ if crc >> 31 == 1 { 0x04c1_1db7 } else { 0 })
    })
}
