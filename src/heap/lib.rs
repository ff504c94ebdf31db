//! Free memory, given back to the system.
//!
//! glibc gives back what is free at a heap's end alone. After ten thousand connections have come and gone, something that
//! lives on lies behind what they had, and all of it stays with the process.

/// Gives all free memory back; whether there was any. Other threads that allocate wait for some milliseconds. With
/// another C library than glibc it does nothing.
pub fn give_back() -> bool {
    trim()
}

#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[expect(unsafe_code, reason = "no crate calls malloc_trim(3)")]
fn trim() -> bool {
    unsafe extern "C" {
        /// `int malloc_trim(size_t pad)`, thread-safe.
        safe fn malloc_trim(pad: usize) -> i32;
    }
    malloc_trim(0) == 1
}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
fn trim() -> bool {
    false
}

#[cfg(all(test, target_os = "linux", target_env = "gnu"))]
mod tests {
    #[test]
    fn what_is_free_behind_what_lives_is_given_back() {
        let resident = || {
            let status = std::fs::read_to_string("/proc/self/status").expect("Linux has it");
            let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("VmRSS is there");
            line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number")
        };
        let crowd: Vec<_> = (0..10_000).map(|_| vec![1_u8; 7_000]).collect();
        let _lives = vec![1_u8; 7_000];
        let full = resident();
        drop(crowd);
        assert!(super::give_back());
        assert!(resident() < full - 50_000, "{full} KiB became {}", resident());
    }
}
