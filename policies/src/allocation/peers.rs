//! What a function may need that nobody has seen run: what others needed that reserve as much.
//!
//! **Knows:** of each of the functions last met, how much CPU it reserves and the most that any of its runs wanted.
//! **Promises:** what is told for a new function is exceeded by no more than the asked-for share of new ones, on average, if they are of the
//! kind of those before: of `n` known needs the one of rank `(n + 1) * share`, rounded up, which is the bound of conformal
//! prediction (Vovk, Gammerman and Shafer 2005, chapter 2). Where that rank is beyond the highest that was seen nothing is told: for 19 of 20, up to
//! the eighteenth function.
//! **Gives up:** everything else by which functions resemble each other. At most [`FUNCTIONS`] for each of [`RESERVATIONS`] sizes, the newest;
//! of further sizes nothing is known.

use std::collections::{BTreeMap, VecDeque};

use vocabulary::{FunctionId, MilliCores};

/// Functions with the same reservation that are remembered: with more the rank moves by less than a function's needs differ.
const FUNCTIONS: usize = 256;
/// Sizes of reservations that are told apart.
const RESERVATIONS: usize = 64;

/// See the module.
#[derive(Debug, Clone, Default)]
pub struct Peers(BTreeMap<MilliCores, Alike>);

/// Functions with the same reservation.
#[derive(Debug, Clone, Default)]
struct Alike {
    /// The most that each was seen to want.
    of: BTreeMap<FunctionId, MilliCores>,
    /// The same, in order.
    needs: Vec<MilliCores>,
    /// In the order in which they were met.
    met: VecDeque<FunctionId>,
}

impl Peers {
    /// A run of this function, which reserves so much, wanted so much.
    pub fn saw(&mut self, function: FunctionId, reserved: MilliCores, wanted: MilliCores) {
        if !self.0.contains_key(&reserved) && self.0.len() >= RESERVATIONS {
            return;
        }
        self.0.entry(reserved).or_default().saw(function, wanted);
    }

    /// What so many thousandths of the functions with this reservation do not exceed; `None`: too few are known to say.
    pub fn need(&self, reserved: MilliCores, permille: u32) -> Option<MilliCores> {
        let needs = &self.0.get(&reserved)?.needs;
        let rank = ((needs.len() + 1) * permille as usize).div_ceil(1_000);
        needs.get(rank.checked_sub(1)?).copied()
    }

    /// The most that this function itself was seen to want, with whatever input.
    pub fn own_need(&self, function: FunctionId, reserved: MilliCores) -> Option<MilliCores> {
        self.0.get(&reserved)?.of.get(&function).copied()
    }
}

impl Alike {
    fn saw(&mut self, function: FunctionId, wanted: MilliCores) {
        let before = self.of.get(&function).copied();
        if before.is_some_and(|before| wanted <= before) {
            return;
        }
        match before {
            Some(before) => self.forget_need(before),
            None => self.met.push_back(function),
        }
        self.of.insert(function, wanted);
        self.needs.insert(self.needs.partition_point(|&need| need < wanted), wanted);
        if self.met.len() > FUNCTIONS
            && let Some(oldest) = self.met.pop_front()
            && let Some(need) = self.of.remove(&oldest)
        {
            self.forget_need(need);
        }
    }

    fn forget_need(&mut self, need: MilliCores) {
        if let Ok(place) = self.needs.binary_search(&need) {
            self.needs.remove(place);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EIGHT: MilliCores = MilliCores(8_000);

    fn met(needs: impl IntoIterator<Item = u32>) -> Peers {
        let mut peers = Peers::default();
        for (number, need) in needs.into_iter().enumerate() {
            peers.saw(FunctionId(number as u64), EIGHT, MilliCores(need));
        }
        peers
    }

    #[test]
    fn nineteen_of_twenty_is_said_from_the_nineteenth_function_on() {
        assert_eq!(met(1..=18).need(EIGHT, 950), None);
        assert_eq!(met(1..=19).need(EIGHT, 950), Some(MilliCores(19)));
        assert_eq!(met(1..=38).need(EIGHT, 950), Some(MilliCores(38)), "rank 37.05, rounded up");
        assert_eq!(met(1..=39).need(EIGHT, 950), Some(MilliCores(38)), "one of forty may be the new one");
        assert_eq!(met(1..=19).need(MilliCores::cores(4), 950), None, "others reserve that");
        assert_eq!(met(1..=250).need(EIGHT, 1_000), None, "nobody knows what nobody exceeds");
    }

    #[test]
    fn new_functions_exceed_it_as_seldom_as_was_asked_for() {
        let mut chance = crate::chance::SplitMix64::of(7, "peers");
        let mut peers = Peers::default();
        let (mut asked, mut exceeded) = (0, 0);
        for number in 0..20_000 {
            let need = MilliCores(chance.below(8_000) as u32);
            if let Some(told) = peers.need(EIGHT, 950) {
                asked += 1;
                exceeded += u32::from(need > told);
            }
            peers.saw(FunctionId(number), EIGHT, need);
        }
        assert!(
            asked > 19_000 && exceeded * 1_000 / asked <= 55 && exceeded * 1_000 / asked >= 35,
            "{exceeded} of {asked}"
        );
    }

    #[test]
    fn a_function_counts_once_with_the_most_that_it_wanted_until_newer_ones_take_its_place() {
        let mut peers = met((0..19).map(|_| 1_000));
        peers.saw(FunctionId(3), EIGHT, MilliCores(5_000));
        peers.saw(FunctionId(3), EIGHT, MilliCores(2_000));
        assert_eq!(peers.need(EIGHT, 950), Some(MilliCores(5_000)));
        for number in 19..FUNCTIONS as u64 {
            peers.saw(FunctionId(number), EIGHT, MilliCores(1_000));
        }
        assert_eq!(peers.need(EIGHT, 950), Some(MilliCores(1_000)), "one of 256 is less than one of twenty");
        assert_eq!(peers.need(EIGHT, 999), None);
        assert_eq!(peers.need(EIGHT, 996), Some(MilliCores(5_000)));
        for number in 0..4 {
            peers.saw(FunctionId(1_000 + number), EIGHT, MilliCores(1_000));
        }
        assert_eq!(peers.need(EIGHT, 996), Some(MilliCores(1_000)), "it was met as the fourth");
        let alike = &peers.0[&EIGHT];
        assert_eq!((alike.of.len(), alike.needs.len(), alike.met.len()), (FUNCTIONS, FUNCTIONS, FUNCTIONS));
    }

    #[test]
    fn sizes_beyond_the_limit_are_not_learned() {
        let mut peers = Peers::default();
        for size in 0..100 {
            (0..19).for_each(|number| peers.saw(FunctionId(number), MilliCores(size), MilliCores(1)));
        }
        assert!(peers.need(MilliCores(63), 950).is_some() && peers.need(MilliCores(64), 950).is_none());
    }
}
