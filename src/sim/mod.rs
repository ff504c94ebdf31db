//! The deterministic network that tests and bench drive the cores with.
