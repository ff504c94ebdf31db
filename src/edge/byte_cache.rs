//! A cache that is bounded in bytes.
//!
//! It holds segments that have left the window: rfc8216bis 6.2.2 wants a removed segment to stay available for its own
//! duration and that of the longest playlist that listed it. The `lru` crate orders the entries, and a counter bounds
//! their bytes.

use std::hash::Hash;

use lru::LruCache;

/// An LRU cache of values with a size in bytes.
#[derive(Debug)]
pub(crate) struct ByteCache<K: Hash + Eq, V> {
    entries: LruCache<K, (V, u64)>,
    bytes: u64,
    bytes_max: u64,
}

impl<K: Hash + Eq, V> ByteCache<K, V> {
    /// Makes an empty cache of at most `bytes_max` bytes.
    pub(crate) fn new(bytes_max: u64) -> Self {
        ByteCache { entries: LruCache::unbounded(), bytes: 0, bytes_max }
    }

    /// Puts in a value of `bytes` bytes, and drops the least recently used ones until all fit. A value larger than the
    /// whole cache isn't kept.
    pub(crate) fn put(&mut self, key: K, value: V, bytes: u64) {
        if let Some((_, old)) = self.entries.put(key, (value, bytes)) {
            self.bytes -= old;
        }
        self.bytes += bytes;
        while self.bytes > self.bytes_max {
            let Some((_, (_, dropped))) = self.entries.pop_lru() else { break };
            self.bytes -= dropped;
        }
    }

    /// Returns the value of `key`, which becomes the most recently used.
    pub(crate) fn get(&mut self, key: &K) -> Option<&V> {
        self.entries.get(key).map(|(value, _)| value)
    }

    /// Removes `key`.
    pub(crate) fn remove(&mut self, key: &K) {
        if let Some((_, bytes)) = self.entries.pop(key) {
            self.bytes -= bytes;
        }
    }

    /// Returns the bytes of all values.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_holds_no_more_bytes_than_it_may() {
        let mut cache = ByteCache::new(100);
        cache.put("a", 1, 40);
        cache.put("b", 2, 40);
        assert_eq!(cache.get(&"a"), Some(&1));
        cache.put("c", 3, 40);
        assert_eq!(["a", "b", "c"].map(|key| cache.get(&key).copied()), [Some(1), None, Some(3)]);
        assert_eq!(cache.bytes(), 80);
        cache.put("a", 4, 10);
        assert_eq!((cache.get(&"a").copied(), cache.bytes()), (Some(4), 50));
        cache.remove(&"c");
        cache.remove(&"c");
        assert_eq!((cache.get(&"c").copied(), cache.bytes()), (None, 10));
        cache.put("d", 5, 101);
        assert_eq!((cache.get(&"d").copied(), cache.bytes()), (None, 0));
    }
}
