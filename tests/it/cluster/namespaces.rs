//! Five nodes in a line, each in a network namespace of its own, with clocks set apart and known delays between them.
//!
//! The kernel's `netem` isn't everywhere, so a proxy in this process delays each packet: node i + 1 dials its end of a
//! link, and what comes out of the other goes to node i. It knows what it did to each packet: that is the truth.

use std::cell::Cell;
use std::collections::{BTreeMap, VecDeque};
use std::net::{SocketAddr, UdpSocket};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::RecvTimeoutError;
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use damson::clock;
use damson_core::model::time::Time;
use serde_json::Value;

use super::deadline::in_time;
use super::machine::{skip, unless_starved};
use super::push::{Pace, film, push};
use super::trace::{LOOK, ages, gather};
use super::{Cluster, Node, PATIENCE, check_logs, damson, process::until, text};

/// What each node's clocks are set ahead by, in seconds.
const AHEAD: [f64; 5] = [0.0, 3.0, -3.0, 1.5, -2.0];

/// The delay of each link each way in ms, before and after it changes.
const DELAYS: [[u64; 2]; 4] = [[5, 20], [20, 5], [80, 80], [5, 80]];

/// After the delays have changed, all is right again within this.
const AGAIN_WITHIN: Duration = Duration::from_secs(10);

/// So many parts of the newest make a median: two seconds of two tracks.
const NEWEST: usize = 20;

/// How often is looked at most.
const LOOKS: usize = 6;

/// The most that a packet is delayed beyond that.
const JITTER: Duration = Duration::from_millis(1);

/// A namespace, and its link with ours. Dropped, both are gone.
struct Namespace {
    name: String,
    ours: String,
    theirs: String,
}

/// Why there can't be one.
type Refused = String;

fn ip(args: &[&str]) -> Result<(), Refused> {
    let output = Command::new("ip").args(args).stdin(Stdio::null()).output().map_err(|e| format!("ip: {e}"))?;
    let said = || format!("ip {}: {}", args.join(" "), String::from_utf8_lossy(&output.stderr).trim());
    if output.status.success() { Ok(()) } else { Err(said()) }
}

impl Namespace {
    fn new() -> Result<Self, Refused> {
        // The kernel takes a device away some time after its namespace: a second try needs other names.
        static MADE: AtomicU64 = AtomicU64::new(0);
        let n = MADE.fetch_add(1, Relaxed);
        let pid = std::process::id();
        let (name, device) = (format!("damson-{pid}-{n}"), format!("dm{}n{n}", pid % 1_000_000));
        let (ours, theirs) = (format!("10.{}.{n}.1", 64 + pid % 128), format!("10.{}.{n}.2", 64 + pid % 128));
        ip(&["netns", "add", &name])?;
        // From here on it is taken away again.
        let namespace = Namespace { name, ours, theirs };
        let name = &namespace.name;
        ip(&["link", "add", &device, "type", "veth", "peer", "name", "eth0", "netns", name])?;
        ip(&["addr", "add", &format!("{}/24", namespace.ours), "dev", &device])?;
        ip(&["link", "set", &device, "up"])?;
        ip(&["-n", name, "addr", "add", &format!("{}/24", namespace.theirs), "dev", "eth0"])?;
        ip(&["-n", name, "link", "set", "eth0", "up"])?;
        ip(&["-n", name, "link", "set", "lo", "up"])?;
        Ok(namespace)
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = ip(&["netns", "del", &self.name]);
    }
}

/// What delays the packets of one link. Dropped, it ends.
struct Delay {
    micros: Arc<AtomicU64>,
    /// What each packet from the first node to the second was delayed by in truth, in microseconds.
    truth: Arc<Mutex<Vec<i64>>>,
    /// Where the second node dials.
    dialled: SocketAddr,
    over: Arc<AtomicBool>,
}

impl Drop for Delay {
    fn drop(&mut self) {
        self.over.store(true, Relaxed);
    }
}

#[expect(clippy::disallowed_methods, reason = "a proxy of threads, which wait for nothing but packets")]
fn bind(to: &str) -> UdpSocket {
    let socket = UdpSocket::bind((to, 0)).expect("an address of ours");
    // So that its thread sees the end.
    socket.set_read_timeout(Some(Duration::from_millis(200))).expect("a socket");
    socket
}

impl Delay {
    fn start(first: &Namespace, node: SocketAddr, second: &Namespace, ms: u64) -> Delay {
        let (near, far) = (Arc::new(bind(&first.ours)), Arc::new(bind(&second.ours)));
        let dialled = far.local_addr().expect("bound");
        let delay = Delay { micros: Arc::default(), truth: Arc::default(), dialled, over: Arc::default() };
        delay.set(ms);
        let dialler = Arc::new(Mutex::new(None));
        // Both ways alike; of the way there, that of the parts, the truth is kept.
        let truth = Some(Arc::clone(&delay.truth));
        delay.way(Arc::clone(&near), Arc::clone(&far), Arc::clone(&dialler), truth, 1);
        delay.way(far, near, Arc::new(Mutex::new(Some(node))), None, 2).learns(dialler);
        delay
    }

