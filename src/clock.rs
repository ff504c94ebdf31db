//! The clocks of the process. Only this module reads them.
//!
//! For tests alone: `DAMSON_TEST_CLOCK_OFFSET=-2.5` sets both clocks of the process back by 2.5 s, so that nodes on one
//! machine can have different clocks. It isn't a setting of a node.

use std::sync::LazyLock;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use damson_core::model::time::{Time, UnixTime};

static START: LazyLock<Instant> = LazyLock::new(|| {
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the monotonic clock")]
    Instant::now()
});

/// The offset of both clocks, in microseconds.
static TEST_OFFSET: LazyLock<i64> = LazyLock::new(|| {
    let seconds = std::env::var("DAMSON_TEST_CLOCK_OFFSET").ok().and_then(|text| text.parse::<f64>().ok());
    seconds.map_or(0, |seconds| (seconds.clamp(-3_600.0, 3_600.0) * 1e6) as i64)
});

/// The monotonic clock at the start of the process, in microseconds: above zero if the clock is set back.
static AT_START: LazyLock<u64> = LazyLock::new(|| match *TEST_OFFSET {
    0 => 0,
    offset => 3_600_000_000_u64.saturating_add_signed(offset),
});

/// Returns the time of this process's monotonic clock.
pub fn now() -> Time {
    at(
        #[expect(clippy::disallowed_methods, reason = "the one place that reads the monotonic clock")]
        Instant::now(),
    )
}

/// Returns `instant` on the process's monotonic clock.
pub fn at(instant: Instant) -> Time {
    let micros = instant.saturating_duration_since(*START).as_micros();
    Time::from_micros(u64::try_from(micros).unwrap_or(u64::MAX).saturating_add(*AT_START))
}

/// Returns the instant of `time`, for timers.
pub fn instant(time: Time) -> Instant {
    // A century is enough for any timer, and never overflows.
    let century = 100 * 365 * 86_400 * 1_000_000;
    *START + std::time::Duration::from_micros(time.as_micros().saturating_sub(*AT_START).min(century))
}

/// Returns the present time of Tokio's timers: that of the same clock, unless a test pauses it.
pub fn timers() -> tokio::time::Instant {
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the clock of the timers")]
    tokio::time::Instant::now()
}

/// A timer that is often set to a later time, which costs almost nothing: the runtime moves it when it would have been due.
#[derive(Debug, Default)]
pub struct Alarm(Option<std::pin::Pin<Box<tokio::time::Sleep>>>);

impl Alarm {
    /// Waits until `due`; for ever without it.
    pub async fn until(&mut self, due: Option<Time>) {
        let Some(due) = due else { return std::future::pending().await };
        let due = instant(due).into();
        let timer = self.0.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(due)));
        if timer.deadline() != due {
            timer.as_mut().reset(due);
        }
        timer.as_mut().await;
    }
}

/// Returns the time of this machine's wallclock.
pub fn wall() -> UnixTime {
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the wallclock")]
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let micros = u64::try_from(since_epoch.as_micros()).unwrap_or(u64::MAX);
    UnixTime::from_micros(micros.saturating_add_signed(*TEST_OFFSET))
}

/// Returns the wallclock time of a past monotonic time.
pub fn wall_of(time: Time) -> UnixTime {
    let ago = u64::try_from(now().since(time).as_micros()).unwrap_or(u64::MAX);
    UnixTime::from_micros(wall().as_micros().saturating_sub(ago))
}
