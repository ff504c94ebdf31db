//! A bad network for datagrams: what it loses is decided by a seed and their count alone.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

/// Which datagrams are lost.
#[derive(Clone, Copy)]
pub(crate) enum Loss {
    /// So many of a hundred, either way.
    Percent(u64),
    /// The one of this number on the way there.
    One(u64),
}

impl Loss {
    fn takes(self, n: u64, back: bool) -> bool {
        match self {
            // Fibonacci hashing: evenly spread, and the same in each run.
            Loss::Percent(percent) => {
                let n = n * 2 + u64::from(back) + 1;
                (n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) % 100 < percent
            }
            Loss::One(number) => !back && n == number,
        }
    }
}

/// Between a sender and its receiver, until it is dropped.
pub(crate) struct Lossy {
    /// Where the sender sends to.
    pub(crate) addr: SocketAddr,
    lost: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

#[expect(clippy::disallowed_methods, reason = "a plain socket is what the world outside has")]
fn socket() -> UdpSocket {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    socket.set_read_timeout(Some(Duration::from_millis(50))).expect("a timeout");
    socket
}

impl Lossy {
    pub(crate) fn start(to: SocketAddr, loss: Loss) -> Lossy {
        let (near, far) = (socket(), socket());
        far.connect(to).expect("an address of loopback");
        let addr = near.local_addr().expect("bound");
        let (stop, lost) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let caller = Arc::<Mutex<Option<SocketAddr>>>::default();
        let clone = |socket: &UdpSocket| socket.try_clone().expect("a descriptor");
        let mut threads = Vec::new();
        for back in [false, true] {
            let (near, far, caller) = (clone(&near), clone(&far), Arc::clone(&caller));
            let (stop, lost) = (Arc::clone(&stop), Arc::clone(&lost));
            threads.push(std::thread::spawn(move || {
                let mut bytes = vec![0; 65_536];
                let mut n = 0;
                while !stop.load(Ordering::Relaxed) {
                    let received =
                        if back { far.recv(&mut bytes).map(|len| (len, addr)) } else { near.recv_from(&mut bytes) };
                    let Ok((len, from)) = received else { continue };
                    if !back {
                        *caller.lock().expect("no thread panics") = Some(from);
                    }
                    n += 1;
                    if loss.takes(n, back) {
                        lost.fetch_add(1, Ordering::Relaxed);
                        continue;
                    }
                    // Who has gone takes no more.
                    let _ = match (back, *caller.lock().expect("no thread panics")) {
                        (false, _) => far.send(&bytes[..len]),
                        (true, Some(caller)) => near.send_to(&bytes[..len], caller),
                        (true, None) => Ok(0),
                    };
                }
            }));
        }
        Lossy { addr, lost, stop, threads }
    }

    /// Datagrams lost so far, both ways.
    pub(crate) fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }
}

impl Drop for Lossy {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}
