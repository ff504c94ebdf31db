//! The delay of a link: fixed for each pair of nodes by the seed, and the same both ways.

use std::time::Duration;

use serde::Deserialize;

use crate::units::{micros, millis, millis_from_to};

/// A model of link delays, one way.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub enum Latency {
    /// Every pair has the same delay.
    #[serde(rename = "constant-ms", deserialize_with = "millis")]
    Constant(Duration),
    /// Each pair draws its delay, uniform between two bounds.
    #[serde(rename = "uniform-ms", deserialize_with = "millis_from_to")]
    Uniform(Duration, Duration),
    /// Nodes live in or near the world's larger cities. Light in fibre takes the great circle, and half as much again
    /// for the detours of real cables.
    #[serde(rename = "world-last-mile-ms", deserialize_with = "millis")]
    World {
        /// Added at each end of a link.
        last_mile: Duration,
    },
}

/// Cities with data centres: latitude and longitude in degrees, and a weight in nodes.
const CITIES: [(f64, f64, u64); 16] = [
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
    /// Returns the delay between two nodes, in microseconds.
    pub fn between_us(&self, seed: u64, a: u32, b: u32) -> u64 {
        match *self {
            Latency::Constant(delay) => micros(delay),
            Latency::Uniform(from, to) => {
                let (from, to) = (micros(from), micros(to));
                let pair = u64::from(a.min(b)) << 32 | u64::from(a.max(b));
                from + mix(seed ^ mix(pair)) % (to.saturating_sub(from) + 1)
            }
            Latency::World { last_mile } => {
                // In whole microseconds, so that a platform's last bit doesn't matter.
                let light = distance_km(place(seed, a), place(seed, b)) / KM_PER_US;
                2 * micros(last_mile) + light.round() as u64
            }
        }
    }
}

/// Returns the latitude and longitude of a node: within 100 km of one of the cities.
fn place(seed: u64, node: u32) -> (f64, f64) {
    let dice = mix(seed ^ mix(u64::from(node) | 1 << 40));
    let mut left = dice % CITIES.iter().map(|(_, _, weight)| weight).sum::<u64>();
    let mut cities = CITIES.iter();
    let home = cities.find(|(_, _, weight)| {
        let here = left < *weight;
        left = left.saturating_sub(*weight);
        here
    });
    let (latitude, longitude, _) = home.copied().unwrap_or(CITIES[0]);
    let spread = |bits: u64| (bits % 2_001) as f64 / 1_000.0 - 1.0;
    (latitude + spread(dice >> 20), longitude + spread(dice >> 40))
}

/// Returns the length of the great circle between two places (haversine).
fn distance_km(a: (f64, f64), b: (f64, f64)) -> f64 {
    let (lat_a, lat_b) = (a.0.to_radians(), b.0.to_radians());
    let (d_lat, d_lon) = (lat_b - lat_a, (b.1 - a.1).to_radians());
    let h = (d_lat / 2.0).sin().powi(2) + lat_a.cos() * lat_b.cos() * (d_lon / 2.0).sin().powi(2);
    2.0 * EARTH_RADIUS_KM * h.sqrt().min(1.0).asin()
}

/// Mixes 64 bits (splitmix64).
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
