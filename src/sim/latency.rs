//! How long a frame takes from one node to another: fixed for each pair by the seed, the same both ways.

use std::sync::Arc;
use std::time::Duration;

/// A model of link delays, one way.
#[derive(Debug, Clone, PartialEq)]
pub enum Latency {
    /// The same everywhere.
    Constant(Duration),
    /// Uniform between two bounds, a draw for each pair.
    Uniform(Duration, Duration),
    /// Nodes live in the world's larger cities, and near them; light in fibre takes the great circle,
    /// and half as much again for the detours of real cables.
    World {
        /// Added at each end: the last mile.
        last_mile: Duration,
    },
    /// The same with places of one's own.
    Regions {
        /// Where nodes live.
        places: Arc<[Place]>,
        /// Added at each end: the last mile.
        last_mile: Duration,
    },
}

/// A place where nodes live, and near it: latitude and longitude in degrees, and a weight in nodes.
pub type Place = (f64, f64, u32);

/// Cities with data centres.
const CITIES: [Place; 16] = [
    (39.0, -77.5, 14), // Ashburn
    (37.4, -122.0, 9), // San Jose
    (45.6, -121.2, 5), // The Dalles
    (32.8, -96.8, 6),  // Dallas
    (50.1, 8.7, 12),   // Frankfurt
    (51.5, -0.1, 10),  // London
    (48.9, 2.4, 6),    // Paris
    (59.3, 18.1, 3),   // Stockholm
    (40.4, -3.7, 3),   // Madrid
    (1.35, 103.8, 7),  // Singapore
    (35.7, 139.7, 8),  // Tokyo
    (19.1, 72.9, 6),   // Mumbai
    (-33.9, 151.2, 4), // Sydney
    (-23.5, -46.6, 4), // São Paulo
    (-26.2, 28.0, 2),  // Johannesburg
    (25.2, 55.3, 1),   // Dubai
];

const EARTH_RADIUS_KM: f64 = 6_371.0;
/// Light in fibre, in km per microsecond, over the detour factor of 1.5.
const KM_PER_US: f64 = 0.2 / 1.5;

impl Latency {
    /// The delay between two nodes, in microseconds.
    pub fn between_us(&self, seed: u64, a: u32, b: u32) -> u64 {
        let micros = |d: &Duration| u64::try_from(d.as_micros()).unwrap_or(u64::MAX);
        match self {
            Latency::Constant(delay) => micros(delay),
            Latency::Uniform(from, to) => {
                let (from, to) = (micros(from), micros(to));
                let pair = u64::from(a.min(b)) << 32 | u64::from(a.max(b));
                from + mix(seed ^ mix(pair)) % (to.saturating_sub(from) + 1)
            }
            Latency::World { last_mile } => 2 * micros(last_mile) + way_us(&CITIES, seed, a, b),
            Latency::Regions { places, last_mile } => 2 * micros(last_mile) + way_us(places, seed, a, b),
        }
    }
}

/// How long light takes between two nodes. In whole microseconds, so that a platform's last bit doesn't matter.
fn way_us(places: &[Place], seed: u64, a: u32, b: u32) -> u64 {
    let km = distance_km(place(places, seed, a), place(places, seed, b));
    (km / KM_PER_US).round() as u64
}

/// Where a node lives, in degrees: within 100 km of one of the places.
fn place(places: &[Place], seed: u64, node: u32) -> (f64, f64) {
    let dice = mix(seed ^ mix(u64::from(node) | 1 << 40));
    let total: u64 = places.iter().map(|place| u64::from(place.2)).sum();
    let mut left = dice % total.max(1);
    let mut home = places.first().copied().unwrap_or((0.0, 0.0, 1));
    for place in places {
        if left < u64::from(place.2) {
            home = *place;
            break;
        }
        left -= u64::from(place.2);
    }
    let spread = |bits: u64| (bits % 2_001) as f64 / 1_000.0 - 1.0;
    (home.0 + spread(dice >> 20), home.1 + spread(dice >> 40))
}

/// The great circle between two places (haversine).
fn distance_km(a: (f64, f64), b: (f64, f64)) -> f64 {
    let (lat_a, lat_b) = (a.0.to_radians(), b.0.to_radians());
    let (d_lat, d_lon) = (lat_b - lat_a, (b.1 - a.1).to_radians());
    let h = (d_lat / 2.0).sin().powi(2) + lat_a.cos() * lat_b.cos() * (d_lon / 2.0).sin().powi(2);
    2.0 * EARTH_RADIUS_KM * h.sqrt().min(1.0).asin()
}

/// A good mixing of 64 bits (splitmix64).
pub(super) fn mix(value: u64) -> u64 {
    let mut z = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ z >> 31
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_are_symmetric_and_within_bounds() {
        let uniform = Latency::Uniform(Duration::from_millis(5), Duration::from_millis(50));
        let world = Latency::World { last_mile: Duration::from_millis(2) };
        for (a, b) in [(0, 1), (7, 3), (100, 9_999)] {
            let us = uniform.between_us(1, a, b);
            assert!((5_000..=50_000).contains(&us), "{us}");
            assert_eq!(us, uniform.between_us(1, b, a));
            let us = world.between_us(1, a, b);
            assert!((4_000..=160_000).contains(&us), "{us}");
            assert_eq!(us, world.between_us(1, b, a));
        }
    }

    #[test]
    fn the_world_is_as_large_as_it_is() {
        let km = distance_km((51.5, -0.1), (40.7, -74.0)); // London, New York
        assert!((5_500.0..5_650.0).contains(&km), "{km}");
    }
}
