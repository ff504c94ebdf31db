//! Child processes: started, listened to, measured, and ended with their owner.

use std::ffi::OsStr;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::TcpListener;
use tokio::process::{Child, Command};
use tokio::sync::mpsc;

use crate::Result;

/// Clock ticks a second of /proc/PID/stat: USER_HZ, which is 100 on every Linux.
const USER_HZ: f64 = 100.0;
/// How long a process may take to say what it is waited for.
const SAID_WITHIN: Duration = Duration::from_secs(30);

/// One child. It is killed when dropped.
pub(crate) struct Process {
    name: String,
    child: Child,
    lines: mpsc::UnboundedReceiver<String>,
    said: Vec<String>,
}

impl Process {
    /// Starts `program` with `args`.
    pub(crate) fn start<A: AsRef<OsStr>>(
        name: &str,
        program: impl AsRef<OsStr>,
        args: impl IntoIterator<Item = A>,
    ) -> Result<Self> {
        let mut child = Command::new(program.as_ref())
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| format!("can't start {}: {error}", program.as_ref().display()))?;
        let (tx, lines) = mpsc::unbounded_channel();
        let stdout = child.stdout.take().expect("stdout is piped above");
        let stderr = child.stderr.take().expect("stderr is piped above");
        tokio::spawn(forward(stdout, tx.clone()));
        tokio::spawn(forward(stderr, tx));
        Ok(Process { name: name.to_owned(), child, lines, said: Vec::new() })
    }

    /// The first line, already said or to come, of which `find` makes something.
    pub(crate) async fn said<T>(&mut self, what: &str, find: impl Fn(&str) -> Option<T>) -> Result<T> {
        if let Some(found) = self.said.iter().find_map(|line| find(line)) {
            return Ok(found);
        }
        loop {
            let line = tokio::time::timeout(SAID_WITHIN, self.lines.recv()).await;
            let Ok(Some(line)) = line else {
                let why = if line.is_err() { "is silent" } else { "ended" };
                return Err(format!("{} {why}, and never said {what}:\n{}", self.name, self.said.join("\n")).into());
            };
            let found = find(&line);
            self.said.push(line);
            if let Some(found) = found {
                return Ok(found);
            }
        }
    }

    /// Waits for its end.
    pub(crate) async fn ended(&mut self) -> Result<()> {
        match tokio::time::timeout(SAID_WITHIN, self.child.wait()).await {
            Ok(how) => Ok(how.map(drop)?),
            Err(_) => Err(format!("{} doesn't end", self.name).into()),
        }
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> Result<u32> {
        self.child.id().ok_or_else(|| format!("{} has ended", self.name).into())
    }

    /// CPU-seconds, user and system, that it and its children have used.
    pub(crate) fn cpu_seconds(&self) -> Result<f64> {
        let pid = self.pid()?;
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
        let children = children.split_whitespace().filter_map(|child| child.parse().ok());
        std::iter::once(pid).chain(children).map(cpu_seconds_of).sum()
    }

    /// CPU-seconds of all its threads, as exact as the scheduler counts them.
    pub(crate) fn cpu_exact(&self) -> Result<f64> {
        let mut nanos = 0_u64;
        for thread in fs::read_dir(format!("/proc/{}/task", self.pid()?))? {
            // One that ends meanwhile has done little.
            let text = fs::read_to_string(thread?.path().join("schedstat")).unwrap_or_default();
            nanos += text.split(' ').next().and_then(|n| n.parse::<u64>().ok()).unwrap_or(0);
        }
        Ok(nanos as f64 / 1e9)
    }

    /// Resident memory now and at its highest, in MiB.
    pub(crate) fn memory_mib(&self) -> Result<(f64, f64)> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid()?))?;
        let field = |key: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(key));
            let kib =
                line.and_then(|line| line.trim_start_matches(':').trim().trim_end_matches(" kB").parse::<f64>().ok());
            kib.map(|kib| kib / 1024.0).ok_or_else(|| format!("no {key} in /proc/PID/status"))
        };
        Ok((field("VmRSS")?, field("VmHWM")?))
    }
}

/// Starts this program anew with huge pages for its heap, unless it was. A simulation looks about in hundreds of MB, and
/// the way to a page costs it a quarter of its time; the C library reads the setting once, at the start.
pub(crate) fn with_huge_pages() -> Result<()> {
    const TUNABLES: &str = "GLIBC_TUNABLES";
    if std::env::var_os(TUNABLES).is_some() {
        return Ok(());
    }
    let mut again = std::process::Command::new(std::env::current_exe()?);
    let error = again.args(std::env::args_os().skip(1)).env(TUNABLES, "glibc.malloc.hugetlb=1").exec();
    Err(error.into())
}

/// `utime + stime`, fields 14 and 15 of /proc/PID/stat (proc(5)); the second, the name, may hold spaces.
pub(crate) fn cpu_seconds_of(pid: u32) -> Result<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let rest = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let ticks: f64 = rest.split_whitespace().skip(11).take(2).filter_map(|field| field.parse::<f64>().ok()).sum();
    Ok(ticks / USER_HZ)
}

async fn forward(from: impl tokio::io::AsyncRead + Unpin, to: mpsc::UnboundedSender<String>) {
    let mut lines = BufReader::new(from).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        if to.send(line).is_err() {
            return;
        }
    }
}

/// A port that was free a moment ago: neither nginx nor Varnish can be told to take any port.
pub(crate) async fn free_port() -> Result<SocketAddr> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?.local_addr()?)
}

/// The damson program of this very source, built for release: with the bench, so that both share what they stand on.
pub(crate) async fn damson() -> Result<PathBuf> {
    let mut build = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    build.args(["build", "--release", "--quiet", "--locked", "-p", "damson", "-p", "damson-bench"]);
    build.arg("--manifest-path").arg(concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml"));
    if !build.status().await?.success() {
        return Err("damson doesn't build".into());
    }
    let here = std::env::current_exe()?;
    let target = here.ancestors().nth(2).ok_or("the bench isn't in a target folder")?;
    Ok(target.join("release/damson"))
}
