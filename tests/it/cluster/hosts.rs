//! Hosts on one network, each a network namespace, joined by a bridge.
//!
//! It needs root and iproute2, as on a runner of CI.

use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};

/// Namespaces, gone with the test.
pub(super) struct Hosts {
    names: Vec<String>,
    /// Which network of this process it is.
    made: u64,
}

impl Hosts {
    /// One in which the bridge is, and so many others.
    pub(super) fn new(others: usize) -> Result<Hosts, String> {
        // A second try has names of its own.
        static MADE: AtomicU64 = AtomicU64::new(0);
        let made = MADE.fetch_add(1, Ordering::Relaxed);
        let mut hosts = Hosts { names: Vec::new(), made };
        for n in 0..=others {
            let name = format!("damson-{}-h{made}-{n}", std::process::id());
            ip(&["netns", "add", &name])?;
            ip(&["-n", &name, "link", "set", "lo", "up"])?;
            hosts.names.push(name);
        }
        let hub = hosts.names[0].clone();
        ip(&["-n", &hub, "link", "add", "eth0", "type", "bridge"])?;
        ip(&["-n", &hub, "link", "set", "eth0", "up"])?;
        for (n, host) in hosts.names.iter().enumerate() {
            if n > 0 {
                let port = format!("port{n}");
                ip(&["-n", &hub, "link", "add", &port, "type", "veth", "peer", "name", "eth0", "netns", host])?;
                ip(&["-n", &hub, "link", "set", &port, "master", "eth0", "up"])?;
                ip(&["-n", host, "link", "set", "eth0", "up"])?;
            }
            ip(&["-n", host, "addr", "add", &format!("10.71.0.{}/24", n + 1), "dev", "eth0"])?;
        }
        Ok(hosts)
    }

    /// A host's namespace.
    pub(super) fn name(&self, host: usize) -> &str {
        &self.names[host]
    }

    /// Links a host with us; its address there.
    pub(super) fn reach(&self, host: usize) -> Result<String, String> {
        let (pid, name) = (std::process::id(), self.name(host));
        // The kernel takes a device away some time after its namespace: a second try needs another name.
        let tail = name.split('-').skip(2).collect::<String>();
        let device = format!("dm{}{tail}", pid % 100_000);
        // Of each network of each process: tests are threads of one where `cargo test` runs them.
        let net = format!("10.{}.{}", 72 + pid % 128, (self.made * 16 + host as u64) % 256);
        ip(&["link", "add", &device, "type", "veth", "peer", "name", "eth1", "netns", name])?;
        ip(&["addr", "add", &format!("{net}.1/24"), "dev", &device])?;
        ip(&["link", "set", &device, "up"])?;
        ip(&["-n", name, "addr", "add", &format!("{net}.2/24"), "dev", "eth1"])?;
        ip(&["-n", name, "link", "set", "eth1", "up"])?;
        Ok(format!("{net}.2"))
    }

    /// A command at a host.
    pub(super) fn at(&self, host: usize, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.names[host], program]).env("NO_COLOR", "1").env_remove("RUST_LOG");
        command
    }

    /// What a program says there.
    pub(super) fn says(&self, host: usize, program: &str, args: &[&str]) -> String {
        let output = self.at(host, program).args(args).stdin(Stdio::null()).output().expect("it starts");
        String::from_utf8(output.stdout).expect("text")
    }
}

impl Drop for Hosts {
    fn drop(&mut self) {
        for name in &self.names {
            let _ = ip(&["netns", "del", name]);
        }
    }
}

fn ip(args: &[&str]) -> Result<(), String> {
    done("ip", args)
}

/// Runs a program; what it says if it fails.
pub(super) fn done(program: &str, args: &[&str]) -> Result<(), String> {
    let output =
        Command::new(program).args(args).stdin(Stdio::null()).output().map_err(|e| format!("{program}: {e}"))?;
    let said = || format!("{program} {}: {}", args.join(" "), String::from_utf8_lossy(&output.stderr).trim());
    if output.status.success() { Ok(()) } else { Err(said()) }
}