    fn set(&self, ms: u64) {
        self.micros.store(ms * 1_000, Relaxed);
    }

    /// Two threads, so that a packet that waits holds up none that comes.
    fn way(
        &self,
        from: Arc<UdpSocket>,
        into: Arc<UdpSocket>,
        to: Sender,
        truth: Option<Arc<Mutex<Vec<i64>>>>,
        seed: u64,
    ) -> Way {
        let (queue, waiting) = mpsc::channel::<(Time, Time, Vec<u8>)>();
        let (micros, over) = (Arc::clone(&self.micros), Arc::clone(&self.over));
        let learned: Arc<Mutex<Option<Sender>>> = Arc::default();
        let way = Way(Arc::clone(&learned));
        std::thread::spawn(move || {
            let (mut chance, mut bytes) = (seed, [0; 65_536]);
            while !over.load(Relaxed) {
                let Ok((n, source)) = from.recv_from(&mut bytes) else { continue };
                let came = clock::now();
                if let Some(learned) = &*learned.lock().expect("no thread panics") {
                    *learned.lock().expect("no thread panics") = Some(source);
                }
                chance = chance.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                let jitter = (chance >> 33) % (JITTER.as_micros() as u64 + 1);
                let due = came + Duration::from_micros(micros.load(Relaxed) + jitter);
                if queue.send((came, due, bytes[..n].to_vec())).is_err() {
                    return;
                }
            }
        });
        std::thread::spawn(move || {
            let mut queue: VecDeque<(Time, Time, Vec<u8>)> = VecDeque::new();
            loop {
                let next = match queue.front() {
                    Some((_, due, _)) => waiting.recv_timeout(due.since(clock::now())),
                    None => waiting.recv().map_err(|_| RecvTimeoutError::Disconnected),
                };
                match next {
                    Ok(packet) => queue.push_back(packet),
                    Err(RecvTimeoutError::Timeout) => {}
                    Err(RecvTimeoutError::Disconnected) => return,
                }
                let Some((came, _, bytes)) = queue.pop_front_if(|(_, due, _)| *due <= clock::now()) else { continue };
                if let Some(to) = *to.lock().expect("no thread panics") {
                    // What has gone away takes nothing.
                    let _ = into.send_to(&bytes, to);
                }
                if let Some(truth) = &truth {
                    let took = clock::now().since(came).as_micros();
                    truth.lock().expect("no thread panics").push(i64::try_from(took).expect("less than an age"));
                }
            }
        });
        way
    }
}

/// Who sent last, once somebody did.
type Sender = Arc<Mutex<Option<SocketAddr>>>;

/// Where a way tells who sends.
struct Way(Arc<Mutex<Option<Sender>>>);

impl Way {
    fn learns(&self, into: Sender) {
        *self.0.lock().expect("no thread panics") = Some(into);
    }
}

fn median(mut of: Vec<i64>) -> i64 {
    of.sort_unstable();
    of[of.len() / 2]
}

#[test]
fn each_hop_is_told_right_whatever_the_clocks_say() {
    unless_starved(|| {
        let namespaces: Result<Vec<_>, _> = AHEAD.iter().map(|_| Namespace::new()).collect();
        let namespaces = match namespaces {
            Ok(namespaces) => namespaces,
            Err(refused) => {
                return skip(&format!("no network namespaces here (root, and iproute2, are needed): {refused}"));
            }
        };
        let cluster = Cluster::new();
        let film = film(cluster.path(), 120);
        let (mut nodes, mut links): (Vec<Node>, Vec<Delay>) = (Vec::new(), Vec::new());
        for (n, namespace) in namespaces.iter().enumerate() {
            let name = format!("n{n}");
            let identity = cluster.identity(&name);
            let mut command = Command::new("ip");
            command.args(["netns", "exec", &namespace.name]).arg(damson(&[]).get_program());
            command.args(["node", "--identity", text(&identity), "--topology", "static"]);
            for (flag, port) in [("--mesh", 4_900), ("--rtmp", 1_935), ("--http", 8_080)] {
                command.args([flag, &format!("{}:{port}", namespace.theirs)]);
            }
            if let Some(last) = nodes.last() {
                let link = Delay::start(&namespaces[n - 1], last.mesh, namespace, DELAYS[n - 1][0]);
                command.args(["--join", &link.dialled.to_string()]);
                links.push(link);
            }
            command.env("DAMSON_TEST_CLOCK_OFFSET", AHEAD[n].to_string()).env("NO_COLOR", "1").env_remove("RUST_LOG");
            nodes.push(Node::start(&name, &mut command));
        }
        let ffmpeg = push(&film, nodes[0].rtmp, "cam", Pace::RealTime);
        let edge = nodes.last().expect("five nodes");
        edge.plays("cam", 3);

        check_look(edge, &links, "at first");
        for (link, delays) in links.iter().zip(DELAYS) {
            link.set(delays[1]);
        }
        let changed = clock::now();
        let took = right_again(edge, &links, changed);
        eprintln!("right again {took:?} after the delays have changed");
        in_time(took <= AGAIN_WITHIN, || format!("right again only after {took:?}"));
        check_look(edge, &links, "after the delays have changed");
        drop(ffmpeg);
        check_logs(&nodes.iter().collect::<Vec<_>>());
    });
}

