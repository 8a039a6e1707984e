//! What the Resource Monitor counts.

use std::sync::Arc;

use policies::provisioning::RetireWhy;
use vocabulary::{Resources, Span};

use super::instruments::TIMES;
use super::{Common, Counter, Gauge, Histogram, Metrics};

/// The Resource Monitor's instruments.
pub struct ResourceMonitorMetrics {
    /// What every role counts.
    pub common: Common,
    launches: Counter,
    launch_failures: Counter,
    launch_time: Histogram,
    retirements: [Counter; 3],
    ended: Counter,
    notices: Counter,
    reports: Counter,
    leader: Gauge,
    target: Gauge,
    vms: [Gauge; 2],
    capacity_cpu: Gauge,
    capacity_memory: Gauge,
    used_cpu: Gauge,
    used_memory: Gauge,
}

impl ResourceMonitorMetrics {
    /// Its instruments, all at 0.
    pub fn new(metrics: &Metrics) -> Arc<Self> {
        let cores = |name, help| metrics.gauge(name, help, 1e-3);
        let bytes = |name, help| metrics.gauge(name, help, f64::from(1 << 20));
        Arc::new(Self {
            common: Common::new(metrics),
            launches: metrics.counter("windfall_vm_launches", "VMs that the provider was asked to start"),
            launch_failures: metrics
                .counter("windfall_vm_launch_failures", "VMs that the provider could not start"),
            launch_time: metrics.histogram(
                "windfall_vm_launch_seconds",
                "From the order to start a VM to its first report",
                TIMES,
            ),
            retirements: metrics.counters(
                "windfall_vm_retirements",
                "VMs that were retired, by reason",
                "why",
                ["silent", "surplus", "ended"],
            ),
            ended: metrics.counter("windfall_vm_ends", "VMs that the provider said have ended"),
            notices: metrics.counter("windfall_fleet_notices", "Notices of eviction that were heard"),
            reports: metrics.counter("windfall_fleet_reports", "Reports of VMs that were heard"),
            leader: metrics.gauge(
                "windfall_fleet_leader",
                "Whether this Resource Monitor leads (1) or stands by (0)",
                1.0,
            ),
            target: metrics.gauge("windfall_fleet_target_vms", "VMs that there should be", 1.0),
            vms: metrics.gauges(
                "windfall_fleet_vms",
                "VMs that there are, by whether they have reported yet",
                1.0,
                "state",
                ["reporting", "starting"],
            ),
            capacity_cpu: cores("windfall_fleet_capacity_cpu_cores", "CPU of all VMs together, now"),
            capacity_memory: bytes("windfall_fleet_capacity_memory_bytes", "Memory of all VMs together, now"),
            used_cpu: cores("windfall_fleet_used_cpu_cores", "CPU that all sandboxes use now"),
            used_memory: bytes("windfall_fleet_used_memory_bytes", "Memory that all sandboxes use now"),
        })
    }

    /// The provider was asked to start a VM.
    pub fn launched(&self) {
        self.launches.one();
    }

    /// The provider could not start a VM.
    pub fn launch_failed(&self) {
        self.launch_failures.one();
    }

    /// A VM reported for the first time, so long after the order to start it.
    pub fn first_report(&self, after: Span) {
        self.launch_time.took(after);
    }

    /// A VM was retired.
    pub fn retired(&self, why: RetireWhy) {
        self.retirements[why as usize].one();
    }

    /// The provider said that a VM has ended.
    pub fn ended(&self) {
        self.ended.one();
    }

    /// It leads from now on, or not any more.
    pub fn leads(&self, leads: bool) {
        self.leader.set(leads.into());
    }

    /// A notice was heard.
    pub fn noticed(&self) {
        self.notices.one();
    }

    /// A report was heard.
    pub fn report_heard(&self) {
        self.reports.one();
    }

    /// The fleet: how many there should be, have reported, are starting; what they have and what is used of it.
    pub fn fleet(
        &self,
        target: u32,
        reporting: usize,
        starting: usize,
        capacity: Resources,
        used: Resources,
    ) {
        self.target.set(target.into());
        self.vms[0].set(reporting as u64);
        self.vms[1].set(starting as u64);
        self.capacity_cpu.set(capacity.cpu.0.into());
        self.capacity_memory.set(capacity.memory.0.into());
        self.used_cpu.set(used.cpu.0.into());
        self.used_memory.set(used.memory.0.into());
    }
}
