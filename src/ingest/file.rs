//! The film of an .mp4 file, looped (pure).
