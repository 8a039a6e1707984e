//! Who gets how much of a VM that is too small for all.
//!
//! **Knows:** what each could use at most, and its weight.
//! **Promises:** max-min fairness by weight: nobody gets more than it can use; who gets less has, for its weight, as much as anybody.
//! What is given never exceeds what there is.
//! **Gives up:** the last millionths of a core, to rounding down.

use super::Rate;

/// One who wants CPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Want {
    /// More than this is of no use to it, or not allowed.
    pub limit: Rate,
    /// Its part where there is not enough for all; at least 1.
    pub weight: u64,
    /// What it gets.
    pub rate: Rate,
}

/// Fills the rates in. O(wants) for each group that is satisfied at the same level; usually two or three.
pub fn share(capacity: Rate, wants: &mut [Want]) {
    let mut left = u128::from(capacity);
    let mut weights = 0_u128;
    let mut limits = 0_u128;
    for want in wants.iter_mut() {
        want.rate = 0;
        weights += u128::from(want.weight.max(1));
        limits += u128::from(want.limit);
    }
    if limits <= left {
        wants.iter_mut().for_each(|want| want.rate = want.limit);
        return;
    }
    // Whoever can use no more than its part gets all it can use; the rest is shared anew among the others.
    let mut settled = true;
    while settled {
        settled = false;
        let (level, among) = (left, weights);
        for want in wants.iter_mut().filter(|want| want.rate == 0 && want.limit > 0) {
            let weight = u128::from(want.weight.max(1));
            if u128::from(want.limit) * among <= level * weight {
                want.rate = want.limit;
                left -= u128::from(want.limit);
                weights -= weight;
                settled = true;
            }
        }
    }
    for want in wants.iter_mut().filter(|want| want.rate == 0 && want.limit > 0) {
        let part = left * u128::from(want.weight.max(1)) / weights;
        want.rate = u64::try_from(part).expect("a part is no more than the capacity, which is a u64");
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn shared(capacity: Rate, wants: &[(Rate, u64)]) -> Vec<Rate> {
        let mut wants: Vec<Want> =
            wants.iter().map(|&(limit, weight)| Want { limit, weight, rate: 7 }).collect();
        share(capacity, &mut wants);
        wants.into_iter().map(|want| want.rate).collect()
    }

    #[test]
    fn where_there_is_enough_everybody_gets_what_it_can_use() {
        assert_eq!(shared(100, &[(30, 1), (70, 1)]), [30, 70]);
        assert_eq!(shared(100, &[]), [0_u64; 0]);
        assert_eq!(shared(0, &[(0, 1)]), [0]);
    }

    #[test]
    fn what_one_cannot_use_goes_to_the_others_by_weight() {
        assert_eq!(shared(100, &[(10, 1), (100, 1), (100, 2)]), [10, 30, 60]);
        assert_eq!(shared(90, &[(100, 1), (100, 1), (100, 1)]), [30, 30, 30]);
        assert_eq!(shared(100, &[(60, 1), (80, 9)]), [20, 80]);
    }

    #[test]
    fn a_vm_without_cpu_gives_none() {
        assert_eq!(shared(0, &[(10, 1), (20, 5)]), [0, 0]);
    }

    proptest! {
        #[test]
        fn nobody_could_get_more_without_another_who_has_less_getting_less(
            capacity in 0_u64..10_000_000,
            wants in prop::collection::vec((0_u64..4_000_000, 1_u64..4_000), 0..20),
        ) {
            let rates = shared(capacity, &wants);
            let given: u64 = rates.iter().sum();
            prop_assert!(given <= capacity);
            let asked: u64 = wants.iter().map(|&(limit, _)| limit).sum();
            // Nothing is left over but what rounding took.
            prop_assert!(given + wants.len() as u64 >= capacity.min(asked));
            for (&rate, &(limit, weight)) in rates.iter().zip(&wants) {
                prop_assert!(rate <= limit);
                if rate < limit {
                    // Nobody else has more for its weight, beyond rounding.
                    for (&other, &(_, others)) in rates.iter().zip(&wants) {
                        prop_assert!(
                            u128::from(other) * u128::from(weight) <= u128::from(rate + 1) * u128::from(others),
                            "{rates:?}"
                        );
                    }
                }
            }
        }
    }
}
