//! HTTP: playlists, MPD, parts and segments, from what the node holds.