/// The parts that are listed from now on, for [`LOOK`]; the truth is of the same time.
fn look(edge: &Node, links: &[Delay]) -> Vec<Value> {
    let known: BTreeMap<_, _> = gather(edge.http, "the parts until now", |_| true);
    links.iter().for_each(|link| link.truth.lock().expect("no thread panics").clear());
    let began = clock::now();
    let mut seen = gather(edge.http, "the parts of a look", |_| clock::now().since(began) >= LOOK);
    seen.retain(|id, _| !known.contains_key(id));
    until("parts", PATIENCE, || (seen.len() >= 40).then_some(()));
    seen.into_values().collect()
}

/// How long after a change each hop's median over the [`NEWEST`] parts is right, as of the last of them: all of them have passed
/// the links as they are now. The truth is that of the packets since the change.
fn right_again(edge: &Node, links: &[Delay], changed: Time) -> Duration {
    links.iter().for_each(|link| link.truth.lock().expect("no thread panics").clear());
    // By the edge's clock, and when what was under way by then has come.
    let settled = clock::wall_of(changed).as_micros() as i64 + (AHEAD[AHEAD.len() - 1] * 1e6) as i64 + 200_000;
    let took = Cell::new(None);
    gather(edge.http, "right again", |seen| {
        let available = |part: &Value| part["available_unix_us"].as_i64().expect("a time");
        let mut parts: Vec<&Value> = seen.values().filter(|part| available(part) >= settled).collect();
        parts.sort_unstable_by_key(|part| available(part));
        let right = parts.windows(NEWEST).find(|parts| !hops(parts, links).iter().any(is_off));
        let last = right.and_then(|parts| parts.last()).map(|part| available(part));
        took.set(last.map(|at| Duration::from_micros((at - settled + 200_000).unsigned_abs())));
        // What never gets right is told by the caller, with the time.
        took.get().is_some() || clock::now().since(changed) >= AGAIN_WITHIN * 3
    });
    took.get().unwrap_or(AGAIN_WITHIN * 3)
}

/// Of each hop, the median that is told, and the true one.
fn hops(parts: &[impl std::borrow::Borrow<Value>], links: &[Delay]) -> Vec<(i64, i64)> {
    let of = |(hop, link): (usize, &Delay)| {
        let told = parts.iter().map(|part| part.borrow()["hops"][hop]["transit_us"].as_i64().expect("a transit"));
        (median(told.collect()), median(link.truth.lock().expect("no thread panics").clone()))
    };
    links.iter().enumerate().map(of).collect()
}

/// By more than 1 ms, and more than 5 %.
fn is_off(&(told, truth): &(i64, i64)) -> bool {
    (told - truth).abs() > (truth / 20).max(1_000)
}

/// Each hop's median is right within 1 ms or 5 %, and each part's age within 5 ms.
///
/// What a node waits for a processor between its first byte out and the packet is in a transit, too, and the proxy doesn't
/// see it: on a machine that does much else it is looked at again.
fn check_look(edge: &Node, links: &[Delay], when: &str) {
    for left in (0..LOOKS).rev() {
        let parts = look(edge, links);
        let hops = hops(&parts, links);
        let mut off: Vec<i64> = parts.iter().map(ages).map(|(told, clocks)| told - (clocks - apart())).collect();
        off.sort_unstable_by_key(|off| off.abs());
        let worst = off[off.len() * 99 / 100].abs();
        eprintln!("{when}: us told and in truth {hops:?}; of {} ages 99 of 100 within {worst} us", off.len());
        in_time(worst <= 5_000, || format!("{when}: {off:?}"));
        if !hops.iter().any(is_off) {
            return;
        }
        in_time(left > 0, || format!("{when}: us told and in truth {hops:?}"));
    }
}

/// How far the last node's clocks are ahead of the first's, in microseconds.
fn apart() -> i64 {
    ((AHEAD[AHEAD.len() - 1] - AHEAD[0]) * 1e6) as i64
}
