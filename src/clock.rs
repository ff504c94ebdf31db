//! The one place that reads the clocks.

use std::sync::LazyLock;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use crate::units::{Time, UnixTime};

static START: LazyLock<Instant> = LazyLock::new(|| {
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the monotonic clock")]
    Instant::now()
});

/// This process's monotonic clock.
pub fn now() -> Time {
    at(
        #[expect(clippy::disallowed_methods, reason = "the one place that reads the monotonic clock")]
        Instant::now(),
    )
}

/// `instant` on the process's monotonic clock.
pub fn at(instant: Instant) -> Time {
    let micros = instant.saturating_duration_since(*START).as_micros();
    Time::from_micros(u64::try_from(micros).unwrap_or(u64::MAX))
}

/// The instant of `time`, for timers.
pub fn instant(time: Time) -> Instant {
    // A century is far enough for any timer, and never overflows.
    let century = 100 * 365 * 86_400 * 1_000_000;
    *START + std::time::Duration::from_micros(time.as_micros().min(century))
}

/// Now, as Tokio's timers see it: the same clock, but for tests that let it stand still.
#[cfg(feature = "node")]
pub fn timers() -> tokio::time::Instant {
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the clock of the timers")]
    tokio::time::Instant::now()
}

/// This machine's wallclock.
pub fn wall() -> UnixTime {
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the wallclock")]
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    UnixTime::from_micros(u64::try_from(since_epoch.as_micros()).unwrap_or(u64::MAX))
}

/// What this machine's wallclock showed at a moment of the past.
pub fn wall_of(time: Time) -> UnixTime {
    let ago = u64::try_from(now().since(time).as_micros()).unwrap_or(u64::MAX);
    UnixTime::from_micros(wall().as_micros().saturating_sub(ago))
}
