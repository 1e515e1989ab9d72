//! Build and process families (`process_*`, `proxy_build_info`), read from `/proc` at each scrape.

use super::{Registry, label};
use metrics::{Counter, Gauge};
use std::{fs, sync::Arc, time::SystemTime};

/// Handles of the process families.
pub struct Process {
    registry: Arc<Registry>,
    started: SystemTime,
    resident: Gauge,
    virtual_memory: Gauge,
    threads: Gauge,
    open_fds: Gauge,
    cpu: Gauge,
    uptime: Counter,
}

impl Process {
    /// Registers the families.
    pub fn new(registry: &Arc<Registry>) -> Self {
        let build = vec![
            label("date", ""),
            label("git_sha", ""),
            label(
                "profile",
                if cfg!(debug_assertions) {
                    "debug"
                } else {
                    "release"
                },
            ),
            label("vendor", "gossamer"),
            label("version", env!("CARGO_PKG_VERSION")),
        ];
        registry.gauge("proxy_build_info", build).set(1.0);
        registry.describe("proxy_build_info", "Proxy build info");
        let started = SystemTime::now();
        let since_epoch = started
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default();
        let gauge = |name| registry.gauge(name, vec![]);
        gauge("process_start_time_seconds").set(since_epoch.as_secs_f64());
        let max_fds = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
        gauge("process_max_fds").set(max_fds.map_or(f64::INFINITY, |n| n as f64));
        Self {
            registry: registry.clone(),
            started,
            resident: gauge("process_resident_memory_bytes"),
            virtual_memory: gauge("process_virtual_memory_bytes"),
            threads: gauge("process_threads"),
            open_fds: gauge("process_open_fds"),
            cpu: gauge("process_cpu_seconds_total"),
            uptime: registry.counter("process_uptime_seconds_total", vec![]),
        }
    }

    /// Reads `/proc` and renders the whole page.
    pub fn render(&self) -> String {
        self.update();
        self.registry.render()
    }

    fn update(&self) {
        self.uptime
            .absolute(self.started.elapsed().unwrap_or_default().as_secs());
        if let Ok(fds) = fs::read_dir("/proc/self/fd") {
            self.open_fds.set(fds.count() as f64);
        }
        let Ok(stat) = fs::read_to_string("/proc/self/stat") else {
            return;
        };
        // Fields are counted from after the command, which may hold spaces (proc(5)).
        let Some((_, fields)) = stat.rsplit_once(')') else {
            return;
        };
        let field = |n: usize| -> f64 {
            let value = fields.split_ascii_whitespace().nth(n - 3);
            value.and_then(|v| v.parse().ok()).unwrap_or(0.0)
        };
        let ticks = rustix::param::clock_ticks_per_second() as f64;
        self.cpu.set((field(14) + field(15)) / ticks);
        self.threads.set(field(20));
        self.virtual_memory.set(field(23));
        self.resident
            .set(field(24) * rustix::param::page_size() as f64);
    }
}
