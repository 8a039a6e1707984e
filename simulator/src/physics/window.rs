//! What a VM says that it uses: the most of its last five seconds.
//!
//! **Knows:** one sample a second.
//! **Promises:** the maximum of the last five, for CPU and memory apart, as the SOSP'21 authors' Invoker reports it
//! (`InvokerReactive.scala`: a window of five one-second samples of `cpuacct.usage` and of cache plus resident set).
//! **Gives up:** anything finer than a second.

use vocabulary::Resources;

const SAMPLES: usize = 5;

/// See the module.
#[derive(Debug, Clone, Copy, Default)]
pub struct Window {
    samples: [Resources; SAMPLES],
    next: usize,
}

impl Window {
    /// Takes in one more sample.
    pub fn see(&mut self, sample: Resources) {
        self.samples[self.next] = sample;
        self.next = (self.next + 1) % SAMPLES;
    }

    /// What the VM reports.
    pub fn most(&self) -> Resources {
        self.samples.iter().copied().fold(Resources::ZERO, Resources::max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peak_is_reported_for_five_seconds() {
        let mut window = Window::default();
        window.see(Resources::new(900, 10));
        assert_eq!(window.most(), Resources::new(900, 10));
        for _ in 0..4 {
            window.see(Resources::new(100, 20));
            assert_eq!(window.most(), Resources::new(900, 20));
        }
        window.see(Resources::new(50, 5));
        assert_eq!(window.most(), Resources::new(100, 20));
    }
}
