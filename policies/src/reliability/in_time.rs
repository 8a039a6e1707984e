//! Whether an attempt that runs will end before its VM goes.
//!
//! **Knows:** how long the function's invocations have taken, and how long this one has run.
//! **Promises:** an answer for functions that were never seen to end, too: there the rule is that what has run for so long
//! will run for as long again half of the time (Pareto's tail with exponent 1, "Lindy's law"). Each duration that was
//! learned weighs as much as that rule.
//! **Gives up:** the argument's size, which a profile by input size would know.

use vocabulary::Span;

use super::Tails;

/// How probable it is, in thousandths, that it will not have ended when it will have run for `ran + left`, given that it has
/// run for `ran`.
pub fn miss_milli(tails: &Tails, ran: Span, left: Span) -> u32 {
    let all = u128::from((ran + left).as_micros().max(1));
    // By the rule alone: the share ran / (ran + left), as one observation.
    let rule = u128::from(ran.as_micros()) * 1_000 / all;
    let alive = u128::from(tails.at_least(ran));
    let late = u128::from(tails.at_least(ran + left));
    ((late * 1_000 + rule) / (alive + 1)) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(seconds: &[(u64, u32)]) -> Tails {
        let mut tails = Tails::default();
        for &(seconds, count) in seconds {
            (0..count).for_each(|_| tails.learn(Span::seconds(seconds)));
        }
        tails
    }

    fn miss(tails: &Tails, ran: u64, left: u64) -> u32 {
        miss_milli(tails, Span::seconds(ran), Span::seconds(left))
    }

    #[test]
    fn nothing_known_it_lasts_as_long_again_half_of_the_time() {
        let unknown = Tails::default();
        assert_eq!((miss(&unknown, 0, 30), miss(&unknown, 10, 30), miss(&unknown, 30, 30)), (0, 250, 500));
        assert_eq!((miss(&unknown, 0, 0), miss(&unknown, 5, 0)), (0, 1_000));
    }

    #[test]
    fn what_was_learned_outweighs_the_rule() {
        let always_two = of(&[(2, 99)]);
        assert_eq!(miss(&always_two, 1, 30), 0);
        let always_a_hundred = of(&[(100, 99)]);
        assert_eq!(miss(&always_a_hundred, 1, 30), 990);
        assert_eq!(miss(&always_a_hundred, 90, 30), 7, "it is nearly done");
    }

    #[test]
    fn one_that_has_outlived_the_short_ones_is_a_long_one() {
        let mixed = of(&[(1, 90), (100, 10)]);
        assert!(miss(&mixed, 0, 30) < 110);
        assert!(miss(&mixed, 5, 25) > 900);
    }

    #[test]
    fn the_longer_is_left_the_less_is_missed() {
        let tails = of(&[(1, 5), (20, 5), (40, 5), (200, 5)]);
        for ran in 0..60 {
            let mut last = 1_000;
            for left in 0..300 {
                let next = miss(&tails, ran, left);
                assert!(next <= last, "after {ran} s with {left} s left");
                last = next;
            }
        }
    }
}
