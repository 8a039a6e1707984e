//! Instruments that cost an atomic addition.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use opentelemetry::KeyValue;
use opentelemetry::metrics::BoundHistogram;
use vocabulary::Span;

use super::Metrics;

/// Something that only grows.
#[derive(Clone, Default)]
pub struct Counter(Arc<AtomicU64>);

impl Counter {
    /// It happened once.
    pub fn one(&self) {
        self.add(1);
    }

    /// It happened `n` times, or by so much.
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    /// So much until now.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Follows a count that is kept elsewhere, such as by the kernel; never goes back.
    pub fn follow(&self, total: u64) {
        self.0.fetch_max(total, Ordering::Relaxed);
    }
}

/// Something that goes up and down, in whole numbers of its own unit.
#[derive(Clone, Default)]
pub struct Gauge(Arc<AtomicU64>);

impl Gauge {
    /// It is so much now.
    pub fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// It is so much now; what was it before?
    pub fn replace(&self, value: u64) -> u64 {
        self.0.swap(value, Ordering::Relaxed)
    }

    /// So much now.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A distribution of times, or of something else, with its labels bound beforehand.
#[derive(Clone)]
pub struct Histogram(BoundHistogram<f64>);

impl Histogram {
    /// It took so long.
    pub fn took(&self, span: Span) {
        self.0.record(span.as_seconds());
    }

    /// It was so much.
    pub fn saw(&self, value: f64) {
        self.0.record(value);
    }

    /// It took so many nanoseconds.
    pub fn took_nanos(&self, nanos: u64) {
        self.0.record(nanos as f64 / 1e9);
    }
}

/// Upper bounds in seconds for what takes from 100 us (a warm call) to minutes (a queue).
pub(super) const TIMES: &[f64] = &[
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
    30.0, 60.0, 300.0,
];

/// Upper bounds in seconds for a decision: about a microsecond, tens of them where a model is asked.
pub(super) const DECISIONS: &[f64] =
    &[2.5e-7, 5e-7, 1e-6, 2e-6, 5e-6, 1e-5, 2e-5, 5e-5, 1e-4, 2.5e-4, 1e-3, 1e-2];

/// Upper bounds for one thing over another: the middle is 1.
pub(super) const RATIOS: &[f64] = &[0.1, 0.25, 0.5, 0.67, 0.8, 0.9, 1.0, 1.1, 1.25, 1.5, 2.0, 4.0, 10.0];

/// A label of a series: which, and what it says.
pub(super) type Labels = Vec<KeyValue>;

impl Metrics {
    /// A counter without labels. The page adds `_total` to its name.
    pub(super) fn counter(&self, name: &'static str, help: &'static str) -> Counter {
        let counter = Counter::default();
        let read = counter.clone();
        self.counter_of(name, help, move || read.get());
        counter
    }

    /// A counter that is kept elsewhere.
    pub(super) fn counter_of(
        &self,
        name: &'static str,
        help: &'static str,
        read: impl Fn() -> u64 + Send + Sync + 'static,
    ) {
        self.meter
            .u64_observable_counter(name)
            .with_description(help)
            .with_callback(move |observer| observer.observe(read(), &[]))
            .build();
    }

