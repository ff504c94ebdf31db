//! The one place that reads the clocks.
//!
//! For tests alone: `DAMSON_TEST_CLOCK_OFFSET=-2.5` sets both clocks of the process back by 2.5 s, so that nodes on one
//! machine, whose clocks are one, can be set apart. It is no setting of a node's.

use std::sync::LazyLock;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use damson_core::model::time::{Time, UnixTime};

static START: LazyLock<Instant> = LazyLock::new(|| {
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the monotonic clock")]
    Instant::now()
});

/// By how much both clocks are set ahead, in microseconds.
static TEST_OFFSET: LazyLock<i64> = LazyLock::new(|| {
    let seconds = std::env::var("DAMSON_TEST_CLOCK_OFFSET").ok().and_then(|text| text.parse::<f64>().ok());
    seconds.map_or(0, |seconds| (seconds.clamp(-3_600.0, 3_600.0) * 1e6) as i64)
});

/// The monotonic clock at the process's start, in microseconds: room to be set back.
static AT_START: LazyLock<u64> = LazyLock::new(|| match *TEST_OFFSET {
    0 => 0,
    offset => 3_600_000_000_u64.saturating_add_signed(offset),
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
    Time::from_micros(u64::try_from(micros).unwrap_or(u64::MAX).saturating_add(*AT_START))
}

/// The instant of `time`, for timers.
pub fn instant(time: Time) -> Instant {
    // A century is far enough for any timer, and never overflows.
    let century = 100 * 365 * 86_400 * 1_000_000;
    *START + std::time::Duration::from_micros(time.as_micros().saturating_sub(*AT_START).min(century))
}

/// Now, as Tokio's timers see it: the same clock, but for tests that let it stand still.
pub fn timers() -> tokio::time::Instant {
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the clock of the timers")]
    tokio::time::Instant::now()
}

/// A timer that is set anew with each thing that comes. Set later than it was, it costs next to nothing: the runtime moves it
/// when it would have been due.
#[derive(Debug, Default)]
pub struct Alarm(Option<std::pin::Pin<Box<tokio::time::Sleep>>>);

impl Alarm {
    /// Waits until then, if there is a then.
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

/// This machine's wallclock.
pub fn wall() -> UnixTime {
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the wallclock")]
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let micros = u64::try_from(since_epoch.as_micros()).unwrap_or(u64::MAX);
    UnixTime::from_micros(micros.saturating_add_signed(*TEST_OFFSET))
}

/// What this machine's wallclock showed at a moment of the past.
pub fn wall_of(time: Time) -> UnixTime {
    let ago = u64::try_from(now().since(time).as_micros()).unwrap_or(u64::MAX);
    UnixTime::from_micros(wall().as_micros().saturating_sub(ago))
}
