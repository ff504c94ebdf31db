//! The one failure for which a machine without time may be at fault.

use std::panic::panic_any;

/// Something hasn't come in time. Nothing else is a reason to run a test again, or to skip it.
#[derive(Debug)]
pub(crate) struct Deadline;

/// Fails, since something hasn't come in time.
pub(crate) fn too_late(what: String) -> ! {
    eprintln!("too late: {what}");
    panic_any(Deadline)
}

/// Checks what holds unless a process, or what it waits for, had no time.
#[track_caller]
pub(crate) fn in_time(holds: bool, what: impl FnOnce() -> String) {
    if !holds {
        too_late(format!("{}: {}", std::panic::Location::caller(), what()));
    }
}