    /// Counters that are kept elsewhere, one per value of a label, in the order of `values`.
    pub(super) fn counters_of<const N: usize>(
        &self,
        name: &'static str,
        help: &'static str,
        label: &'static str,
        values: [&'static str; N],
        read: impl Fn() -> [u64; N] + Send + Sync + 'static,
    ) {
        let series = values.map(|value| [KeyValue::new(label, value)]);
        self.meter
            .u64_observable_counter(name)
            .with_description(help)
            .with_callback(move |observer| {
                for (count, labels) in read().into_iter().zip(&series) {
                    observer.observe(count, labels);
                }
            })
            .build();
    }

    /// Gauges that are kept elsewhere, one per value of a label, in the order of `values`.
    pub(super) fn gauges_of<const N: usize>(
        &self,
        name: &'static str,
        help: &'static str,
        label: &'static str,
        values: [&'static str; N],
        read: impl Fn() -> [f64; N] + Send + Sync + 'static,
    ) {
        let series = values.map(|value| [KeyValue::new(label, value)]);
        self.meter
            .f64_observable_gauge(name)
            .with_description(help)
            .with_callback(move |observer| {
                for (value, labels) in read().into_iter().zip(&series) {
                    observer.observe(value, labels);
                }
            })
            .build();
    }

    /// One counter per value of a label, in the order of `values`.
    pub(super) fn counters<const N: usize>(
        &self,
        name: &'static str,
        help: &'static str,
        label: &'static str,
        values: [&'static str; N],
    ) -> [Counter; N] {
        let series = values.map(|value| vec![KeyValue::new(label, value)]);
        self.counter_series(name, help, series)
    }

    /// One counter per set of labels, in the order given.
    pub(super) fn counter_series<const N: usize>(
        &self,
        name: &'static str,
        help: &'static str,
        series: [Labels; N],
    ) -> [Counter; N] {
        let counters: [Counter; N] = std::array::from_fn(|_| Counter::default());
        let read = counters.clone();
        self.meter
            .u64_observable_counter(name)
            .with_description(help)
            .with_callback(move |observer| {
                for (counter, labels) in read.iter().zip(&series) {
                    observer.observe(counter.get(), labels);
                }
            })
            .build();
        counters
    }

    /// A counter that is shown as its count times `scale`, such as microseconds as seconds.
    pub(super) fn counter_scaled(&self, name: &'static str, help: &'static str, scale: f64) -> Counter {
        let counter = Counter::default();
        let read = counter.clone();
        self.meter
            .f64_observable_counter(name)
            .with_description(help)
            .with_callback(move |observer| observer.observe(read.get() as f64 * scale, &[]))
            .build();
        counter
    }

    /// A gauge without labels, shown as its value times `scale`.
    pub(super) fn gauge(&self, name: &'static str, help: &'static str, scale: f64) -> Gauge {
        let gauge = Gauge::default();
        let read = gauge.clone();
        self.meter
            .f64_observable_gauge(name)
            .with_description(help)
            .with_callback(move |observer| observer.observe(read.get() as f64 * scale, &[]))
            .build();
        gauge
    }

    /// One gauge per value of a label, in the order of `values`, shown as its value times `scale`.
    pub(super) fn gauges<const N: usize>(
        &self,
        name: &'static str,
        help: &'static str,
        scale: f64,
        label: &'static str,
        values: [&'static str; N],
    ) -> [Gauge; N] {
        let gauges: [Gauge; N] = std::array::from_fn(|_| Gauge::default());
        let read = gauges.clone();
        let series = values.map(|value| [KeyValue::new(label, value)]);
        self.meter
            .f64_observable_gauge(name)
            .with_description(help)
            .with_callback(move |observer| {
                for (gauge, labels) in read.iter().zip(&series) {
                    observer.observe(gauge.get() as f64 * scale, labels);
                }
            })
            .build();
        gauges
    }

    /// A distribution of times in seconds without labels.
    pub(super) fn histogram(&self, name: &'static str, help: &'static str, bounds: &[f64]) -> Histogram {
        let [histogram] = self.histograms(name, help, bounds, [vec![]]);
        histogram
    }

    /// One distribution per set of labels, in the order given; of times in seconds, if its name says so.
    pub(super) fn histograms<const N: usize>(
        &self,
        name: &'static str,
        help: &'static str,
        bounds: &[f64],
        series: [Labels; N],
    ) -> [Histogram; N] {
        let histogram =
            self.meter.f64_histogram(name).with_description(help).with_boundaries(bounds.to_vec()).build();
        series.map(|labels| Histogram(histogram.bind(&labels)))
    }
}
