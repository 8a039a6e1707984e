//! What surrounds each released balancer: the invoker and the controller that it was measured with.
//!
//! **Knows:** the constants of the released systems.
//! **Promises:** a baseline is compared as its authors ran it, not as a strange part in our house: no retry, no waiting for warm
//! sandboxes, no pre-warming, ten seconds of silence before a VM is given up, its own invoker.
//! **Gives up:** what our machines cannot do wrong any more: answers are still fenced, and nothing is lost in silence: what
//! dies with its VM is reported.

use vocabulary::Span;

use crate::residency::Admission;
use crate::{dispatch, residency};

/// The invoker's admission for this placement; ours for ours.
pub fn admission(placement: &str) -> Admission {
    match placement {
        "mws-sosp21" => Admission::Measured { cpu_permille: 900 },
        "jsq-sosp21" => Admission::Overbooked { cpu_permille: 1_500 },
        "vanilla" => Admission::MemoryOnly,
        _ => Admission::Booked,
    }
}

/// Fits the Controller's settings to this placement; leaves them alone for ours.
pub fn fit_dispatch(placement: &str, settings: &mut dispatch::Settings) {
    if admission(placement) != Admission::Booked {
        settings.vm_silence = Span::seconds(10);
        settings.attempts_limit = 1;
        settings.wait_for_warm = false;
        settings.prewarm_functions = 0;
        settings.makes_spares = false;
    }
}

/// Fits the Invoker's settings to this placement; leaves them alone for ours.
pub fn fit_residency(placement: &str, settings: &mut residency::Settings) {
    let admission = admission(placement);
    if admission != Admission::Booked {
        settings.admission = admission;
        settings.keep_alive = Span::seconds(600);
        // The released invokers read from a topic without an end; this is the end of ours.
        settings.queue_limit = settings.queue_limit.max(65_536);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ours_are_left_alone_and_the_released_are_as_released() {
        for name in crate::placement::NAMES {
            let (mut dispatch, mut residency) =
                (dispatch::Settings::default(), residency::Settings::default());
            fit_dispatch(name, &mut dispatch);
            fit_residency(name, &mut residency);
            let ours = ["mws", "jsq", "bounded-load", "ch-rlu", "power-of-two"].contains(&name);
            assert_eq!(dispatch == dispatch::Settings::default(), ours, "{name}");
            assert_eq!(residency == residency::Settings::default(), ours, "{name}");
        }
    }
}
