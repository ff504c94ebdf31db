//! A child process that never outlives its test, and whose words can be waited for.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use damson::clock;

use super::deadline::too_late;

/// How long anything here may take before the test gives up: far more than it needs, on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// What a process has said on stdout and stderr, and whether both are closed.
#[derive(Default)]
struct Said {
    lines: Vec<String>,
    open: u8,
}

/// One child process. Dropped, it is killed; if its test has failed, its words are shown.
pub(crate) struct Process {
    name: String,
    child: Child,
    said: Arc<(Mutex<Said>, Condvar)>,
}

impl Process {
    pub(crate) fn spawn(name: &str, command: &mut Command) -> Process {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|e| panic!("{name}: can't be started: {e}"));
        let said = Arc::new((Mutex::new(Said { open: 2, ..Said::default() }), Condvar::new()));
        let (stdout, stderr) = (child.stdout.take().expect("piped"), child.stderr.take().expect("piped"));
        listen(stdout, Arc::clone(&said));
        listen(stderr, Arc::clone(&said));
        Process { name: name.to_owned(), child, said }
    }

    /// Waits for a line that contains `words`, said already or to come.
    pub(crate) fn said(&self, words: &str) -> String {
        let (said, more) = &*self.said;
        let began = clock::now();
        let mut guard = lock(said);
        loop {
            if let Some(line) = guard.lines.iter().find(|line| line.contains(words)) {
                return line.clone();
            }
            let left = PATIENCE.saturating_sub(clock::now().since(began));
            assert!(guard.open > 0, "{} has ended without {words:?}", self.name);
            if left.is_zero() {
                drop(guard);
                too_late(format!("{} hasn't said {words:?}", self.name));
            }
            guard = more.wait_timeout(guard, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// All that it has said until now.
    pub(crate) fn log(&self) -> String {
        lock(&self.said.0).lines.join("\n")
    }

    /// Sends a signal by its name (`INT`, `TERM`).
    pub(crate) fn signal(&self, signal: &str) {
        let status = Command::new("kill").args([format!("-{signal}"), self.child.id().to_string()]).status();
        assert!(status.expect("kill is everywhere").success(), "{}: no SIG{signal}", self.name);
    }

    /// SIGKILL, and waits for the end.
    pub(crate) fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Waits for its own end.
    pub(crate) fn ended(&mut self, within: Duration) -> ExitStatus {
        let began = clock::now();
        let (said, more) = &*self.said;
        let mut guard = lock(said);
        while guard.open > 0 {
            let left = within.saturating_sub(clock::now().since(began));
            if left.is_zero() {
                drop(guard);
                too_late(format!("{} hasn't ended within {within:?}", self.name));
            }
            guard = more.wait_timeout(guard, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        self.child.wait().expect("it is our child")
    }

    /// Whether it still runs.
    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("it is our child").is_none()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            eprintln!("--- {}\n{}", self.name, self.log());
        }
    }
}

fn listen(from: impl Read + Send + 'static, said: Arc<(Mutex<Said>, Condvar)>) {
    std::thread::spawn(move || {
        for line in BufReader::new(from).split(b'\n').map_while(Result::ok) {
            lock(&said.0).lines.push(String::from_utf8_lossy(&line).into_owned());
            said.1.notify_all();
            NEWS.1.notify_all();
        }
        lock(&said.0).open -= 1;
        said.1.notify_all();
        NEWS.1.notify_all();
    });
}

/// Any process has said something, or has ended.
static NEWS: (Mutex<()>, Condvar) = (Mutex::new(()), Condvar::new());
/// The longest time between two questions of [`until`].
const ASK_AGAIN: Duration = Duration::from_millis(50);

/// A test that fails while it waits poisons the lock, and its process's words are still to be shown.
pub(super) fn lock<T>(said: &Mutex<T>) -> MutexGuard<'_, T> {
    said.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Asks until the answer is there: again whenever a process has said something, and at least each [`ASK_AGAIN`]. For what no
/// event tells of.
pub(crate) fn until<T>(what: &str, within: Duration, mut ask: impl FnMut() -> Option<T>) -> T {
    let began = clock::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        if clock::now().since(began) >= within {
            too_late(format!("{what}: not within {within:?}"));
        }
        drop(NEWS.1.wait_timeout(lock(&NEWS.0), ASK_AGAIN));
    }
}
