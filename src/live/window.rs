//! The newest segments of one stream, in order, with their gaps.
