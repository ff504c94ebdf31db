//! Readings of an input's clock: wrapped, in other units, and the time between them.

use std::time::Duration;

use super::time::{InputClock, Timescale};

/// Returns the value congruent to `raw` modulo 2^`clock.wrap_bits` that lies nearest to `near`.
pub(crate) fn unwrap(raw: u64, clock: InputClock, near: Option<i64>) -> i64 {
    if !(1..=62).contains(&clock.wrap_bits) {
        return i64::try_from(raw).unwrap_or(i64::MAX) >> 2;
    }
    let modulus = 1i64 << clock.wrap_bits;
    let raw = (raw & (modulus as u64 - 1)) as i64;
    let Some(near) = near else { return raw };
    let ahead = raw.wrapping_sub(near).rem_euclid(modulus);
    let step = if ahead > modulus / 2 { ahead - modulus } else { ahead };
    near.saturating_add(step)
}

/// Returns `ticks` of `from` in `to`, to the nearest.
pub(crate) fn rescale(ticks: i64, from: Timescale, to: Timescale) -> i64 {
    let (from, to) = (i128::from(from.hz()), i128::from(to.hz()));
    let ticks = (i128::from(ticks) * to + from / 2).div_euclid(from);
    i64::try_from(ticks).unwrap_or(if ticks < 0 { i64::MIN } else { i64::MAX })
}

/// Returns the time between two readings of the input clock; negative spans are zero.
pub(crate) fn span(from: i64, to: i64, clock: InputClock) -> Duration {
    clock.scale.duration(u64::try_from(to.saturating_sub(from)).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamps_unwrap_to_the_nearest() {
        let check = |raw: u64, bits: u32, near: Option<i64>, expect: i64| {
            let clock = InputClock { scale: Timescale::MILLIS, wrap_bits: bits };
            assert_eq!(unwrap(raw, clock, near), expect, "{raw} near {near:?}");
            assert_eq!(clock.wrapped(expect), raw & ((1 << bits) - 1), "{expect}");
        };
        check(5, 32, None, 5);
        check(5, 32, Some((1 << 32) - 10), (1 << 32) + 5);
        check((1 << 32) - 10, 32, Some(5), -10);
        check(7, 33, Some(3 << 33), (3 << 33) + 7);
        check(u64::MAX, 32, Some(0), -1);
        check(1, 24, Some((1 << 24) - 1), (1 << 24) + 1);
    }
}
